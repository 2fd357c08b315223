//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR, as clients ask for them.
//!
//! ON moves a client to the variant of its filter whose connections have tracking, and is answered when such a connection
//! is there (with BCAST one to every primary): from then on nothing that it reads can change unheard. A server that
//! refuses tracking refuses the client with its own words. REDIRECT asks all workers for the client first.

use std::sync::Arc;

use redplane_command::{Command, CommandId, Local, error};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::{Client, Slot, Waiter};
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Greeting, Live, Target, Tracking};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::notice::Redirect;
use redplane_redis_flow::request::Request;
use redplane_redis_flow::send::{Payload, Sending};
use redplane_resp::encode;

use crate::describe::{describe, redirect_of};
use crate::options::Wanted;
use crate::{Mode, Tracker, TrackingState};

/// Draws of a primary before the client is told that there is none.
const DRAWS: usize = 4;

const RENAMED: &[u8] =
    b"-ERR CLIENT TRACKING is not offered by the proxy on routes that change the names of keys\r\n";

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A CLIENT TRACKING that waits.
#[derive(Clone, Debug)]
pub struct Joining {
    waiter: Waiter,
    command: CommandId,
    since: u64,
    /// Connections that it waits for, and those that are there.
    left: u32,
    granted: u32,
}

impl Joining {
    /// Of the client whose reply this is.
    pub fn new(waiter: Waiter, command: CommandId, since: u64) -> Self {
        Self {
            waiter,
            command,
            since,
            left: 0,
            granted: 0,
        }
    }
}

fn any_primary(core: &mut Core, key: usize) -> Vec<u32> {
    let found = (0..DRAWS).find_map(|_| core.any_connection(key).ok());
    found.into_iter().collect()
}

fn all_primaries(core: &mut Core, key: usize) -> Vec<u32> {
    let pools = core.filters[core.clients[key].filter].pools_read();
    let mut found: Vec<u32> = pools
        .into_iter()
        .flat_map(|pool| open_primaries(core, pool))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The connections to all primaries of a pool, opened where there are none.
pub(super) fn open_primaries(core: &mut Core, pool: usize) -> Vec<u32> {
    let live = core.pools[pool].live.as_ref();
    let shards = live.map_or(0, |live: &Live| live.topology.shard_count());
    (0..shards)
        .filter_map(|shard| {
            core.connection_for(pool, Target::Shard(shard), Access::Primary)
                .ok()
        })
        .collect()
}

fn end_joining(core: &mut Core, joining: &Joining, answer: &Answer<'_>) {
    core.settle(joining.waiter, joining.command, joining.since, answer.again());
}

impl TrackingState {
    /// CLIENT TRACKING, TRACKINGINFO, CACHING and GETREDIR. What it gives back is to be asked of all workers first.
    pub fn client_tracking(
        &mut self,
        core: &mut Core,
        key: usize,
        local: Local,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Arc<Wanted>> {
        match local {
            Local::ClientTracking => return self.ask_tracking(core, key, command, request),
            Local::ClientCaching => self.set_caching(core, key, request.arg(2)),
            Local::ClientGetRedir => {
                let redirect = self.trackers.get(key).map_or(-1, redirect_of);
                core.answer_with(key, |out| encode::integer(out, redirect));
            }
            Local::ClientTrackingInfo => {
                let resp3 = core.is_resp3(key);
                let mut info = Vec::new();
                describe(self.trackers.get(key), &mut info, resp3);
                core.answer(key, &info);
            }
            _ => core.answer_with(key, |out| error::wrong_arity(out, command)),
        }
        None
    }

    fn ask_tracking(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Arc<Wanted>> {
        let chain = core.filters[core.clients[key].filter].chain_name();
        let wanted = match Wanted::read(request, chain) {
            Ok(wanted) => wanted,
            Err(line) => {
                core.answer(key, &line);
                return None;
            }
        };
        if wanted.redirect.is_some() {
            return Some(Arc::new(wanted));
        }
        let waiter = core.expect_reply(key, Slot::Waiting);
        self.track(core, Joining::new(waiter, command.id, core.now), &wanted, None);
        core.rest_behind(key);
        None
    }

    /// Which worker has this client: the worker's number and one more, or 0.
    pub fn has_client(&self, core: &Core, wanted: &Wanted) -> u64 {
        let named = |client: &Client| {
            wanted.redirect == Some(client.session.id) && core.filters[client.filter].is_of(&wanted.chain)
        };
        let here = core.clients.iter().any(|(_, client)| named(client));
        if here { core.shared.worker as u64 + 1 } else { 0 }
    }

    /// All workers have said whether they have the client that is to be redirected to.
    pub fn redirect_found(&mut self, core: &mut Core, joining: Joining, wanted: &Wanted, found: u64) {
        match (
            usize::try_from(found).unwrap_or(0).checked_sub(1),
            wanted.redirect,
        ) {
            (Some(worker), Some(id)) => self.track(core, joining, wanted, Some(Redirect { id, worker })),
            _ => end_joining(core, &joining, &Answer::Raw(Wanted::no_client())),
        }
    }

    fn track(&mut self, core: &mut Core, joining: Joining, wanted: &Wanted, redirect: Option<Redirect>) {
        let key = joining.waiter.client as usize;
        let Some(client) = core.clients.of(joining.waiter) else {
            return;
        };
        if !wanted.on {
            self.untrack(core, key);
            return end_joining(core, &joining, &Answer::Raw(b"+OK\r\n"));
        }
        let mode = match wanted.mode_after(self.trackers.get(key)) {
            Ok(mode) => mode,
            Err(line) => return end_joining(core, &joining, &Answer::Raw(&line)),
        };
        if !core.filters[client.filter].keeps_keys() {
            return end_joining(core, &joining, &Answer::Raw(RENAMED));
        }
        let former = client.features.has(Feature::Tracking);
        let tracker = self.tracker_of(core, key);
        tracker.mode = mode;
        tracker.noloop = wanted.noloop;
        tracker.redirect = redirect;
        tracker.broken = false;
        match former {
            true => end_joining(core, &joining, &Answer::Raw(b"+OK\r\n")),
            false => self.join(core, key, joining),
        }
    }

    /// A client's tracker, made if there is none.
    fn tracker_of(&mut self, core: &mut Core, key: usize) -> &mut Tracker {
        if self.trackers.get(key).is_none() {
            self.clients += 1;
            core.shared.heads.note_tracking(self.clients);
        }
        let made = || Tracker::new(Mode::Default);
        self.trackers.of(key, &mut core.clients[key], made)
    }

    /// Moves a client to connections with tracking and waits for one of them, with BCAST for all.
    fn join(&mut self, core: &mut Core, key: usize, mut joining: Joining) {
        let tracking = self
            .trackers
            .get(key)
            .map_or(Tracking::Off, |tracker| tracker.greets_with());
        let former = core.filters[core.clients[key].filter].greeting;
        core.greet_with(key, Greeting { tracking, ..former });
        let found = match tracking {
            Tracking::Broadcast => {
                self.broadcast.push(key as u32);
                all_primaries(core, key)
            }
            Tracking::Off | Tracking::Keys => any_primary(core, key),
        };
        if found.is_empty() {
            self.untrack(core, key);
            return end_joining(core, &joining, &Answer::Failed(Failure::NoHost));
        }
        joining.left = found.len() as u32;
        let sending = Sending {
            waiter: joining.waiter,
            command: joining.command,
            purpose: Purpose::Track,
        };
        self.joining.insert(key as u32, joining);
        // Its reply says that the server has granted what was asked for in front of it.
        for connection in found {
            core.send(connection, sending, Payload::Copied(PING));
        }
    }

    /// A connection that a CLIENT TRACKING waits for has answered, or never will.
    pub fn step_joining(&mut self, core: &mut Core, pending: &Pending, granted: bool) {
        let own = self.joining.get_mut(&pending.waiter.client);
        let same = |own: &&mut Joining| own.waiter.generation == pending.waiter.generation;
        let Some(joining) = own.filter(same) else {
            return;
        };
        joining.left -= 1;
        joining.granted += u32::from(granted);
        if joining.left > 0 {
            return;
        }
        let any = joining.granted > 0;
        let Some(joining) = self.joining.remove(&pending.waiter.client) else {
            return;
        };
        if any {
            return end_joining(core, &joining, &Answer::Raw(b"+OK\r\n"));
        }
        self.untrack(core, pending.waiter.client as usize);
        end_joining(core, &joining, &Answer::Failed(Failure::Upstream));
    }

    /// A server does not grant tracking: the client hears why.
    pub(crate) fn refuse_joining(&mut self, core: &mut Core, pending: &Pending, raw: &[u8]) {
        let own = self.joining.get(&pending.waiter.client);
        if own.is_none_or(|own| own.waiter.generation != pending.waiter.generation) {
            return;
        }
        if let Some(joining) = self.joining.remove(&pending.waiter.client) {
            self.untrack(core, pending.waiter.client as usize);
            end_joining(core, &joining, &Answer::Raw(raw));
        }
    }

    /// A client tracks no more.
    pub fn untrack(&mut self, core: &mut Core, key: usize) {
        let Some(tracker) = self.trackers.take(key, &mut core.clients[key]) else {
            return;
        };
        self.forget_tracker(core, key, &tracker);
        let greeting = core.filters[core.clients[key].filter].greeting;
        let tracking = Tracking::Off;
        core.greet_with(key, Greeting { tracking, ..greeting });
    }

    /// A client that tracks has moved from this filter to a variant, by HELLO or SELECT: with BCAST it listens there from
    /// now on, else what it read before is told as before.
    pub fn track_from(&mut self, core: &mut Core, key: usize, former: usize) {
        let from = &core.filters[former];
        let (tracked, pools) = (from.greeting.tracking, from.pools_read());
        match (tracked, self.trackers.get_mut(key)) {
            // Whom it redirects to has no replies that could be overtaken: it goes on listening where it did.
            (Tracking::Broadcast, Some(tracker)) if !tracker.pools.is_empty() => {}
            (Tracking::Broadcast, Some(tracker)) if tracker.redirect.is_some() => {
                tracker.pools.clone_from(&pools);
                core.hold_pools(&pools);
            }
            (_, Some(tracker)) if tracker.is_broadcast() => drop(all_primaries(core, key)),
            (Tracking::Keys, Some(tracker)) => {
                let known = &mut tracker.pools;
                let fresh: Vec<usize> = pools.into_iter().filter(|pool| !known.contains(pool)).collect();
                known.extend_from_slice(&fresh);
                core.hold_pools(&fresh);
            }
            _ => {}
        }
    }

    /// What a client caches, where it tracks.
    pub fn tracker(&self, key: usize) -> Option<&Tracker> {
        self.trackers.get(key)
    }

    /// A client is gone.
    pub fn forget(&mut self, core: &mut Core, key: usize) {
        if let Some(tracker) = self.trackers.forget(key) {
            self.forget_tracker(core, key, &tracker);
        }
    }

    /// What is known of a client that tracked is forgotten; keys that it read go when they change.
    pub(super) fn forget_tracker(&mut self, core: &mut Core, key: usize, tracker: &Tracker) {
        core.release_pools(&tracker.pools);
        let key = key as u32;
        self.clients -= 1;
        core.shared.heads.note_tracking(self.clients);
        self.joining.remove(&key);
        self.broadcast.retain(|own| *own != key);
        self.own.retain(|own| own.client != key);
    }
}
