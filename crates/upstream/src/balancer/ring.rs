//! RING_HASH: points on a ring of 64-bit hashes, as Envoy's `ring_hash_lb.cc` places and finds them.

use redplane_command::murmur2;
use redplane_config::cluster::RingHashFunction;
use twox_hash::XxHash64;

/// Points in ascending order, each with its host.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// Hosts with their shares, what stands for each, the smallest and largest number of points, and their hash.
    pub(super) fn new(
        hosts: &[(usize, f64)],
        key: impl Fn(usize) -> String,
        (minimum, maximum): (u64, u64),
        function: RingHashFunction,
    ) -> Self {
        let least = hosts
            .iter()
            .map(|(_, share)| *share)
            .fold(f64::INFINITY, f64::min);
        if hosts.is_empty() || least <= 0.0 {
            return Self::default();
        }
        // The lightest host gets a whole number of points; the others get what their share comes to in running sums,
        // in the same floating point steps as Envoy.
        let scale = ((least * minimum as f64).ceil() / least).min(maximum as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize + 1);
        let (mut placed, mut target) = (0.0, 0.0);
        for (host, share) in hosts {
            let prefix = key(*host) + "_";
            target += scale * share;
            for i in 0_u64.. {
                if placed >= target {
                    break;
                }
                points.push((hash(function, format!("{prefix}{i}").as_bytes()), *host as u32));
                placed += 1.0;
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// The first point at or above the hash, else the first of all. This is what Envoy's search finds.
    pub(super) fn choose(&self, hash: u64) -> Option<usize> {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        let (_, host) = self.points.get(at).or_else(|| self.points.first())?;
        Some(*host as usize)
    }

    pub(super) fn hosts(&self) -> Vec<usize> {
        let mut hosts: Vec<usize> = self.points.iter().map(|(_, host)| *host as usize).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }
}

fn hash(function: RingHashFunction, text: &[u8]) -> u64 {
    match function {
        RingHashFunction::XxHash => XxHash64::oneshot(0, text),
        RingHashFunction::MurmurHash2 => murmur2(text),
    }
}
