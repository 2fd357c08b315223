//! Pages of SCAN: how one is asked for, and what a server's answer holds.

use redplane_resp::number::integer;
use redplane_resp::{encode, reply};

/// The number behind COUNT, as far as it makes sense; 10 is Redis's default.
pub(crate) fn count_option(options: &[Vec<u8>]) -> u64 {
    let count = options
        .windows(2)
        .rev()
        .find(|pair| pair[0].eq_ignore_ascii_case(b"COUNT"));
    count
        .and_then(|pair| u64::try_from(integer(&pair[1])?).ok())
        .unwrap_or(10)
}

pub(crate) fn scan_frame(cursor: u64, options: &[Vec<u8>]) -> Vec<u8> {
    let cursor = cursor.to_string();
    let mut args: Vec<&[u8]> = vec![b"SCAN", cursor.as_bytes()];
    args.extend(options.iter().map(Vec::as_slice));
    let mut frame = Vec::new();
    encode::request(&mut frame, &args);
    frame
}

/// The cursor, the count and the raw elements of a server's answer.
pub(crate) fn page(raw: &[u8]) -> Option<(u64, u64, &[u8])> {
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
