//! The slot table of a Redis Cluster: 16384 slots, each with the shard that serves it or none.

use crate::host::Role;

/// Number of slots of every Redis Cluster.
pub const SLOTS: u16 = 16384;

/// A slot that no shard claims.
const NONE: u16 = u16::MAX;

/// A primary with its replicas and the slots it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Index in [`Topology::hosts`](crate::Topology).
    pub primary: usize,
    /// Indices in [`Topology::hosts`](crate::Topology).
    pub replicas: Vec<usize>,
    /// First and last slot of each range, ascending; empty where there are no slots.
    pub ranges: Vec<(u16, u16)>,
}

impl Shard {
    /// What a host is in this shard.
    pub fn role(&self, host: usize) -> Option<Role> {
        if self.primary == host {
            return Some(Role::Primary);
        }
        self.replicas.contains(&host).then_some(Role::Replica)
    }
}

/// Shards and the slots they serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    /// Ordered by lowest slot.
    pub shards: Vec<Shard>,
    slots: Box<[u16]>,
}

/// What one shard says it serves, before it is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Index of its host.
    pub primary: usize,
    /// Indices of their hosts.
    pub replicas: Vec<usize>,
    /// First and last slot of each range.
    pub ranges: Vec<(u16, u16)>,
}

impl SlotMap {
    /// A map that serves nothing.
    pub fn empty() -> Self {
        Self {
            shards: Vec::new(),
            slots: vec![NONE; usize::from(SLOTS)].into(),
        }
    }

    /// A map of claims. Where two overlap the later one wins; a claim that is left without a slot is dropped. Ranges
    /// beyond the last slot are cut.
    pub fn of(claims: &[Claim]) -> Self {
        let mut owners = vec![NONE; usize::from(SLOTS)];
        for (at, claim) in claims.iter().enumerate().take(usize::from(SLOTS)) {
            for (first, last) in &claim.ranges {
                for slot in *first..=(*last).min(SLOTS - 1) {
                    owners[usize::from(slot)] = at as u16;
                }
            }
        }
        Self::in_order(&owners, claims)
    }

    fn in_order(owners: &[u16], claims: &[Claim]) -> Self {
        let mut places = vec![NONE; claims.len()];
        let mut map = Self::empty();
        for (slot, owner) in owners.iter().enumerate().filter(|(_, owner)| **owner != NONE) {
            let claim = &claims[usize::from(*owner)];
            let place = &mut places[usize::from(*owner)];
            if *place == NONE {
                *place = map.shards.len() as u16;
                let (primary, replicas) = (claim.primary, claim.replicas.clone());
                map.shards.push(Shard {
                    primary,
                    replicas,
                    ranges: Vec::new(),
                });
            }
            map.slots[slot] = *place;
            let ranges = &mut map.shards[usize::from(*place)].ranges;
            let slot = slot as u16;
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        map
    }

    /// The shard that serves a slot.
    #[inline]
    pub fn shard_of(&self, slot: u16) -> Option<usize> {
        let shard = *self.slots.get(usize::from(slot))?;
        (shard != NONE).then_some(usize::from(shard))
    }

    /// How many slots are served.
    pub fn served(&self) -> usize {
        self.slots.iter().filter(|shard| **shard != NONE).count()
    }

    /// The map after `-MOVED slot host` answers: a primary gets the slot; a replica was promoted, so it changes places
    /// with its primary and gets the slot; a host without a shard becomes one.
    pub fn moved(&self, moves: &[(u16, usize)]) -> Self {
        let mut owners = self.slots.to_vec();
        let mut claims: Vec<Claim> = self.shards.iter().map(Claim::from).collect();
        for (slot, host) in moves {
            let Some(owner) = owners.get_mut(usize::from(*slot)) else {
                continue;
            };
            let at = claims
                .iter_mut()
                .position(|claim| claim.led_by(*host))
                .unwrap_or_else(|| {
                    claims.push(Claim {
                        primary: *host,
                        replicas: Vec::new(),
                        ranges: Vec::new(),
                    });
                    claims.len() - 1
                });
            *owner = at as u16;
        }
        Self::in_order(&owners, &claims)
    }
}

impl Claim {
    /// Whether the host belongs to the shard; if so it is its primary from now on.
    fn led_by(&mut self, host: usize) -> bool {
        if self.primary == host {
            return true;
        }
        match self.replicas.iter_mut().find(|replica| **replica == host) {
            Some(replica) => {
                *replica = std::mem::replace(&mut self.primary, host);
                true
            }
            None => false,
        }
    }
}

impl From<&Shard> for Claim {
    fn from(shard: &Shard) -> Self {
        Self {
            primary: shard.primary,
            replicas: shard.replicas.clone(),
            ranges: shard.ranges.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(primary: usize, replicas: &[usize], ranges: &[(u16, u16)]) -> Claim {
        Claim {
            primary,
            replicas: replicas.to_vec(),
            ranges: ranges.to_vec(),
        }
    }

    #[test]
    fn shards_stand_in_the_order_of_their_lowest_slot() {
        let map = SlotMap::of(&[
            claim(0, &[3], &[(10000, 16383)]),
            claim(1, &[], &[(0, 5), (7, 9)]),
        ]);
        assert_eq!(map.shards[0].primary, 1);
        assert_eq!(map.shards[0].ranges, [(0, 5), (7, 9)]);
        assert_eq!(
            (map.shard_of(6), map.shard_of(7), map.shard_of(16383)),
            (None, Some(0), Some(1))
        );
        assert_eq!(map.served(), 9 + 6384);
    }

    #[test]
    fn a_later_claim_wins_and_an_empty_one_vanishes() {
        let map = SlotMap::of(&[
            claim(0, &[], &[(0, 100)]),
            claim(1, &[], &[(0, 200)]),
            claim(2, &[], &[(9, 3)]),
        ]);
        assert_eq!(map.shards.len(), 1);
        assert_eq!(map.shards[0].primary, 1);
        assert_eq!(SlotMap::of(&[claim(0, &[], &[(16000, u16::MAX)])]).served(), 384);
    }

    #[test]
    fn moved_to_a_primary_takes_the_slot_along() {
        let map = SlotMap::of(&[claim(0, &[2], &[(0, 99)]), claim(1, &[3], &[(100, 199)])]);
        let moved = map.moved(&[(50, 1), (51, 1)]);
        assert_eq!(moved.shards[0].ranges, [(0, 49), (52, 99)]);
        assert_eq!(moved.shards[1].ranges, [(50, 51), (100, 199)]);
        assert_eq!(moved.shards[1].replicas, [3]);
    }

    #[test]
    fn moved_to_a_replica_is_a_failover() {
        let map = SlotMap::of(&[claim(0, &[2, 4], &[(0, 99)]), claim(1, &[3], &[(100, 199)])]);
        let moved = map.moved(&[(50, 2)]);
        assert_eq!(
            moved.shards[0],
            Shard {
                primary: 2,
                replicas: vec![0, 4],
                ranges: vec![(0, 99)]
            }
        );
    }

    #[test]
    fn moved_to_a_stranger_makes_a_shard() {
        let map = SlotMap::of(&[claim(0, &[], &[(0, 99)])]);
        let moved = map.moved(&[(0, 7), (1, 7), (16384, 7)]);
        assert_eq!(
            moved.shards[0],
            Shard {
                primary: 7,
                replicas: vec![],
                ranges: vec![(0, 1)]
            }
        );
        assert_eq!(moved.shards[1].ranges, [(2, 99)]);
    }
}
