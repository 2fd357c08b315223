//! Commands whose keys lie in several slots: one request per slot, all at once, put together at the end.
//!
//! Keys of one slot travel in one command; the commands for one node leave in one write. Not atomic, as it is nowhere
//! in a cluster; a command whose keys share a slot passes through whole and is.

use redplane_command::{Command, FastKeys, ReplyPolicy, SlotOf, error};
use redplane_merge::{Answer, Failure, Own, Parts};
use redplane_redis_core::client::Slot;
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Access, Live, Target};
use redplane_redis_core::split::Split;
use redplane_resp::encode;

use crate::core::{Core, Event};
use crate::request::{Request, Served, access_of, is_mirrored_write};
use crate::send::{Outgoing, Payload, Scripts, Sending};
use crate::settle::Ended;

/// One key of the request on its way to its part.
#[derive(Clone, Copy)]
struct KeyPlace {
    /// The pool, and there the slot, the shard or the host; or why there is none.
    fate: Result<(usize, usize), Failure>,
    argument: usize,
    part: u32,
}

impl Core {
    /// Where each key goes.
    fn places(
        &mut self,
        key: usize,
        command: &'static Command,
        request: &Request<'_>,
        first: usize,
        step: usize,
    ) -> Vec<KeyPlace> {
        let arguments = (first..request.len()).step_by(step);
        let draw = self.shared.random.u64(..);
        arguments
            .map(|argument| KeyPlace {
                fate: self.fate(key, command.is_read(), request.arg(argument), draw),
                argument,
                part: 0,
            })
            .collect()
    }

    /// Whether one server has all keys of a command, so that it can run there as a whole.
    pub fn share_a_place(
        &mut self,
        key: usize,
        served: Served,
        request: &Request<'_>,
        reads: bool,
    ) -> Result<(), Failure> {
        let Served::Known(command) = served else {
            return Ok(());
        };
        // Nearly always: one cluster has everything, and the slots say it.
        let filter = &self.filters[self.clients[key].filter];
        if let Some(route) = filter.catch_all.as_ref().filter(|_| filter.prefixes.is_empty())
            && route.keeps_key
            && self.pools[route.pool_for(reads)]
                .live
                .as_ref()
                .is_some_and(Live::is_redis)
        {
            return match redplane_command::slots(command, request.len(), |i| request.arg(i)) {
                SlotOf::Cross => Err(Failure::CrossSlot),
                SlotOf::NoKeys | SlotOf::One(_) => Ok(()),
            };
        }
        let mut keys = redplane_command::keys(command, request.len(), |i| request.arg(i));
        let (Some(first), Some(second)) = (keys.next(), keys.next()) else {
            return Ok(());
        };
        let draw = self.shared.random.u64(..);
        let place = self.fate(key, reads, request.arg(first), draw)?;
        for at in std::iter::once(second).chain(keys) {
            if self.fate(key, reads, request.arg(at), draw)? != place {
                return Err(Failure::CrossSlot);
            }
        }
        Ok(())
    }

    /// Where a key goes: the pool and [`group`](Self::group).
    fn fate(&self, key: usize, reads: bool, name: &[u8], draw: u64) -> Result<(usize, usize), Failure> {
        let filter = &self.filters[self.clients[key].filter];
        let route = filter.route(name).ok_or(Failure::NoHost)?;
        let pool = route.pool_for(reads);
        let group = match route.keeps_key {
            true => self.group(pool, name, draw)?,
            false => self.group(pool, &self.rename(key, route, name), draw)?,
        };
        Ok((pool, group))
    }

    /// What keys must share to travel together: the slot, or the host. Where hosts are drawn, all keys of a command get
    /// the same draw.
    fn group(&self, pool: usize, name: &[u8], draw: u64) -> Result<usize, Failure> {
        let entry = &self.pools[pool];
        let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
        match live.target(name, &entry.key.settings) {
            Target::Slot(slot) => Ok(usize::from(slot)),
            Target::Shard(shard) => Ok(shard),
            target => live.pick(target, Access::Primary, entry.key.settings.read_policy, "", draw),
        }
    }

    /// Whether every key is forwarded as it came, so that the command can be as well.
    fn keeps_keys(&self, key: usize, request: &Request<'_>, first: usize, step: usize) -> bool {
        let filter = &self.filters[self.clients[key].filter];
        let keeps = |route: &std::rc::Rc<RouteTo>| route.keeps_key;
        filter.prefixes.is_empty() && filter.catch_all.as_ref().is_some_and(keeps)
            || (first..request.len())
                .step_by(step)
                .all(|at| filter.route(request.arg(at)).is_some_and(keeps))
    }

    /// A key under the name that it has upstream.
    pub fn append_key(&self, key: usize, name: &[u8], frame: &mut Vec<u8>) {
        let filter = &self.filters[self.clients[key].filter];
        match filter.route(name) {
            Some(route) if !route.keeps_key => encode::bulk(frame, &self.rename(key, route, name)),
            _ => encode::bulk(frame, name),
        }
    }

    /// One part's command, written straight into its connection's output, and to the mirrors of its route.
    fn send_part(
        &mut self,
        key: usize,
        request: &Request<'_>,
        places: &[KeyPlace],
        step: usize,
        sending: Sending,
    ) {
        let Some(&KeyPlace { fate, argument, .. }) = places.first() else {
            return;
        };
        let (pool, group) = match fate {
            Ok(place) => place,
            Err(failure) => {
                return self.settle(sending.waiter, sending.command, self.now, Answer::Failed(failure));
            }
        };
        let command = &redplane_command::all()[sending.command.index()];
        let mut frame = self.buffers.take_empty();
        encode::array(&mut frame, 1 + places.len() * step);
        encode::bulk(&mut frame, request.arg(0));
        for place in places {
            self.append_key(key, request.arg(place.argument), &mut frame);
            for value in 1..step {
                encode::bulk(&mut frame, request.arg(place.argument + value));
            }
        }
        let target = match &self.pools[pool].live {
            Some(live) if live.is_redis() => Target::Slot(group as u16),
            Some(live) if live.is_replicated() => Target::Shard(group),
            _ => Target::Host(group),
        };
        match self.connection_for(pool, target, access_of(command)) {
            Ok(connection) => {
                let filter = &self.filters[self.clients[key].filter];
                let Some(route) = filter.route(request.arg(argument)).cloned() else {
                    return self.buffers.give(frame);
                };
                // A mirror may spread keys otherwise than the main cluster does, but a slot is a slot on every cluster.
                let renamed = (!route.mirrors.is_empty() && !route.keeps_key)
                    .then(|| self.rename(key, &route, request.arg(argument)));
                let outgoing = Outgoing {
                    sending,
                    payload: Payload::Copied(&frame),
                    route: &route,
                    name: renamed.as_deref().unwrap_or_else(|| request.arg(argument)),
                    changes: is_mirrored_write(Served::Known(command)),
                    queued: 0,
                    scripts: Scripts::None,
                };
                self.send_by_route(connection, &outgoing);
            }
            Err(failure) => self.settle(sending.waiter, sending.command, self.now, Answer::Failed(failure)),
        }
        self.buffers.give(frame);
    }

    /// All parts are answered.
    pub(crate) fn complete(&mut self, key: usize, offset: usize, split: Box<Split>) {
        if split.walks || split.command().reply == ReplyPolicy::Info {
            let waiter = self.place_of(key, offset);
            return self.out.events.push_back(Event::Whole(waiter, split));
        }
        self.join_parts(key, offset, &split, &Own::default());
    }

    /// Joins the parts to one reply.
    pub fn join_parts(&mut self, key: usize, offset: usize, split: &Split, own: &Own) {
        let mut reply = self.buffers.take_empty();
        let success = redplane_merge::merge(&split.parts, own, &mut reply);
        let ended = Ended {
            command: split.command().id,
            success,
            since: split.since,
        };
        self.deliver(key, offset, ended, &reply);
        self.buffers.give(reply);
    }

    /// MGET, MSET, DEL, UNLINK, EXISTS, TOUCH. The argument by which the request is to go as a whole, where it needs no
    /// splitting; it is not sent then.
    pub fn split_up(&mut self, key: usize, command: &'static Command, request: Request<'_>) -> Option<usize> {
        let (first, step) = match command.keys.fast {
            FastKeys::Range { first, step, .. } => (usize::from(first), usize::from(step).max(1)),
            _ => (1, 1),
        };
        if !(request.len() - first).is_multiple_of(step) {
            self.answer_with(key, |out| error::wrong_arity(out, command));
            return None;
        }
        if request.len() == first + step {
            return Some(first);
        }
        let mut places = self.places(key, command, &request, first, step);
        let same = |place: &KeyPlace| place.fate.is_ok() && place.fate == places[0].fate;
        if places.iter().all(same) && self.keeps_keys(key, &request, first, step) {
            return Some(first);
        }
        let parts = number_parts(&mut places);
        let mut keys = vec![0; places.len()];
        for place in &places {
            keys[(place.argument - first) / step] = place.part;
        }
        let split = Split::new(Parts::new(command, parts, keys), self.now);
        let waiter = self.expect_reply(key, Slot::Split(Box::new(split)));
        let mut begin = 0;
        for part in 0..parts as u32 {
            let end = begin
                + places[begin..]
                    .iter()
                    .take_while(|place| place.part == part)
                    .count();
            let waiter = redplane_redis_core::client::Waiter { part, ..waiter };
            let sending = Sending {
                waiter,
                command: command.id,
                purpose: Purpose::Reply,
            };
            self.send_part(key, &request, &places[begin..end], step, sending);
            begin = end;
        }
        None
    }
}

/// One number for where a key goes, since sorting compares it often: places first, failures behind them.
fn rank(fate: Result<(usize, usize), Failure>) -> u64 {
    match fate {
        Ok((pool, group)) => (pool as u64) << 32 | group as u64,
        Err(failure) => u64::MAX - failure as u64,
    }
}

/// Sorts places by where they go (keeping the order within) and numbers the parts.
fn number_parts(places: &mut [KeyPlace]) -> usize {
    places.sort_unstable_by_key(|place| (rank(place.fate), place.argument));
    let mut parts = 0;
    let mut last = None;
    for place in places {
        if last.is_some_and(|last| last != place.fate) {
            parts += 1;
        }
        last = Some(place.fate);
        place.part = parts;
    }
    parts as usize + 1
}
