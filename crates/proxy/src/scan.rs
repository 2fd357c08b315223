//! Commands that go from shard to shard: SCAN, whose one cursor carries the shard, and RANDOMKEY, which asks on until a
//! shard has a key.
//!
//! A SCAN cursor is `identity:5 | lowest slot:14 | server's cursor:44`. It names the shard by its lowest slot, not by its
//! place in the map, and carries a few bits of the primary's identity: after a failover the new primary's buckets are
//! others, so that the shard is begun again. SCAN may give a key twice, but must not lose one.

use redplane_command::Command;
use redplane_resp::{encode, reply};
use redplane_upstream::Topology;

use crate::client::{Slot, Waiter};
use crate::dispatch::Request;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::forward::Payload;
use crate::pool::{Access, Target};
use crate::settle::Ended;
use crate::split::{PartReply, Split};

const CURSOR_BITS: u32 = 44;
const SLOT_BITS: u32 = 14;

/// Where a walk over the shards stands.
#[derive(Debug)]
pub(crate) enum Walk {
    Scan(Scan),
    /// Shards still to be asked, in random order.
    Seek {
        pool: usize,
        shards: Vec<usize>,
        frame: Vec<u8>,
    },
}

#[derive(Debug)]
pub(crate) struct Scan {
    pool: usize,
    shard: usize,
    /// The arguments behind the cursor.
    options: Vec<Vec<u8>>,
    /// How many elements make a full answer.
    count: u64,
    found: u64,
    elements: Vec<u8>,
}

impl Engine {
    /// SCAN.
    pub(crate) fn scan(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let Some(cursor) = std::str::from_utf8(request.arg(1))
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
        else {
            return self.answer(key, b"-ERR invalid cursor\r\n");
        };
        let Some((_, pool)) = self.keyless_pool(key, command) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let Some((shard, cursor)) = self.locate(pool, cursor) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let options: Vec<Vec<u8>> = (2..request.len()).map(|i| request.arg(i).to_vec()).collect();
        let count = count_option(&options);
        let scan = Scan {
            pool,
            shard,
            options,
            count,
            found: 0,
            elements: Vec::new(),
        };
        let frame = scan_frame(cursor, &scan.options);
        let mut split = Split::new(command, self.now, 1, Vec::new());
        split.walk = Some(Box::new(Walk::Scan(scan)));
        let waiter = self.expect_reply(key, Slot::Split(Box::new(split)));
        self.send_to(
            pool,
            Target::Shard(shard),
            Access::Primary,
            command,
            waiter,
            Payload::Copied(&frame),
        );
    }

    /// The shard a cursor means now, and the server's own cursor there.
    fn locate(&self, pool: usize, cursor: u64) -> Option<(usize, u64)> {
        let topology = &self.pools[pool].live.as_ref()?.topology;
        if topology.shard_count() == 0 {
            return None;
        }
        if cursor == 0 {
            return Some((0, 0));
        }
        let server = cursor & ((1 << CURSOR_BITS) - 1);
        let lowest = (cursor >> CURSOR_BITS) & ((1 << SLOT_BITS) - 1);
        // Whoever has that slot now: a shard whose lowest slot has moved is begun again.
        let owner = topology.slots().and_then(|map| map.shard_of(lowest as u16));
        let behind = || (0..topology.shard_count()).find(|shard| lowest_slot(topology, *shard) >= lowest);
        let last = topology.shard_count() - 1;
        let shard = owner.or_else(behind).unwrap_or(last);
        let same = lowest_slot(topology, shard) == lowest
            && identity(topology, shard) == cursor >> (CURSOR_BITS + SLOT_BITS);
        Some((shard, if same { server } else { 0 }))
    }

    /// RANDOMKEY.
    pub(crate) fn seek(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let Some((_, pool)) = self.keyless_pool(key, command) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let mut shards: Vec<usize> = (0..self.pools[pool]
            .live
            .as_ref()
            .map_or(0, |live| live.topology.shard_count()))
            .collect();
        self.random.shuffle(&mut shards);
        let Some(shard) = shards.pop() else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let mut split = Split::new(command, self.now, 1, Vec::new());
        split.walk = Some(Box::new(Walk::Seek {
            pool,
            shards,
            frame: request.frame.to_vec(),
        }));
        let waiter = self.expect_reply(key, Slot::Split(Box::new(split)));
        self.send_to(
            pool,
            Target::Shard(shard),
            Access::Primary,
            command,
            waiter,
            Payload::Copied(request.frame),
        );
    }

    /// A shard has answered: on to the next one, or back to the client.
    pub(crate) fn walk_on(&mut self, key: usize, offset: usize, mut split: Box<Split>) {
        let (Some(walk), Some(part)) = (split.walk.take(), split.parts.pop()) else {
            return;
        };
        let raw = match (&part, split.raw(&part)) {
            (_, Some(raw)) => raw.to_vec(),
            (PartReply::Failed(failure), None) => failure.reply().to_vec(),
            (_, None) => return,
        };
        match *walk {
            Walk::Scan(scan) => self.scan_on(key, offset, split, scan, raw),
            Walk::Seek {
                pool,
                mut shards,
                frame,
            } => match shards
                .pop()
                .filter(|_| raw.starts_with(b"$-1") || raw.starts_with(b"_"))
            {
                Some(shard) => {
                    let walk = Walk::Seek {
                        pool,
                        shards,
                        frame: frame.clone(),
                    };
                    self.ask_next(key, offset, split, walk, shard, &frame);
                }
                None => self.end_walk(key, offset, &split, &raw),
            },
        }
    }

    fn scan_on(&mut self, key: usize, offset: usize, split: Box<Split>, mut scan: Scan, raw: Vec<u8>) {
        let Some((cursor, count, elements)) = page(&raw) else {
            return self.end_walk(key, offset, &split, &raw);
        };
        scan.elements.extend_from_slice(elements);
        scan.found += count;
        let Some(live) = &self.pools[scan.pool].live else {
            return self.end_walk(key, offset, &split, Failure::NoHost.reply());
        };
        let topology = live.topology.clone();
        let next = if cursor != 0 { scan.shard } else { scan.shard + 1 };
        if cursor == 0 && next < topology.shard_count() && scan.found < scan.count {
            scan.shard = next;
            let frame = scan_frame(0, &scan.options);
            return self.ask_next(key, offset, split, Walk::Scan(scan), next, &frame);
        }
        if cursor >> CURSOR_BITS != 0 {
            return self.end_walk(
                key,
                offset,
                &split,
                b"-ERR the server's cursor is too large for the proxy\r\n",
            );
        }
        let ours = match next < topology.shard_count() {
            true => pack(&topology, next, cursor),
            false => 0,
        };
        let mut answer = Vec::with_capacity(scan.elements.len() + 48);
        encode::array(&mut answer, 2);
        encode::bulk(&mut answer, ours.to_string().as_bytes());
        encode::array(&mut answer, scan.found as usize);
        answer.extend_from_slice(&scan.elements);
        self.end_walk(key, offset, &split, &answer);
    }

    fn ask_next(
        &mut self,
        key: usize,
        offset: usize,
        mut split: Box<Split>,
        walk: Walk,
        shard: usize,
        frame: &[u8],
    ) {
        let pool = match &walk {
            Walk::Scan(scan) => scan.pool,
            Walk::Seek { pool, .. } => *pool,
        };
        let command = split.command;
        *split = Split::new(command, split.since, 1, Vec::new());
        split.walk = Some(Box::new(walk));
        let client = &mut self.clients[key];
        let sequence = client.head.wrapping_add(offset as u32);
        let waiter = Waiter {
            client: key as u32,
            generation: client.generation,
            sequence,
            part: 0,
        };
        if let Some(slot) = client.queue.get_mut(offset) {
            *slot = Slot::Split(split);
        }
        self.send_to(
            pool,
            Target::Shard(shard),
            Access::Primary,
            command,
            waiter,
            Payload::Copied(frame),
        );
    }

    fn end_walk(&mut self, key: usize, offset: usize, split: &Split, reply: &[u8]) {
        let ended = Ended {
            command: split.command.id,
            success: !reply.starts_with(b"-"),
            since: split.since,
        };
        self.deliver(key, offset, ended, reply);
    }
}

/// The number behind COUNT, as far as it makes sense; 10 is Redis's default.
fn count_option(options: &[Vec<u8>]) -> u64 {
    let count = options
        .windows(2)
        .rev()
        .find(|pair| pair[0].eq_ignore_ascii_case(b"COUNT"));
    count
        .and_then(|pair| std::str::from_utf8(&pair[1]).ok()?.parse().ok())
        .unwrap_or(10)
}

fn scan_frame(cursor: u64, options: &[Vec<u8>]) -> Vec<u8> {
    let cursor = cursor.to_string();
    let mut args: Vec<&[u8]> = vec![b"SCAN", cursor.as_bytes()];
    args.extend(options.iter().map(Vec::as_slice));
    let mut frame = Vec::new();
    encode::request(&mut frame, &args);
    frame
}

/// The cursor, the count and the raw elements of a server's answer.
fn page(raw: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (2, start) = reply::array_header(raw)? else {
        return None;
    };
    let reply::Scan::Whole(cursor_len) = reply::Scanner::default().scan(raw.get(start..)?).ok()? else {
        return None;
    };
    let cursor = std::str::from_utf8(reply::bulk_payload(&raw[start..])?)
        .ok()?
        .parse()
        .ok()?;
    let list = raw.get(start + cursor_len..)?;
    let (count, first) = reply::array_header(list)?;
    Some((cursor, count, list.get(first..)?))
}

fn pack(topology: &Topology, shard: usize, cursor: u64) -> u64 {
    identity(topology, shard) << (CURSOR_BITS + SLOT_BITS)
        | lowest_slot(topology, shard) << CURSOR_BITS
        | cursor
}

/// Where a shard begins; without slots, its number and one, so that its cursor 0 does not look like the end.
fn lowest_slot(topology: &Topology, shard: usize) -> u64 {
    match topology.slots() {
        Some(map) => map
            .shards
            .get(shard)
            .and_then(|shard| shard.ranges.first())
            .map_or(0, |(low, _)| u64::from(*low)),
        None => shard as u64,
    }
}

/// A few bits of who the primary is.
fn identity(topology: &Topology, shard: usize) -> u64 {
    let primary = topology
        .slots()
        .and_then(|map| map.shards.get(shard))
        .map_or(shard, |shard| shard.primary);
    let address = topology
        .hosts
        .get(primary)
        .map(|host| host.address.to_string())
        .unwrap_or_default();
    redplane_command::murmur2(address.as_bytes()) & 0x1f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read() {
        assert_eq!(
            page(b"*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            Some((17, 2, &b"$1\r\na\r\n$1\r\nb\r\n"[..]))
        );
        assert_eq!(page(b"*2\r\n$1\r\n0\r\n*0\r\n"), Some((0, 0, &b""[..])));
        assert_eq!(page(b"-ERR invalid cursor\r\n"), None);
    }

    #[test]
    fn the_last_count_counts() {
        let options = |words: &[&str]| words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(count_option(&options(&["MATCH", "*"])), 10);
        assert_eq!(
            count_option(&options(&["count", "3", "MATCH", "x", "COUNT", "50"])),
            50
        );
    }
}
