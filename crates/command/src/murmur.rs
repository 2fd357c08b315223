//! MurmurHash2 with 64 bits, as libstdc++'s `std::hash` has it: what Envoy hands to RING_HASH and MAGLEV, so
//! the same key goes to the same host through Envoy and through redplane.

const SEED: u64 = 0xc70f_6907;
const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;

/// The hash of a key for upstreams that are no Redis cluster.
#[inline]
pub fn murmur2(key: &[u8]) -> u64 {
    let (words, rest) = key.as_chunks::<8>();
    let length = u64::try_from(key.len()).unwrap_or(u64::MAX);
    let mut hash = SEED ^ length.wrapping_mul(MULTIPLIER);
    for word in words {
        let mixed = shift_mix(u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
        hash = (hash ^ mixed).wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let tail = rest
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    shift_mix(shift_mix(hash).wrapping_mul(MULTIPLIER))
}

const fn shift_mix(word: u64) -> u64 {
    word ^ word >> 47
}
