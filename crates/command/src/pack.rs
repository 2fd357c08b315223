//! A command name as two integers and a length, letters folded to lower case: two names are the same
//! command exactly when these are equal (names longer than 16 bytes need one more comparison).
//!
//! Shared by the build script, which lays out the index, and by `lookup`, which reads it; it must not
//! allocate and must take any bytes.

/// Bits of a slot number in the name index.
pub(crate) const INDEX_BITS: u32 = 10;

/// The packed form of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The first eight bytes, or all of a shorter name (overlapping pieces where that is cheaper).
    pub(crate) low: u64,
    /// The last eight bytes of a name up to 16 bytes long, bytes 8 to 15 of a longer one.
    pub(crate) high: u64,
    /// Length in bytes, as far as it fits; no command is longer than 255 bytes.
    pub(crate) len: u8,
}

impl Packed {
    /// The slot where the search for this name begins.
    #[inline]
    pub(crate) fn slot(self, seed: u64) -> usize {
        let mixed = (self.low ^ self.high.rotate_left(23))
            .wrapping_add(u64::from(self.len))
            .wrapping_mul(seed);
        usize::try_from(mixed >> (64 - INDEX_BITS)).unwrap_or(0)
    }
}

/// Packs any bytes. Bytes beyond the sixteenth are not looked at.
#[inline]
pub(crate) fn pack(name: &[u8]) -> Packed {
    let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let Some(low) = name.first_chunk::<8>() else {
        let low = fold(short(name));
        return Packed { low, high: 0, len };
    };
    let second = name.get(8..16).and_then(|second| second.first_chunk::<8>());
    let high = second
        .or_else(|| name.last_chunk::<8>())
        .map_or(0, |high| u64::from_le_bytes(*high));
    Packed {
        low: fold(u64::from_le_bytes(*low)),
        high: fold(high),
        len,
    }
}

/// Up to seven bytes. Pieces may overlap: with the length known the integer is still one to one.
#[inline]
fn short(name: &[u8]) -> u64 {
    match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (Some(head), Some(tail)) => {
            u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32
        }
        _ => {
            let at = |place: usize| name.get(place).map_or(0, |byte| u64::from(*byte));
            at(0) | at(name.len() / 2) << 8 | at(name.len().saturating_sub(1)) << 16
        }
    }
}

/// `A` to `Z` become `a` to `z` in all eight bytes at once; every other byte stays.
#[inline]
fn fold(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low_bits = word & (0x7f * ONES);
    let from_a = low_bits + (0x80 - b'A' as u64) * ONES;
    let beyond_z = low_bits + (0x7f - b'Z' as u64) * ONES;
    let upper = !word & (from_a ^ beyond_z) & (0x80 * ONES);
    word | upper >> 2
}
