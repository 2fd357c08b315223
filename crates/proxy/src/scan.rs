//! Commands that go from shard to shard: SCAN, whose one cursor carries the shard, and RANDOMKEY, which asks on until a
//! shard has a key. The clusters of all routes are walked through one after the other.
//!
//! SCAN may give a key twice, but must not lose one, and a key is lost when its slot goes from a shard that is still to
//! be asked to one that was, or when another primary with other buckets takes a shard over. So a pass over all shards
//! during which the map changed (`moved`) is followed by another. And since a map changes only when the last key of a
//! slot has gone, the primaries are asked at the end of a pass whether slots are on their way; if so, one more pass
//! (`again`) finds every key where it has gone, as a key goes once.

mod clusters;
mod cursor;
mod kept;
mod page;
mod seek;

use std::sync::Arc;

use redplane_command::Command;
use redplane_merge::{Failure, Part, Parts};
use redplane_redis_core::client::features::{Feature, PerClient};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_core::split::Split;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_redis_flow::send::Payload;
use redplane_redis_flow::settle::Ended;
use redplane_resp::encode;
use redplane_upstream::Signal;

use crate::scan::clusters::{Cluster, cluster_at, cluster_from};
use crate::scan::cursor::{Cursor, Position, is_settled, own_line};
use crate::scan::page::{count_option, page, scan_frame};

pub(crate) use crate::scan::kept::Kept;

const NODES: &[u8] = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nNODES\r\n";

/// Where a walk over the shards stands.
#[derive(Debug)]
pub(crate) enum Walk {
    Scan(Scan),
    /// A pass is over: are slots on their way?
    Verify(Scan),
    /// Shards still to be asked, in random order.
    Seek {
        /// Which cluster of the routes, and where in it.
        places: Vec<(usize, Target)>,
        frame: Vec<u8>,
    },
}

#[derive(Debug)]
pub(crate) struct Scan {
    at: Position,
    /// The arguments behind the cursor.
    options: Vec<Vec<u8>>,
    /// How many elements make a full answer.
    count: u64,
    found: u64,
    elements: Vec<u8>,
}

/// The walks of one client, by the sequences of their requests.
#[derive(Debug, Default)]
pub(crate) struct Walks(Vec<(u32, Walk)>);

/// The commands of one worker's clients that go from shard to shard.
pub(crate) struct Scans {
    walks: PerClient<Walks>,
    /// Where all workers' scans are.
    kept: Arc<Kept>,
}

impl Scans {
    pub(crate) fn new(kept: &Arc<Kept>) -> Self {
        Self {
            walks: PerClient::new(Feature::Walks),
            kept: Arc::clone(kept),
        }
    }

    /// A client is gone.
    pub(crate) fn forget(&mut self, key: usize) {
        self.walks.forget(key);
    }

    fn keep_walk(&mut self, core: &mut Core, key: usize, sequence: u32, walk: Walk) {
        let walks = self.walks.of(key, &mut core.clients[key], Walks::default);
        walks.0.push((sequence, walk));
    }

    fn take_walk(&mut self, core: &mut Core, key: usize, sequence: u32) -> Option<Walk> {
        let walks = self.walks.get_mut(key)?;
        let at = walks.0.iter().position(|(own, _)| *own == sequence)?;
        let (_, walk) = walks.0.swap_remove(at);
        if walks.0.is_empty() {
            self.walks.take(key, &mut core.clients[key]);
        }
        Some(walk)
    }

    /// SCAN.
    pub(crate) fn scan(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        request: Request<'_>,
    ) {
        let Some(cursor) = std::str::from_utf8(request.arg(1))
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
        else {
            return core.answer(key, b"-ERR invalid cursor\r\n");
        };
        let cursor = Cursor::unpack(cursor, &self.kept);
        let found = cluster_from(core, key, command, cursor.cluster);
        // Where the rest of the clusters is gone, so is what they were numbered by.
        let found = found.or_else(|| cluster_from(core, key, command, 0));
        let located = found.and_then(|found| {
            let at = cursor.locate(found.number, &found.topology)?;
            Some((found.pool, at))
        });
        let Some((pool, at)) = located else {
            return core.fail_now(key, command.id, Failure::NoHost);
        };
        let options: Vec<Vec<u8>> = (2..request.len()).map(|i| request.arg(i).to_vec()).collect();
        let count = count_option(&options);
        let scan = Scan {
            at,
            options,
            count,
            found: 0,
            elements: Vec::new(),
        };
        let frame = scan_frame(at.cursor, &scan.options);
        let split = Split::walking(Parts::new(command, 1, Vec::new()), core.now);
        let waiter = core.expect_reply(key, Slot::Split(Box::new(split)));
        self.keep_walk(core, key, waiter.sequence, Walk::Scan(scan));
        let target = Target::Shard(at.shard);
        core.send_to(
            pool,
            target,
            Access::Primary,
            command,
            waiter,
            Payload::Copied(&frame),
        );
    }

    /// A shard has answered: on to the next one, or back to the client.
    pub(crate) fn walk_on(&mut self, core: &mut Core, key: usize, offset: usize, split: Box<Split>) {
        let sequence = core.place_of(key, offset).sequence;
        let walk = match self.take_walk(core, key, sequence) {
            None => return,
            Some(Walk::Verify(scan)) => return self.verified(core, key, offset, &split, scan),
            Some(walk) => walk,
        };
        let parts = &split.parts;
        let raw = match parts.replies().last().map(|part| (part, parts.raw(part))) {
            Some((_, Some(raw))) => raw.to_vec(),
            Some((Part::Failed(failure), None)) => failure.reply().to_vec(),
            _ => return,
        };
        match walk {
            Walk::Verify(_) => {}
            Walk::Scan(scan) => self.scan_on(core, key, offset, split, scan, &raw),
            Walk::Seek { mut places, frame } => {
                let empty = raw.starts_with(b"$-1") || raw.starts_with(b"_");
                let next = places.pop().filter(|_| empty);
                let pools = core.pools_of_all_routes(key, split.command());
                match next.and_then(|(cluster, target)| Some((*pools.get(cluster)?, target))) {
                    Some(place) => {
                        let own = frame.clone();
                        self.ask_next(
                            core,
                            (key, offset),
                            split,
                            Walk::Seek { places, frame },
                            place,
                            &own,
                        );
                    }
                    None => end_walk(core, key, offset, &split, &raw),
                }
            }
        }
    }

    /// A shard's page has come: on to the next shard while there is room, else out with what was found.
    fn scan_on(
        &mut self,
        core: &mut Core,
        key: usize,
        offset: usize,
        split: Box<Split>,
        mut scan: Scan,
        raw: &[u8],
    ) {
        let Some((cursor, count, elements)) = page(raw) else {
            return end_walk(core, key, offset, &split, raw);
        };
        scan.elements.extend_from_slice(elements);
        scan.found += count;
        let Some(own) = cluster_at(core, key, split.command(), scan.at.cluster) else {
            return end_walk(core, key, offset, &split, Failure::NoHost.reply());
        };
        let now = Position::begin(own.number, &own.topology);
        scan.at.moved |= (now.map, now.version) != (scan.at.map, scan.at.version);
        (scan.at.map, scan.at.version, scan.at.cursor) = (now.map, now.version, cursor);
        if cursor == 0 {
            scan.at.shard += 1;
        }
        if scan.at.shard >= own.topology.shard_count() {
            return self.end_pass(core, key, offset, &split, scan, &own);
        }
        if cursor != 0 || scan.found >= scan.count {
            let next = scan.at.pack(&own.topology, &self.kept);
            return answer_page(core, key, offset, &split, &scan, next);
        }
        let (next, frame) = (Target::Shard(scan.at.shard), scan_frame(0, &scan.options));
        self.ask_next(
            core,
            (key, offset),
            split,
            Walk::Scan(scan),
            (own.pool, next),
            &frame,
        );
    }

    /// Every shard of a cluster was asked. What that is worth depends on what has moved meanwhile.
    fn end_pass(
        &mut self,
        core: &mut Core,
        key: usize,
        offset: usize,
        split: &Split,
        scan: Scan,
        own: &Cluster,
    ) {
        if scan.at.moved {
            // Perhaps the routes have changed, and with them the clusters' numbers: all begins again.
            let next = cluster_from(core, key, split.command(), 0).map_or(0, |first| {
                let begin = Position::begin(first.number, &first.topology);
                begin.pack(&first.topology, &self.kept)
            });
            return answer_page(core, key, offset, split, &scan, next);
        }
        if scan.at.again || own.topology.slots().is_none() {
            return self.end_cluster(core, key, offset, split, scan);
        }
        let (command, shards) = (split.command(), own.topology.shard_count());
        let verify = Split::walking(Parts::new(command, shards, Vec::new()), split.since);
        let waiter = core.place_of(key, offset);
        self.keep_walk(core, key, waiter.sequence, Walk::Verify(scan));
        core.clients[key].replies.ask_on(offset, Box::new(verify));
        for shard in 0..shards {
            let waiter = Waiter {
                part: shard as u32,
                ..waiter
            };
            let target = Target::Shard(shard);
            core.send_to(
                own.pool,
                target,
                Access::Primary,
                command,
                waiter,
                Payload::Copied(NODES),
            );
        }
    }

    /// The primaries have said what they serve and what is on its way. One that says nothing does not count.
    fn verified(&mut self, core: &mut Core, key: usize, offset: usize, split: &Split, scan: Scan) {
        let Some(own) = cluster_at(core, key, split.command(), scan.at.cluster) else {
            return end_walk(core, key, offset, split, Failure::NoHost.reply());
        };
        let replies = split.parts.replies();
        let views = replies.map(|part| split.parts.raw(part).and_then(own_line));
        let settled = views
            .enumerate()
            .all(|(shard, line)| line.is_none_or(|line| is_settled(&own.topology, shard, line)));
        if settled {
            return self.end_cluster(core, key, offset, split, scan);
        }
        if let Some(live) = &core.pools[own.pool].live {
            live.cluster.signal(Signal::Redirected);
        }
        let again = Position {
            again: true,
            ..Position::begin(own.number, &own.topology)
        };
        let next = again.pack(&own.topology, &self.kept);
        answer_page(core, key, offset, split, &scan, next);
    }

    fn ask_next(
        &mut self,
        core: &mut Core,
        (key, offset): (usize, usize),
        mut split: Box<Split>,
        walk: Walk,
        (pool, target): (usize, Target),
        frame: &[u8],
    ) {
        let command = split.command();
        *split = Split::walking(Parts::new(command, 1, Vec::new()), split.since);
        let waiter = core.place_of(key, offset);
        self.keep_walk(core, key, waiter.sequence, walk);
        core.clients[key].replies.ask_on(offset, split);
        core.send_to(
            pool,
            target,
            Access::Primary,
            command,
            waiter,
            Payload::Copied(frame),
        );
    }
}

fn answer_page(core: &mut Core, key: usize, offset: usize, split: &Split, scan: &Scan, cursor: u64) {
    let mut answer = Vec::with_capacity(scan.elements.len() + 48);
    encode::array(&mut answer, 2);
    encode::bulk(&mut answer, cursor.to_string().as_bytes());
    encode::array(&mut answer, scan.found as usize);
    answer.extend_from_slice(&scan.elements);
    end_walk(core, key, offset, split, &answer);
}

fn end_walk(core: &mut Core, key: usize, offset: usize, split: &Split, reply: &[u8]) {
    let ended = Ended {
        command: split.command().id,
        success: !reply.starts_with(b"-"),
        since: split.since,
    };
    core.deliver(key, offset, ended, reply);
}
