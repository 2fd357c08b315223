//! Decimal lengths and counts, as strictly as redis-server reads them: no sign but `-`, no leading zeros, no
//! blanks. Strictness also makes a forwarded frame mean the same to every server.

/// A line that ends in CR LF and holds one integer.
pub(crate) enum Line {
    /// The integer and the position behind the LF.
    Number(i64, usize),
    /// The line is not there as a whole.
    Incomplete,
    /// Not an integer.
    NotANumber,
    /// CR without LF.
    NoLineFeed,
}

/// Reads the line that starts at `at`. Short lines, nearly all there are, are read by hand: a search costs more.
#[inline]
pub(crate) fn line(buf: &[u8], at: usize) -> Line {
    match short(buf, at) {
        Some((number, next)) => Line::Number(number as i64, next),
        None => long_line(&buf[at.min(buf.len())..], at),
    }
}

/// The number below 100 whose line starts at `at`, and the position behind its LF. `None` for any other line, and for
/// the last bytes of a buffer: four are looked at together.
#[inline]
pub(crate) fn short(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    const CR_LF: u32 = u16::from_le_bytes(*b"\r\n") as u32;
    let word = u32::from_le_bytes(*buf.get(at..)?.first_chunk::<4>()?);
    let first = (word & 0xff).wrapping_sub(u32::from(b'0'));
    if word >> 8 & 0xffff == CR_LF && first < 10 {
        return Some((first as usize, at + 3));
    }
    let second = (word >> 8 & 0xff).wrapping_sub(u32::from(b'0'));
    // No leading zero: 1 to 9.
    if word >> 16 == CR_LF && first.wrapping_sub(1) < 9 && second < 10 {
        return Some(((first * 10 + second) as usize, at + 4));
    }
    None
}

/// The number below 100 of the header (`*2`, `$16`) that begins `buf`, and the position behind its LF, with one load for
/// all of it. `None` for anything else.
#[inline]
pub(crate) fn header(buf: &[u8], kind: u8) -> Option<(usize, usize)> {
    const ONE: u64 = u64::from_le_bytes([0xff, 0, 0xff, 0xff, 0, 0, 0, 0]);
    const TWO: u64 = u64::from_le_bytes([0xff, 0, 0, 0xff, 0xff, 0, 0, 0]);
    let Some(word) = buf.first_chunk::<8>() else {
        // The last bytes there are.
        return short(buf, 1).filter(|_| buf.first() == Some(&kind));
    };
    let word = u64::from_le_bytes(*word);
    let first = (word >> 8 & 0xff).wrapping_sub(u64::from(b'0'));
    if word & ONE == u64::from_le_bytes([kind, 0, b'\r', b'\n', 0, 0, 0, 0]) && first < 10 {
        return Some((first as usize, 4));
    }
    let second = (word >> 16 & 0xff).wrapping_sub(u64::from(b'0'));
    // No leading zero: 1 to 9.
    let two = word & TWO == u64::from_le_bytes([kind, 0, 0, b'\r', b'\n', 0, 0, 0]);
    if two && first.wrapping_sub(1) < 9 && second < 10 {
        return Some(((first * 10 + second) as usize, 5));
    }
    None
}

#[inline(never)]
fn long_line(rest: &[u8], at: usize) -> Line {
    let Some(end) = memchr::memchr(b'\r', rest) else {
        return Line::Incomplete;
    };
    match rest.get(end + 1) {
        None => Line::Incomplete,
        Some(b'\n') => match integer(&rest[..end]) {
            Some(n) => Line::Number(n, at + end + 2),
            None => Line::NotANumber,
        },
        Some(_) => Line::NoLineFeed,
    }
}

/// A canonical signed 64-bit decimal.
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0'] if !negative => return Some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    if digits.len() > 19 {
        return None;
    }
    let mut value: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative {
        0_i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_lines_are() {
        for number in 0..1000 {
            for text in [
                format!("${number}\r\n"),
                format!("${number:02}\r\n"),
                format!("${number}\n\r"),
                format!("${number}"),
            ] {
                for more in ["", "1234567"] {
                    let buf = [text.as_bytes(), more.as_bytes()].concat();
                    assert_eq!(header(&buf, b'$'), short(&buf, 1), "{text:?}{more}");
                    assert_eq!(header(&buf, b'*'), None);
                }
            }
        }
        assert_eq!(header(b"*3\r\n$3\r\n", b'*'), Some((3, 4)));
        assert_eq!(header(b"$/\r\n12345", b'$'), None);
        assert_eq!(header(b"$1:\r\n1234", b'$'), None);
        assert_eq!(header(b"", b'$'), None);
    }

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (text, expected) in [
            (&b"0"[..], Some(0)),
            (b"-1", Some(-1)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"9223372036854775808", None),
            (b"99999999999999999999", None),
            (b"01", None),
            (b"-0", None),
            (b"+1", None),
            (b" 1", None),
            (b"", None),
            (b"-", None),
            (b"1x", None),
        ] {
            assert_eq!(integer(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }
}
