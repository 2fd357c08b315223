//! What clients that track are told, and whom they have told instead.

use bytes::Bytes;
use redplane_config::redis_proxy::Protocol;
use redplane_resp::encode;
use redplane_resp::value::{self, Value};

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// These keys may have changed.
    Keys(Vec<Bytes>),
    /// All of them may have.
    All,
}

impl Notice {
    /// Reads a push frame; `None` when it is about something else.
    pub fn read(raw: &[u8]) -> Option<Self> {
        let (push, _) = value::decode(raw).ok()??;
        let [kind, keys] = push.elements()? else {
            return None;
        };
        if kind.text()? != b"invalidate" {
            return None;
        }
        match keys {
            Value::Null | Value::Array(None) | Value::Bulk(None) => Some(Self::All),
            keys => {
                let names = keys.elements()?.iter().filter_map(Value::text);
                Some(Self::Keys(names.map(Bytes::copy_from_slice).collect()))
            }
        }
    }

    /// It as a push, or as a message for a client of RESP2, which has subscribed to hear it.
    pub fn encoded(&self, protocol: Protocol) -> Vec<u8> {
        let mut out = match protocol {
            Protocol::Resp3 => b">2\r\n$10\r\ninvalidate\r\n".to_vec(),
            Protocol::Resp2 => b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n".to_vec(),
        };
        match (self, protocol) {
            (Self::Keys(keys), _) => {
                encode::array(&mut out, keys.len());
                keys.iter().for_each(|key| encode::bulk(&mut out, key));
            }
            (Self::All, Protocol::Resp3) => encode::null(&mut out),
            (Self::All, Protocol::Resp2) => encode::null_bulk(&mut out),
        }
        out
    }
}

/// Another client that is told instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The client's number, as CLIENT ID says it.
    pub id: u64,
    /// The worker whose client it is.
    pub worker: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_read_and_written_alike() {
        for raw in [
            ">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n",
            ">2\r\n$10\r\ninvalidate\r\n_\r\n",
        ] {
            let notice = Notice::read(raw.as_bytes()).unwrap();
            assert_eq!(notice.encoded(Protocol::Resp3), raw.as_bytes());
        }
        assert_eq!(
            Notice::read(b">2\r\n$10\r\ninvalidate\r\n*-1\r\n"),
            Some(Notice::All)
        );
        assert_eq!(
            Notice::read(b">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n"),
            None
        );
        assert_eq!(
            Notice::read(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"),
            None
        );
    }

    #[test]
    fn a_message_has_its_channel_and_its_null() {
        let written = |notice: &Notice| String::from_utf8(notice.encoded(Protocol::Resp2)).unwrap();
        let start = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
        let one = Notice::Keys(vec![Bytes::from_static(b"k")]);
        assert_eq!(written(&one), format!("{start}*1\r\n$1\r\nk\r\n"));
        assert_eq!(written(&Notice::All), format!("{start}$-1\r\n"));
    }
}
