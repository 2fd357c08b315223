//! Commands whose keys lie in several slots: one request per slot, all at once, put together at the end.
//!
//! Keys of one slot travel in one command; the commands for one node leave in one write. Not atomic, as it is nowhere
//! in a cluster; a command whose keys share a slot passes through whole and is.

use std::ops::Range;

use bytes::Bytes;
use redplane_command::{Command, FastKeys, ReplyPolicy, SlotOf, error};
use redplane_resp::encode;

use crate::client::Slot;
use crate::connection::Purpose;
use crate::dispatch::{Request, Served, error_line};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::filter::RouteTo;
use crate::forward::{Sending, access_of};
use crate::info::Own;
use crate::pool::{Access, Live, Target};
use crate::settle::{Answer, Ended};

/// The reply of one part.
#[derive(Clone, Debug)]
pub(crate) enum PartReply {
    Missing,
    /// It stands in [`Split::bytes`].
    Kept(Range<usize>),
    /// A large one, in the buffer it was received into.
    Shared(Bytes),
    Failed(Failure),
}

/// A command of which several servers were asked.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) command: &'static Command,
    pub(crate) since: u64,
    left: u32,
    pub(crate) parts: Vec<PartReply>,
    /// The small replies of all parts, one behind the other.
    bytes: Vec<u8>,
    /// For each key, in the order of the request, the part it travelled in. Empty for fan-outs.
    pub(crate) keys: Vec<u32>,
    /// Commands that go on from one shard to the next keep their place here.
    pub(crate) walk: Option<Box<crate::scan::Walk>>,
    /// The addresses of the nodes asked, where merging names them.
    pub(crate) nodes: Vec<String>,
    /// SCRIPT EXISTS: which of the scripts the proxy remembers itself.
    pub(crate) held: Vec<bool>,
    /// Argument 2 of the request, where merging needs it (SLOWLOG GET's count).
    pub(crate) limit: Option<i64>,
}

impl Split {
    pub(crate) fn new(command: &'static Command, since: u64, parts: usize, keys: Vec<u32>) -> Self {
        let missing = std::iter::repeat_with(|| PartReply::Missing);
        Self {
            command,
            since,
            left: parts as u32,
            parts: missing.take(parts).collect(),
            bytes: Vec::new(),
            keys,
            walk: None,
            nodes: Vec::new(),
            held: Vec::new(),
            limit: None,
        }
    }

    /// Divides a part that is not answered into `count`, which is how many keys it has; says their numbers.
    pub(crate) fn divide(&mut self, part: u32, count: usize) -> Option<Vec<u32>> {
        let own = |number: &u32| *number == part;
        if count == 0 || self.keys.iter().filter(|number| own(number)).count() != count {
            return None;
        }
        let PartReply::Missing = self.parts.get(part as usize)? else {
            return None;
        };
        let next = self.parts.len() as u32;
        let numbers: Vec<u32> = std::iter::once(part).chain(next..).take(count).collect();
        let keys = self.keys.iter_mut().filter(|number| own(number));
        keys.zip(&numbers).for_each(|(key, number)| *key = *number);
        let added = count - 1;
        self.parts
            .extend(std::iter::repeat_with(|| PartReply::Missing).take(added));
        self.left += added as u32;
        Some(numbers)
    }

    /// What a server answered to a part; `None` where none did.
    pub(crate) fn raw<'a>(&'a self, part: &'a PartReply) -> Option<&'a [u8]> {
        match part {
            PartReply::Kept(range) => self.bytes.get(range.clone()),
            PartReply::Shared(shared) => Some(shared),
            PartReply::Missing | PartReply::Failed(_) => None,
        }
    }

    /// Takes the reply of a part; true when it was the last that was missing.
    pub(crate) fn take(&mut self, part: u32, answer: Answer<'_>) -> bool {
        let Some(slot @ PartReply::Missing) = self.parts.get_mut(part as usize) else {
            return false;
        };
        *slot = match answer {
            Answer::Raw(raw) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(raw);
                PartReply::Kept(start..self.bytes.len())
            }
            Answer::Shared(shared) => PartReply::Shared(shared),
            Answer::Failed(failure) => PartReply::Failed(failure),
        };
        self.left -= 1;
        self.left == 0
    }
}

/// One key of the request on its way to its part.
#[derive(Clone, Copy)]
struct Place {
    /// The pool, and there the slot, the shard or the host; or why there is none.
    fate: Result<(usize, usize), Failure>,
    argument: usize,
    part: u32,
}

impl Engine {
    /// MGET, MSET, DEL, UNLINK, EXISTS, TOUCH.
    pub(crate) fn split(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let (first, step) = match command.fast_keys {
            FastKeys::Range { first, step, .. } => (usize::from(first), usize::from(step).max(1)),
            _ => (1, 1),
        };
        if !(request.len() - first).is_multiple_of(step) {
            return self.answer_with(key, |out| error::wrong_arity(out, command));
        }
        if request.len() == first + step {
            return self.forward_by_key(key, Served::Known(command), request, first);
        }
        let mut places = self.places(key, command, &request, first, step);
        let same = |place: &Place| place.fate.is_ok() && place.fate == places[0].fate;
        if places.iter().all(same) && self.keeps_keys(key, &request, first, step) {
            return self.forward_by_key(key, Served::Known(command), request, first);
        }
        let parts = number_parts(&mut places);
        let mut keys = vec![0; places.len()];
        for place in &places {
            keys[(place.argument - first) / step] = place.part;
        }
        let split = Split::new(command, self.now, parts, keys);
        let waiter = self.expect_reply(key, Slot::Split(Box::new(split)));
        let mut begin = 0;
        for part in 0..parts as u32 {
            let end = begin
                + places[begin..]
                    .iter()
                    .take_while(|place| place.part == part)
                    .count();
            let waiter = crate::client::Waiter { part, ..waiter };
            let sending = Sending {
                waiter,
                command: command.id,
                purpose: Purpose::Reply,
            };
            self.send_part(key, &request, &places[begin..end], step, sending);
            begin = end;
        }
    }

    /// Where each key goes.
    fn places(
        &mut self,
        key: usize,
        command: &'static Command,
        request: &Request<'_>,
        first: usize,
        step: usize,
    ) -> Vec<Place> {
        let arguments = (first..request.len()).step_by(step);
        let draw = self.random.u64(..);
        arguments
            .map(|argument| Place {
                fate: self.fate(key, command.is_read(), request.arg(argument), draw),
                argument,
                part: 0,
            })
            .collect()
    }

    /// Whether one server has all keys of a command, so that it can run there as a whole.
    pub(crate) fn share_a_place(
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
        let draw = self.random.u64(..);
        let place = self.fate(key, reads, request.arg(first), draw)?;
        for at in std::iter::once(second).chain(keys) {
            if self.fate(key, reads, request.arg(at), draw)? != place {
                return Err(Failure::CrossSlot);
            }
        }
        Ok(())
    }

    /// SORT: on a fleet the keys that patterns name are anywhere. Servers of a cluster refuse them themselves.
    pub(crate) fn sort(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let filter = &self.filters[self.clients[key].filter];
        let route = filter.route(request.arg(1));
        let live = route.and_then(|route| self.pools[route.pool_for(command.is_read())].live.as_ref());
        let spread = live
            .is_some_and(|live| !live.is_redis() && !live.is_replicated() && live.topology.hosts.len() > 1);
        if spread && let Some(option) = pattern_option(&request) {
            return self.answer_with(key, |out| {
                error_line(
                    out,
                    &format!("ERR {option} option of SORT denied in cluster mode."),
                );
            });
        }
        self.by_keys(key, command, request);
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

    /// One part's command, written straight into its connection's output, and to the mirrors of its route.
    fn send_part(
        &mut self,
        key: usize,
        request: &Request<'_>,
        places: &[Place],
        step: usize,
        sending: Sending,
    ) {
        let Some(&Place { fate, argument, .. }) = places.first() else {
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
                self.send(connection, sending, crate::forward::Payload::Copied(&frame));
                if !command.is_read() {
                    self.note_write(key, connection);
                }
                self.choke(connection, key);
                self.mirror_part(key, request.arg(argument), command, &frame);
            }
            Err(failure) => self.settle(sending.waiter, sending.command, self.now, Answer::Failed(failure)),
        }
        self.buffers.give(frame);
    }

    /// A key under the name that it has upstream.
    pub(crate) fn append_key(&self, key: usize, name: &[u8], frame: &mut Vec<u8>) {
        let filter = &self.filters[self.clients[key].filter];
        match filter.route(name) {
            Some(route) if !route.keeps_key => encode::bulk(frame, &self.rename(key, route, name)),
            _ => encode::bulk(frame, name),
        }
    }

    /// A mirror may spread keys otherwise than the main cluster does, but a slot is a slot on every Redis Cluster.
    fn mirror_part(&mut self, key: usize, name: &[u8], command: &'static Command, frame: &[u8]) {
        let filter = &self.filters[self.clients[key].filter];
        let Some(route) = filter
            .route(name)
            .filter(|route| !route.mirrors.is_empty())
            .cloned()
        else {
            return;
        };
        let name = self.rename(key, &route, name);
        let args = redplane_resp::request::Args::default();
        let copy = Request {
            frame,
            args: &args,
            shared: None,
        };
        self.mirror(&route, Served::Known(command), &name, &copy);
    }

    /// All parts are answered.
    pub(crate) fn complete(&mut self, key: usize, offset: usize, split: Box<Split>) {
        if split.walk.is_some() {
            return self.walk_on(key, offset, split);
        }
        let mut reply = self.buffers.take_empty();
        let own = match split.command.reply {
            ReplyPolicy::Info => self.own_figures(key),
            _ => Own::default(),
        };
        let success = crate::merge::merge(&split, &own, &mut reply);
        let ended = Ended {
            command: split.command.id,
            success,
            since: split.since,
        };
        self.deliver(key, offset, ended, &reply);
        self.buffers.give(reply);
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
fn number_parts(places: &mut [Place]) -> usize {
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

/// The first option of SORT that names keys by a pattern.
fn pattern_option(request: &Request<'_>) -> Option<&'static str> {
    let mut at = 2;
    while at + 1 < request.len() {
        let (word, value) = (request.arg(at), request.arg(at + 1));
        if word.eq_ignore_ascii_case(b"BY") && value.contains(&b'*') {
            return Some("BY");
        }
        if word.eq_ignore_ascii_case(b"GET") && value != b"#" {
            return Some("GET");
        }
        at += match word.to_ascii_uppercase().as_slice() {
            b"BY" | b"GET" | b"STORE" => 2,
            b"LIMIT" => 3,
            _ => 1,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_divided_into_its_keys() {
        let command = redplane_command::lookup(b"mget").unwrap();
        let mut split = Split::new(command, 0, 2, vec![0, 1, 0, 0]);
        assert!(!split.take(1, Answer::Raw(b"*1\r\n$1\r\nb\r\n")));
        assert_eq!(split.divide(1, 1), None, "it is answered");
        assert_eq!(split.divide(0, 2), None, "it has three");
        assert_eq!(split.divide(0, 3), Some(vec![0, 2, 3]));
        for (part, key) in [(3, "d"), (0, "a"), (2, "c")] {
            let whole = split.take(part, Answer::Raw(format!("*1\r\n$1\r\n{key}\r\n").as_bytes()));
            assert_eq!(whole, part == 2);
        }
        let mut merged = Vec::new();
        assert!(crate::merge::merge(&split, &Own::default(), &mut merged));
        assert_eq!(merged, b"*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n");
    }
}
