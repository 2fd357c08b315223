//! What replies on connections with tracking mean: their servers remember now what was read.
//!
//! Keys are noted when the reply comes and not when the request leaves: a push in front of the reply speaks of an
//! earlier reader, one behind it of this one. The request's bytes still stand in the output it left by.

use bytes::Bytes;
use redplane_command::{Command, RequestPolicy};
use redplane_resp::request::{Args, Decoded, decode};

use super::OwnWrite;
use super::table::Reader;
use crate::client::Waiter;
use crate::connection::Purpose;
use crate::engine::Engine;
use crate::lessons::Lessons;
use crate::redirect;

/// What a request did to the keys that it names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Did {
    Read,
    Write,
    /// A script may have done either.
    Both,
    Neither,
}

impl Did {
    fn of(command: &Command) -> Self {
        match command.request {
            RequestPolicy::Script(_) if !command.is_read() => Self::Both,
            _ if command.is_read() => Self::Read,
            _ if command.is_write() => Self::Write,
            _ => Self::Neither,
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

impl Engine {
    /// The next reply on a connection with tracking has come: what it tells about is noted before it goes on.
    pub(crate) fn note_answered(&mut self, key: usize, raw: &[u8]) {
        self.tracking.heard.insert(key as u32, self.now);
        let Some(pending) = self.connections[key].pending.front().copied() else {
            return;
        };
        let executed = matches!(
            pending.purpose,
            Purpose::Reply | Purpose::Loaded | Purpose::Exec | Purpose::Block
        );
        if !executed || raw.starts_with(b"-") && redirect::parse(raw).is_some() {
            return;
        }
        self.note_request(key, pending.waiter, (pending.at, pending.len as usize), raw);
        while let Some((name, readers)) = self.tracking.table.evict(&mut self.random) {
            self.tell_readers(&name, &readers);
        }
    }

    fn note_request(&mut self, key: usize, waiter: Waiter, (at, len): (u64, usize), raw: &[u8]) {
        let connection = &self.connections[key];
        let clients = &self.clients;
        let client = clients.get(waiter.client as usize);
        let Some(client) = client.filter(|client| client.generation == waiter.generation) else {
            return;
        };
        let Some(tracker) = &client.tracker else {
            return;
        };
        let remembers = tracker.remembers(waiter.sequence);
        let own = tracker.noloop && has_effect(raw);
        let Some(mut rest) = connection.out.range(at, len).filter(|_| remembers || own) else {
            return;
        };
        let lessons = self.pools[connection.pool]
            .live
            .as_ref()
            .map(|live| &live.lessons);
        let tracking = &mut self.tracking;
        let reader = Reader {
            client: waiter.client,
            generation: waiter.generation,
            via: key as u32,
            sequence: waiter.sequence,
        };
        let alive = |reader: &Reader| {
            let client = clients.get(reader.client as usize);
            client.is_some_and(|client| client.generation == reader.generation)
        };
        while let Ok(Decoded::Frame(end)) = decode(rest, &mut tracking.args, &mut None, true) {
            let (table, writes) = (&mut tracking.table, &mut tracking.own);
            each_key(rest, &tracking.args, lessons, |did, name| {
                if remembers && did.reads() {
                    table.register(name, reader, alive);
                }
                if own && did.writes() {
                    writes.push(OwnWrite {
                        connection: key as u32,
                        client: waiter.client,
                        key: Bytes::copy_from_slice(name),
                    });
                }
            });
            rest = rest.get(end..).unwrap_or_default();
        }
    }
}

/// Calls `note` with each key of a request. Of a command that nobody knows the first argument is taken for one.
fn each_key(frame: &[u8], args: &Args, lessons: Option<&Lessons>, mut note: impl FnMut(Did, &[u8])) {
    let arg = |at: usize| args.arg(frame, at);
    let known = redplane_command::find(args.len(), arg).ok();
    let known = known.or_else(|| lessons?.command(args.len(), arg));
    match known {
        Some(command) => {
            let did = Did::of(command);
            if did != Did::Neither {
                redplane_command::keys(command, args.len(), arg).for_each(|at| note(did, arg(at)));
            }
        }
        None if args.len() > 1 => note(Did::Both, arg(1)),
        None => {}
    }
}

/// Whether a reply speaks of a write that has changed something. Where that is in doubt it does not: a client may hear
/// of its own write, but must not miss another's.
fn has_effect(raw: &[u8]) -> bool {
    let nothing: [&[u8]; 6] = [b":0\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"_\r\n", b"#f\r\n"];
    !matches!(raw.first(), Some(b'-' | b'!') | None) && !nothing.contains(&raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(words: &[&str]) -> Vec<String> {
        let mut frame = Vec::new();
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        redplane_resp::encode::request(&mut frame, &bytes);
        let mut args = Args::default();
        decode(&frame, &mut args, &mut None, true).unwrap();
        let mut noted = Vec::new();
        each_key(&frame, &args, None, |did, name| {
            let sign = if did.writes() { "!" } else { "" };
            noted.push(format!("{}{sign}", String::from_utf8_lossy(name)));
        });
        noted
    }

    #[test]
    fn keys_of_what_was_done() {
        assert_eq!(noted(&["mget", "a", "b"]), ["a", "b"]);
        assert_eq!(noted(&["MSET", "a", "1", "b", "2"]), ["a!", "b!"]);
        assert_eq!(noted(&["EVAL", "return 1", "2", "a", "b", "c"]), ["a!", "b!"]);
        assert_eq!(noted(&["EVAL_RO", "return 1", "1", "a", "c"]), ["a"]);
        assert_eq!(noted(&["XREAD", "BLOCK", "1", "STREAMS", "s", "$"]), ["s"]);
        assert_eq!(noted(&["GEOSEARCHSTORE"]), Vec::<String>::new());
        assert_eq!(noted(&["MULTI"]), Vec::<String>::new());
        assert_eq!(noted(&["my.read", "a", "b"]), ["a!"]);
    }

    #[test]
    fn replies_without_effect() {
        for raw in ["-ERR x\r\n", ":0\r\n", "_\r\n", "$-1\r\n", "*0\r\n", ""] {
            assert!(!has_effect(raw.as_bytes()), "{raw}");
        }
        for raw in ["+OK\r\n", ":1\r\n", ":-3\r\n", "$0\r\n\r\n", "*1\r\n:0\r\n"] {
            assert!(has_effect(raw.as_bytes()), "{raw}");
        }
    }
}
