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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_libstdcxx() {
        // Printed by `std::hash<std::string>` of GCC 12.
        let known: [(&[u8], u64); 7] = [
            (b"", 0x553e_9390_1e46_2a6e),
            (b"a", 0x454d_dee4_88c1_ed6b),
            (b"foo", 0x85a8_e535_edf1_1e5a),
            (b"user:1000", 0x8994_edea_5ecc_efdb),
            (b"12345678", 0x8c5b_90a3_3a04_dca5),
            (b"key:000000001234", 0xee34_d41b_13fa_9195),
            (b"{tag}x\xff\x80", 0xed52_03ee_9794_44be),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key), hash, "{key:?}");
        }
    }
}
