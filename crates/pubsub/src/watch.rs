//! Which names may be those of keyspace notifications.
//!
//! A node tells its own clients alone what happens to its keys, so whoever wants to hear of all keys listens to every
//! primary. Redis: keyspace notifications, `__keyspace@<db>__:<key>` and `__keyevent@<db>__:<event>`.

use crate::Kind;
use crate::glob::literal;

const CHANNELS: [&[u8]; 2] = [b"__keyspace@", b"__keyevent@"];

/// Whether a message on this channel is an event of one node.
pub(super) fn is_event(channel: &[u8]) -> bool {
    CHANNELS.iter().any(|start| channel.starts_with(start))
}

/// How events and a topic go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// The topic is none of them.
    Never,
    /// They may be among others (`*`).
    Among,
    /// It is nothing else.
    Only,
}

pub(super) fn events_in(kind: Kind, name: &[u8]) -> Events {
    match kind {
        Kind::Shard => Events::Never,
        Kind::Channel if is_event(name) => Events::Only,
        Kind::Channel => Events::Never,
        Kind::Pattern => {
            let start = literal(name);
            if is_event(start) {
                Events::Only
            } else if CHANNELS.iter().any(|channel| channel.starts_with(start)) {
                Events::Among
            } else {
                Events::Never
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events() {
        for (kind, name, expected) in [
            (Kind::Channel, "__keyspace@0__:k", Events::Only),
            (Kind::Channel, "__keyspace", Events::Never),
            (Kind::Pattern, "__keyevent@0__:*", Events::Only),
            (Kind::Pattern, "__key*@*", Events::Among),
            (Kind::Pattern, "*", Events::Among),
            (Kind::Pattern, "news.*", Events::Never),
            (Kind::Shard, "__keyspace@0__:k", Events::Never),
        ] {
            assert_eq!(events_in(kind, name.as_bytes()), expected, "{name}");
        }
    }
}
