//! What a feed says unasked: messages, and the end of a subscription that the server has ended.
//!
//! Only as much of it is read as finding the topic needs; the bytes are passed on whole.

use redplane_resp::reply;

use crate::Kind;

/// A message or notice, by the names in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Push<'a> {
    /// A message of the topic `name`, published to `channel`.
    Message {
        kind: Kind,
        name: &'a [u8],
        channel: &'a [u8],
    },
    /// The server has ended the subscription to a shard channel: its slot is another node's now.
    Ended(&'a [u8]),
}

impl<'a> Push<'a> {
    /// Reads an array of a RESP2 connection; `None` when it answers a command.
    pub(super) fn read(raw: &'a [u8]) -> Option<Self> {
        let (_, at) = reply::array_header(raw)?;
        let (word, rest) = bulk(raw.get(at..)?)?;
        let kind = match word {
            b"message" => Kind::Channel,
            b"pmessage" => Kind::Pattern,
            b"smessage" => Kind::Shard,
            b"sunsubscribe" => return bulk(rest).map(|(name, _)| Self::Ended(name)),
            _ => return None,
        };
        let (name, rest) = bulk(rest)?;
        let channel = match kind {
            Kind::Pattern => bulk(rest)?.0,
            Kind::Channel | Kind::Shard => name,
        };
        Some(Self::Message { kind, name, channel })
    }
}

/// A bulk string and what stands behind it.
fn bulk(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let payload = reply::bulk_payload(raw)?;
    // The payload is a part of `raw`: the header ends where it begins.
    let header = raw.iter().position(|byte| *byte == b'\n')? + 1;
    Some((payload, raw.get(header + payload.len() + 2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_their_topic_and_channel() {
        let read = |raw: &'static str| Push::read(raw.as_bytes());
        assert_eq!(
            read("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\n\r\n\r\n"),
            Some(Push::Message {
                kind: Kind::Channel,
                name: b"a",
                channel: b"a"
            })
        );
        assert_eq!(
            read("*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$0\r\n\r\n"),
            Some(Push::Message {
                kind: Kind::Pattern,
                name: b"a*",
                channel: b"ab"
            })
        );
        assert_eq!(
            read("*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n"),
            Some(Push::Ended(b"s"))
        );
    }

    #[test]
    fn what_answers_a_command_is_no_push() {
        for raw in [
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
            "*2\r\n$4\r\npong\r\n$0\r\n\r\n",
            "*0\r\n",
            "*-1\r\n",
            "+PONG\r\n",
            "*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n",
        ] {
            assert_eq!(Push::read(raw.as_bytes()), None, "{raw:?}");
        }
    }
}
