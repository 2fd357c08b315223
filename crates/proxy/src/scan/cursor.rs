//! SCAN's cursor: where a scan is, in one number that a client hands back.
//!
//! `server's cursor:34 | lowest slot:14 | map:8 | cluster:4 | kept:1 | again:1 | moved:1`. It numbers the cluster among those
//! of the routes, names the shard by its lowest slot and not by its place in the map, and carries a few bits of the whole
//! map: who serves what. A cluster's number or a server's cursor that has no room is [`Kept`] apart.
//!
//! The server's part stands highest, so that the whole is below 2^53 for up to 16 million keys a shard: some clients
//! (node-redis 4) take cursors for floating-point numbers.

use redplane_resp::reply;
use redplane_upstream::{Pick, Topology, Want};

use super::kept::{Kept, ScanPlace};

const SERVER_BITS: u32 = 34;
const SLOT_BITS: u32 = 14;
const MAP_BITS: u32 = 8;
const CLUSTER_BITS: u32 = 4;
const MOVED: u64 = 1;
const AGAIN: u64 = 2;
const KEPT: u64 = 4;
const CLUSTER_AT: u32 = 3;
const MAP_AT: u32 = CLUSTER_AT + CLUSTER_BITS;
const SLOT_AT: u32 = MAP_AT + MAP_BITS;
const SERVER_AT: u32 = SLOT_AT + SLOT_BITS;

/// Where a scan is, as its cursor says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Which cluster of the routes.
    pub(super) cluster: usize,
    pub(super) shard: usize,
    /// The server's own cursor there.
    pub(super) cursor: u64,
    /// Who serves what changed during this pass.
    pub(super) moved: bool,
    /// The last pass ended while slots were on their way.
    pub(super) again: bool,
    /// [`map_of`] the topology.
    pub(super) map: u64,
    /// Of the topology by which the shard was counted: it does not outlive a call.
    pub(super) version: u64,
}

/// A client's cursor, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) cluster: usize,
    server: u64,
    lowest: u64,
    map: u64,
    moved: bool,
    again: bool,
    /// It names a place that is not kept any more, or it is 0.
    begins: bool,
}

impl Position {
    /// The beginning of a pass over one cluster.
    pub(super) fn begin(cluster: usize, topology: &Topology) -> Self {
        Self {
            cluster,
            map: map_of(topology),
            version: topology.version,
            ..Self::default()
        }
    }

    /// As a client's cursor, which is never 0: a map is not.
    pub(super) fn pack(self, topology: &Topology, kept: &Kept) -> u64 {
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let most = (1 << CLUSTER_BITS) - 1;
        let fits = self.cluster <= most && self.cursor >> SERVER_BITS == 0;
        let server = match fits {
            true => self.cursor,
            false => {
                let (cluster, cursor) = (self.cluster, self.cursor);
                kept.keep(ScanPlace { cluster, cursor }, SERVER_BITS)
            }
        };
        flag(self.moved, MOVED)
            | flag(self.again, AGAIN)
            | flag(!fits, KEPT)
            | (self.cluster.min(most) as u64) << CLUSTER_AT
            | self.map << MAP_AT
            | lowest_slot(topology, self.shard) << SLOT_AT
            | server << SERVER_AT
    }
}

impl Cursor {
    pub(super) fn unpack(cursor: u64, kept: &Kept) -> Self {
        let field = |from: u32, bits: u32| cursor >> from & ((1 << bits) - 1);
        let named = field(SERVER_AT, SERVER_BITS);
        let numbered = ScanPlace {
            cluster: field(CLUSTER_AT, CLUSTER_BITS) as usize,
            cursor: named,
        };
        let place = match cursor & KEPT {
            0 => Some(numbered),
            _ => kept.find(named, SERVER_BITS),
        };
        Self {
            cluster: place.unwrap_or(numbered).cluster,
            server: place.map_or(0, |place| place.cursor),
            lowest: field(SLOT_AT, SLOT_BITS),
            map: field(MAP_AT, MAP_BITS),
            moved: cursor & MOVED != 0,
            again: cursor & AGAIN != 0,
            begins: cursor == 0 || place.is_none(),
        }
    }

    /// Where it leads now, `cluster` being the one that it names or, when that is not there, the one that is next;
    /// `None` when there are no shards.
    pub(super) fn locate(self, cluster: usize, topology: &Topology) -> Option<Position> {
        let begin = Position::begin(cluster, topology);
        let last = topology.shard_count().checked_sub(1)?;
        if self.begins {
            return Some(begin);
        }
        if cluster != self.cluster {
            // The routes have changed, and with them the numbers.
            return Some(Position { moved: true, ..begin });
        }
        // Whoever has that slot now.
        let owner = topology.slots().and_then(|map| map.shard_of(self.lowest as u16));
        let behind = || (0..=last).find(|shard| lowest_slot(topology, *shard) >= self.lowest);
        let shard = owner.or_else(behind).unwrap_or(last);
        // A shard whose lowest slot has moved is begun again.
        let same = lowest_slot(topology, shard) == self.lowest;
        Some(Position {
            shard,
            cursor: if same { self.server } else { 0 },
            moved: self.moved || self.map != begin.map,
            again: self.again,
            ..begin
        })
    }
}

/// What a node says of itself in CLUSTER NODES.
pub(super) fn own_line(raw: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(reply::text_payload(raw)?).ok()?;
    text.lines().find(|line| {
        line.split(' ')
            .nth(2)
            .is_some_and(|flags| flags.contains("myself"))
    })
}

/// Whether a primary serves what the map says, and no slot is on its way to it or from it (`[93->-id]`, `[93-<-id]`).
pub(super) fn is_settled(topology: &Topology, shard: usize, line: &str) -> bool {
    let Some(map) = topology.slots() else {
        return true;
    };
    let mut served = 0;
    for range in line.split(' ').skip(8) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return false;
        };
        if (first..=last).any(|slot| map.shard_of(slot) != Some(shard)) {
            return false;
        }
        served += u32::from(last.saturating_sub(first)) + 1;
    }
    let known = map.shards.get(shard).map_or(0, |shard| {
        shard
            .ranges
            .iter()
            .map(|(first, last)| u32::from(last - first) + 1)
            .sum()
    });
    served == known
}

/// Where a shard begins; without slots, the place of its host, which stays while others come to be ill and well again.
fn lowest_slot(topology: &Topology, shard: usize) -> u64 {
    match topology.slots() {
        Some(map) => map
            .shards
            .get(shard)
            .and_then(|shard| shard.ranges.first())
            .map_or(0, |(low, _)| u64::from(*low)),
        None => match topology.by_shard(shard, Want::Primary) {
            Pick::Host(host) => host as u64 & ((1 << SLOT_BITS) - 1),
            Pick::Unserved | Pick::NoHost => 0,
        },
    }
}

/// A few bits of who serves what, never 0. The same in all workers and after a restart.
fn map_of(topology: &Topology) -> u64 {
    let mut seen = Vec::new();
    let mut add = |host: usize| {
        if let Some(host) = topology.hosts.get(host) {
            seen.extend_from_slice(host.address.to_string().as_bytes());
        }
    };
    match topology.slots() {
        Some(map) => {
            map.shards.iter().for_each(|shard| add(shard.primary));
            let ranges = map.shards.iter().flat_map(|shard| &shard.ranges);
            ranges.for_each(|(first, last)| {
                seen.extend(first.to_be_bytes());
                seen.extend(last.to_be_bytes());
            });
        }
        None => (0..topology.hosts.len()).for_each(add),
    }
    1 + redplane_command::murmur2(&seen) % ((1 << MAP_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use redplane_resp::encode;

    use super::*;

    #[test]
    fn a_node_speaks_of_itself_in_one_line() {
        let text = "a 127.0.0.1:1@2 master - 0 0 1 connected 0-5\nb 127.0.0.1:2@3 myself,master - 0 0 2 connected 6-9 [3->-a]\n";
        let mut raw = Vec::new();
        encode::bulk(&mut raw, text.as_bytes());
        assert_eq!(own_line(&raw), text.lines().nth(1));
        assert_eq!(own_line(b"-NOPERM no\r\n"), None);
    }
}
