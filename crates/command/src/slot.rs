//! Hash slots: CRC16/XMODEM of the key's hash tag, modulo 16384 (Redis cluster specification, "Key
//! distribution model"). Polynomial 0x1021, initial value 0; "123456789" gives 0x31C3.

/// Number of hash slots in a cluster.
pub const SLOTS: u16 = 16384;

/// `TABLES[k][b]` is the checksum of byte `b` with `k` zero bytes behind it.
static TABLES: [[u16; 256]; 8] = tables();

#[expect(clippy::indexing_slicing, reason = "computed while compiling")]
const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = (byte as u16) << 8;
        let mut zeros = 0;
        while zeros < 8 {
            let mut bit = 0;
            while bit < 8 {
                sum = if sum & 0x8000 == 0 {
                    sum << 1
                } else {
                    sum << 1 ^ 0x1021
                };
                bit += 1;
            }
            tables[zeros][byte] = sum;
            zeros += 1;
        }
        byte += 1;
    }
    tables
}

/// The hash slot of a key.
#[inline]
pub fn slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// The part of a key that is hashed: between the first `{` and the next `}`, if that is not empty.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let tag = || {
        let start = key.iter().position(|byte| *byte == b'{')? + 1;
        let rest = key.get(start..)?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..end).filter(|tag| !tag.is_empty())
    };
    tag().unwrap_or(key)
}

/// CRC16/XMODEM, eight bytes at a time.
///
/// Zero bytes in front do not change a checksum that begins with 0, so the odd bytes go first, padded.
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    let (odd, words) = bytes.split_at(bytes.len() % 8);
    let (words, _) = words.as_chunks::<8>();
    let mut sum = if odd.is_empty() { 0 } else { step(0, padded(odd)) };
    for word in words {
        sum = step(sum, u64::from_be_bytes(*word));
    }
    sum
}

/// Up to seven bytes as a big-endian integer.
#[inline]
fn padded(odd: &[u8]) -> u64 {
    odd.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[inline]
#[expect(clippy::indexing_slicing, reason = "a byte is an index below 256")]
fn step(sum: u16, word: u64) -> u16 {
    let [a, b, c, d, e, f, g, h] = (word ^ u64::from(sum) << 48).to_be_bytes().map(usize::from);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    t7[a] ^ t6[b] ^ t5[c] ^ t4[d] ^ t3[e] ^ t2[f] ^ t1[g] ^ t0[h]
}
