//! Redirections to names: each name is resolved once for all that wait for it, and the order of a client is kept.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::pending::Pending;
use redplane_upstream::{Cluster, Signal};

use crate::action::Action;
use crate::core::Core;
use crate::redirect::again::Again;
use crate::redirect::{MAX_HOPS, Redirection, parse};

/// A name that redirections led to and that is being resolved, and all that waits for it.
pub struct Unresolved {
    pool: usize,
    /// The pool's place may have been given to another cluster meanwhile.
    cluster: Arc<Cluster>,
    host: String,
    /// In the order in which they were redirected.
    waiting: Vec<Redirected>,
}

/// What one worker's servers sent elsewhere, or asked for again.
#[derive(Default)]
pub struct Redirects {
    pub(crate) unresolved: BTreeMap<u64, Unresolved>,
    /// Requests that a migrating slot refused, by the time they are sent again.
    pub(crate) again: BTreeMap<(u64, u64), Again>,
}

/// A redirected request that waits outside all queues.
pub struct Redirected {
    pending: Pending,
    frame: Bytes,
    ask: bool,
    slot: u16,
    port: u16,
    /// Where it goes; `None` while that is a name.
    address: Option<SocketAddr>,
    error: Vec<u8>,
}

impl Redirects {
    /// Looks at an error before the client does. True when it was dealt with.
    #[cold]
    pub fn intercept(&mut self, core: &mut Core, key: usize, pending: &Pending, raw: &[u8]) -> bool {
        if core.script_failed(key, pending, raw) {
            return true;
        }
        let pool = core.connections[key].pool;
        core.note_demoted(key, raw);
        if !core.pools[pool].key.settings.enable_redirection {
            return false;
        }
        if raw.starts_with(b"-CLUSTERDOWN") {
            core.connections[key].server.cluster.signal(Signal::Failed);
            core.settle(
                pending.waiter,
                pending.command,
                pending.since,
                Answer::Failed(Failure::Upstream),
            );
            return true;
        }
        if raw.starts_with(b"-TRYAGAIN") {
            return self.try_again(core, key, pending);
        }
        let Some(redirection) = parse(raw) else {
            return false;
        };
        self.follow(core, key, pending, redirection, raw)
    }

    fn follow(
        &mut self,
        core: &mut Core,
        key: usize,
        pending: &Pending,
        to: Redirection<'_>,
        raw: &[u8],
    ) -> bool {
        let connection = &core.connections[key];
        let pool = connection.pool;
        let op_timeout = core.pools[pool].key.settings.op_timeout.as_micros() as u64;
        if pending.travel.hops() >= MAX_HOPS || core.now >= pending.since + op_timeout {
            core.count_redirect(pool, false);
            core.settle(
                pending.waiter,
                pending.command,
                pending.since,
                Answer::Failed(Failure::Upstream),
            );
            return true;
        }
        let Some(frame) = connection.frame_of(pending) else {
            return false;
        };
        let address = core.target_of(key, to);
        match address {
            Some(address) if !self.waits_for_name(pool, pending, to) => {
                core.send_on(pool, pending, &frame, (to, address), raw)
            }
            _ => {
                self.resolve(core, pool, *pending, frame, (to, address), raw);
                true
            }
        }
    }

    /// Whether what the same client sent before to the same slot waits for a name: nothing must overtake it.
    fn waits_for_name(&self, pool: usize, pending: &Pending, to: Redirection<'_>) -> bool {
        self.unresolved
            .values()
            .any(|name| name.pool == pool && name.holds(pending, to.slot))
    }

    /// Has a name resolved, once for all that wait for it.
    fn resolve(
        &mut self,
        core: &mut Core,
        pool: usize,
        pending: Pending,
        frame: Bytes,
        (to, address): (Redirection<'_>, Option<SocketAddr>),
        raw: &[u8],
    ) {
        let Some(live) = &core.pools[pool].live else {
            let failed = Answer::Failed(Failure::NoHost);
            return core.settle(pending.waiter, pending.command, pending.since, failed);
        };
        let cluster = live.cluster.clone();
        core.rest_behind_redirected(pending.waiter);
        core.in_flight += 1;
        let waiting = Redirected {
            pending,
            frame,
            ask: to.ask,
            slot: to.slot,
            port: to.port,
            address,
            error: raw.to_vec(),
        };
        let mut names = self.unresolved.values_mut().filter(|name| name.pool == pool);
        let same = |name: &&mut Unresolved| name.host == to.host && Arc::ptr_eq(&name.cluster, &cluster);
        let known = match address {
            Some(_) => names.find(|name| name.holds(&pending, to.slot)),
            None => names.find(same),
        };
        if let Some(known) = known {
            return known.waiting.push(waiting);
        }
        core.shared.tickets += 1;
        let ticket = core.shared.tickets;
        core.out.actions.push(Action::Resolve {
            ticket,
            host: to.host.to_owned(),
            cluster: cluster.clone(),
            family: core.pools[pool].key.settings.dns_cache,
        });
        let name = Unresolved {
            pool,
            cluster,
            host: to.host.to_owned(),
            waiting: vec![waiting],
        };
        self.unresolved.insert(ticket, name);
    }

    /// The driver has resolved a name, or could not.
    pub fn resolved(&mut self, core: &mut Core, ticket: u64, address: Option<IpAddr>) {
        let Some(name) = self.unresolved.remove(&ticket) else {
            return;
        };
        let live = core.pools.get(name.pool).and_then(|pool| pool.live.as_ref());
        let same = live.is_some_and(|live| Arc::ptr_eq(&live.cluster, &name.cluster));
        core.in_flight -= name.waiting.len();
        for waiting in name.waiting {
            let pending = waiting.pending;
            let named = address.map(|ip| SocketAddr::new(ip.to_canonical(), waiting.port));
            let to = Redirection {
                ask: waiting.ask,
                slot: waiting.slot,
                host: &name.host,
                port: waiting.port,
            };
            match waiting.address.or(named).filter(|_| same) {
                Some(address) => {
                    core.send_on(name.pool, &pending, &waiting.frame, (to, address), &waiting.error);
                }
                None => {
                    let answer = Answer::Raw(&waiting.error);
                    core.settle(pending.waiter, pending.command, pending.since, answer);
                }
            }
        }
    }

    /// Those that wait for a name.
    pub fn requests_to_resolve(&self) -> impl Iterator<Item = (&Pending, &str)> {
        let names = self.unresolved.values();
        names.flat_map(|name| {
            name.waiting
                .iter()
                .map(|waiting| (&waiting.pending, name.host.as_str()))
        })
    }

    /// Names that take too long.
    pub fn expire_unresolved(&mut self, core: &mut Core) {
        let now = core.now;
        let mut late = Vec::new();
        for name in self.unresolved.values_mut() {
            let settings = core.pools.get(name.pool).map(|pool| &pool.key.settings);
            let timeout = settings.map_or(0, |settings| settings.op_timeout.as_micros() as u64);
            let is_late = |waiting: &mut Redirected| now >= waiting.pending.since + timeout;
            late.extend(
                name.waiting
                    .extract_if(.., is_late)
                    .map(|waiting| waiting.pending),
            );
        }
        self.unresolved.retain(|_, name| !name.waiting.is_empty());
        core.in_flight -= late.len();
        for pending in late {
            let failed = Answer::Failed(Failure::Upstream);
            core.settle(pending.waiter, pending.command, pending.since, failed);
        }
    }
}

impl Unresolved {
    /// Whether a request of the same client to the same slot waits here.
    fn holds(&self, pending: &Pending, slot: u16) -> bool {
        let (client, generation) = (pending.waiter.client, pending.waiter.generation);
        self.waiting.iter().any(|waiting| {
            let own = waiting.pending.waiter;
            own.client == client && own.generation == generation && waiting.slot == slot
        })
    }
}
