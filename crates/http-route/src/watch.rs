//! Watches the bytes of an HTTP/1 client for heads with both lengths: `transfer-encoding` and `content-length`.
//!
//! hyper takes such a head as chunked and drops the length before anybody sees it; Envoy refuses it, since two readers of
//! it may disagree where the request ends. What is found is cut off, and a line put in its place that no parser takes:
//! hyper answers 400 in its turn and closes. The rest of the framing is followed only as far as that needs; a connection
//! that may change its protocol is not watched any more.

/// Where in a message the client is.
#[derive(Debug, Default)]
enum State {
    /// Before a request line: empty lines do not count.
    #[default]
    Start,
    Head,
    /// So many bytes of a body are to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    Trailers,
    /// No longer watched.
    Off,
}

/// The watch over one connection.
#[derive(Debug, Default)]
pub struct Watch {
    state: State,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    chunked: bool,
    length: Option<u64>,
    upgrades: bool,
}

/// As much of a line as names and numbers need.
const KEPT: usize = 64;

impl Watch {
    /// Looks at what came; the answer is how much of it may be passed on, where a head with both lengths was found.
    #[must_use]
    pub fn look(&mut self, mut bytes: &[u8]) -> Option<usize> {
        let all = bytes.len();
        while !bytes.is_empty() {
            match &mut self.state {
                State::Off => return None,
                State::Body(left) | State::Chunk(left) => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= passed as u64;
                    bytes = &bytes[passed..];
                    if *left == 0 {
                        self.state = match self.state {
                            State::Chunk(_) => State::ChunkSize,
                            _ => State::Start,
                        };
                    }
                }
                _ => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let part = &bytes[..end.map_or(bytes.len(), |end| end + 1)];
                    let room = KEPT.saturating_sub(self.line.len()).min(part.len());
                    self.line.extend_from_slice(&part[..room]);
                    bytes = &bytes[part.len()..];
                    if end.is_some() {
                        let line = std::mem::take(&mut self.line);
                        self.line(line.trim_ascii_end());
                        self.line = line;
                        self.line.clear();
                        if self.chunked && self.length.is_some() {
                            self.state = State::Off;
                            return Some(all - bytes.len() - part.len());
                        }
                    }
                }
            }
        }
        None
    }

    /// A line has come whole.
    fn line(&mut self, line: &[u8]) {
        match self.state {
            State::Start if line.is_empty() => {}
            State::Start => {
                self.upgrades = line.starts_with(b"CONNECT ");
                self.state = State::Head;
            }
            State::Head if line.is_empty() => self.end_of_head(),
            State::Head => self.field(line),
            State::ChunkSize if line.is_empty() => {}
            State::ChunkSize => {
                let digits = line
                    .split(|byte| *byte == b';')
                    .next()
                    .unwrap_or_default()
                    .trim_ascii();
                let size = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|text| u64::from_str_radix(text, 16).ok());
                self.state = match size {
                    Some(0) => State::Trailers,
                    Some(size) => State::Chunk(size),
                    None => State::Off,
                };
            }
            State::Trailers if line.is_empty() => self.state = State::Start,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Off => {}
        }
    }

    fn field(&mut self, line: &[u8]) {
        let named = |name: &str| {
            let start = line.get(..name.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
                && line.get(name.len()) == Some(&b':')
        };
        if named("content-length") {
            let value = line
                .get("content-length:".len()..)
                .unwrap_or_default()
                .trim_ascii();
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            self.length = Some(number.unwrap_or(0));
        } else if named("transfer-encoding") {
            self.chunked = true;
        } else if named("upgrade") {
            self.upgrades = true;
        }
    }

    fn end_of_head(&mut self) {
        self.state = match (self.upgrades, self.chunked, self.length) {
            (true, ..) => State::Off,
            (_, true, _) => State::ChunkSize,
            (_, _, Some(length)) if length > 0 => State::Body(length),
            _ => State::Start,
        };
        (self.chunked, self.length) = (false, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much is passed on, however the bytes are split.
    fn passed(bytes: &[u8]) -> Option<usize> {
        let whole = Watch::default().look(bytes);
        for size in 1..bytes.len() {
            let mut watch = Watch::default();
            let mut found = None;
            for (at, part) in bytes.chunks(size).enumerate() {
                if let Some(length) = watch.look(part) {
                    found = Some(at * size + length);
                    break;
                }
            }
            assert_eq!(found.is_some(), whole.is_some(), "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn both_lengths() {
        let bad = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(passed(bad), Some(36));
        let after = [
            b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nabcd".as_slice(),
            bad,
        ]
        .concat();
        assert_eq!(passed(&after), Some(42 + 36));
        let chunked =
            b"POST / HTTP/1.1\ntransfer-encoding: chunked\n\n4;x\r\n\nabc\r\n0\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(passed(chunked), None);
        assert!(passed(&[chunked.as_slice(), bad].concat()).is_some());
        let body = b"POST / HTTP/1.1\r\nContent-Length: 46\r\n\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(passed(body), None);
        let upgraded =
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n";
        assert_eq!(passed(upgraded), None);
    }
}
