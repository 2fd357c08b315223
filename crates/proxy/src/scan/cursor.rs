//! SCAN's cursor: where a scan is, in one number that a client hands back.
//!
//! `moved:1 | again:1 | map:8 | lowest slot:14 | server's cursor:39`. It names the shard by its lowest slot, not by its place
//! in the map, and carries a few bits of the whole map: who serves what.

use redplane_resp::reply;
use redplane_upstream::Topology;

pub(super) const CURSOR_BITS: u32 = 39;
const SLOT_BITS: u32 = 14;
const MAP_BITS: u32 = 8;
const AGAIN: u64 = 1 << (CURSOR_BITS + SLOT_BITS + MAP_BITS);
const MOVED: u64 = AGAIN << 1;

/// Where a scan is, as its cursor says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) shard: usize,
    /// The server's own cursor there.
    pub(super) cursor: u64,
    /// Who serves what changed during this pass.
    pub(super) moved: bool,
    /// The last pass ended while slots were on their way.
    pub(super) again: bool,
    /// [`map_of`] the topology.
    pub(super) map: u64,
}

impl Position {
    /// The beginning of a pass.
    pub(super) fn begin(topology: &Topology) -> Self {
        Self {
            map: map_of(topology),
            ..Self::default()
        }
    }
}

/// Where a cursor leads now; `None` when there are no shards.
pub(super) fn locate(topology: &Topology, cursor: u64) -> Option<Position> {
    let begin = Position::begin(topology);
    if topology.shard_count() == 0 || cursor == 0 {
        return (topology.shard_count() > 0).then_some(begin);
    }
    let field = |from: u32, bits: u32| cursor >> from & ((1 << bits) - 1);
    let lowest = field(CURSOR_BITS, SLOT_BITS);
    // Whoever has that slot now.
    let owner = topology.slots().and_then(|map| map.shard_of(lowest as u16));
    let behind = || (0..topology.shard_count()).find(|shard| lowest_slot(topology, *shard) >= lowest);
    let last = topology.shard_count() - 1;
    let shard = owner.or_else(behind).unwrap_or(last);
    // A shard whose lowest slot has moved is begun again.
    let same = lowest_slot(topology, shard) == lowest;
    Some(Position {
        shard,
        cursor: if same { field(0, CURSOR_BITS) } else { 0 },
        moved: cursor & MOVED != 0 || field(CURSOR_BITS + SLOT_BITS, MAP_BITS) != begin.map,
        again: cursor & AGAIN != 0,
        ..begin
    })
}

/// A cursor, which is never 0: a map is not.
pub(super) fn pack(topology: &Topology, at: Position) -> u64 {
    let flag = |set: bool, flag: u64| if set { flag } else { 0 };
    flag(at.moved, MOVED)
        | flag(at.again, AGAIN)
        | at.map << (CURSOR_BITS + SLOT_BITS)
        | lowest_slot(topology, at.shard) << CURSOR_BITS
        | at.cursor
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

/// A few bits of who serves what, never 0. The same in all workers and after a restart.
pub(super) fn map_of(topology: &Topology) -> u64 {
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
