//! What replies on connections with tracking mean: their servers remember now what was read.
//!
//! Keys are noted when the reply comes and not when the request leaves: a push in front of the reply speaks of an
//! earlier reader, one behind it of this one. The request's bytes still stand in the output it left by.

use bytes::Bytes;
use redplane_command::{Command, Flags, RequestPolicy};
use redplane_redis_core::client::Waiter;
use redplane_redis_core::lessons::Lessons;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::notice::Notice;
use redplane_redis_flow::redirect;
use redplane_resp::reply::{self, Scan, Scanner};
use redplane_resp::request::{Decoded, decode};

use crate::table::Reader;
use crate::{OwnWrite, TrackingState};

/// The replies to the commands of a request: one, or those in a transaction's array.
struct Replies<'a> {
    rest: &'a [u8],
    /// MULTI stands in front of the commands.
    skips: bool,
}

impl<'a> Replies<'a> {
    fn new(raw: &'a [u8], purpose: Purpose) -> Self {
        let elements = match purpose {
            Purpose::Exec => reply::array_header(raw).and_then(|(_, start)| raw.get(start..)),
            _ => Some(raw),
        };
        Self {
            rest: elements.unwrap_or_default(),
            skips: purpose == Purpose::Exec,
        }
    }

    /// The reply to the next command; nothing where there is none.
    fn next(&mut self) -> &'a [u8] {
        if std::mem::take(&mut self.skips) {
            return b"";
        }
        let end = match Scanner::default().scan(self.rest) {
            Ok(Scan::Whole(end)) => end,
            _ => self.rest.len(),
        };
        let (next, rest) = self.rest.split_at(end);
        self.rest = rest;
        next
    }
}

/// Whether a script may have read what it names, and a command does.
fn reads(command: &Command) -> bool {
    command.is_read() || matches!(command.request, RequestPolicy::Script(_))
}

/// Whether a write with this reply has changed each of its keys. Where that is in doubt it has not: a client may hear
/// of its own write, but must not miss another's.
fn has_changed(command: &Command, keys: usize, reply: &[u8]) -> bool {
    // Commands that may need memory put something in; what else answers OK may find nothing to do (LTRIM).
    let puts = command.flags.contains(Flags::DENYOOM);
    let count = reply::integer(reply).filter(|_| reply.starts_with(b":"));
    let by_key = command.request == RequestPolicy::MultiShard || keys == 1;
    command.is_write()
        && by_key
        && match (reply.first(), count) {
            (Some(b':'), Some(count)) if keys == 1 => count > 0,
            (Some(b':'), Some(count)) => count == keys as i64,
            (Some(b'+'), _) => puts,
            (Some(b'$'), _) => puts && keys == 1 && !reply.starts_with(b"$-1"),
            _ => false,
        }
}

impl TrackingState {
    /// The next reply on a connection with tracking has come: what it tells about is noted before it goes on.
    pub fn note_answered(&mut self, core: &mut Core, key: usize, raw: &[u8]) {
        self.heard.insert(key as u32, core.now);
        let Some(pending) = core.connections[key].pending.front().copied() else {
            return;
        };
        if !pending.purpose.row().executes || raw.starts_with(b"-") && redirect::parse(raw).is_some() {
            return;
        }
        match self.pushed_on(core, key) {
            Some(via) => {
                self.forget_overtaken(via, pending.at);
                self.note_request(core, key, via, &pending, raw);
                self.release_held_keys(core, via, pending.waiter);
            }
            None => self.tell_waiter(core, pending.waiter, &Notice::All),
        }
        while let Some((name, readers)) = self.table.evict(&mut core.shared.random) {
            self.tell_readers(core, &name, &readers);
        }
    }

    fn note_request(&mut self, core: &mut Core, key: usize, via: u32, pending: &Pending, raw: &[u8]) {
        let waiter = pending.waiter;
        let connection = &core.connections[key];
        let clients = &core.clients;
        if clients.of(waiter).is_none() {
            return;
        }
        let Some(tracker) = self.trackers.get(waiter.client as usize) else {
            return;
        };
        let remembers = tracker.remembers(waiter.sequence);
        let noloop = tracker.noloop;
        let frames = connection.out.range(pending.at, pending.len as usize);
        let Some(mut rest) = frames.filter(|_| remembers || noloop) else {
            return;
        };
        let mut overtaken = Vec::new();
        let mut replies = Replies::new(raw, pending.purpose);
        let lessons = core.pools[connection.pool]
            .live
            .as_ref()
            .map(|live| &live.lessons);
        let tracking = &mut *self;
        let reader = Reader {
            client: waiter.client,
            generation: waiter.generation,
            via,
            sequence: waiter.sequence,
        };
        let alive = |reader: &Reader| clients.known(reader.client, reader.generation).is_some();
        while let Ok(Decoded::Frame(end)) = decode(rest, &mut tracking.args, &mut None, true) {
            let Self {
                table,
                own,
                args,
                relays,
                ..
            } = &mut *tracking;
            let relay = relays.get(&via);
            let reply = replies.next();
            let arg = |at: usize| args.arg(rest, at);
            let known = command_of(args.len(), arg, lessons);
            if remembers && known.is_none_or(reads) {
                let note = |name: &[u8]| {
                    table.register(name, reader, alive);
                    if relay.is_some_and(|relay| relay.was_told(pending.at, name)) {
                        overtaken.push(Bytes::copy_from_slice(name));
                    }
                    // What is pushed from here on may be another's write.
                    own.retain(|write| write.client != waiter.client || write.key != name);
                };
                each_key(known, args.len(), arg, note);
            }
            if let Some(command) = known.filter(|_| noloop) {
                let mut keys: Vec<Bytes> = Vec::new();
                each_key(known, args.len(), arg, |name| {
                    keys.push(Bytes::copy_from_slice(name));
                });
                let changed = has_changed(command, keys.len(), reply);
                own.extend(keys.into_iter().filter(|_| changed).map(|name| OwnWrite {
                    connection: via,
                    client: waiter.client,
                    key: name,
                    fenced: false,
                }));
            }
            rest = rest.get(end..).unwrap_or_default();
        }
        if !overtaken.is_empty() {
            self.tell_waiter(core, waiter, &Notice::Keys(overtaken));
        }
    }

    /// Tells a client something behind the reply to its request.
    fn tell_waiter(&mut self, core: &mut Core, waiter: Waiter, notice: &Notice) {
        if core.clients.of(waiter).is_some() {
            self.tell(core, waiter.client as usize, Some(waiter.sequence), notice);
        }
    }
}

/// The command of a request; `None` where only its server knows it.
fn command_of<'a>(
    count: usize,
    arg: impl Fn(usize) -> &'a [u8] + Copy,
    lessons: Option<&Lessons>,
) -> Option<&'static Command> {
    let known = redplane_command::find(count, arg).ok();
    known.or_else(|| lessons?.command(count, arg))
}

/// Calls `note` with each key. Of a command that nobody knows the first argument is taken for one.
fn each_key<'a>(
    command: Option<&Command>,
    count: usize,
    arg: impl Fn(usize) -> &'a [u8] + Copy,
    mut note: impl FnMut(&'a [u8]),
) {
    match command {
        Some(command) => redplane_command::keys(command, count, arg).for_each(|at| note(arg(at))),
        None if count > 1 => note(arg(1)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(words: &[&str]) -> Vec<String> {
        let arg = |at: usize| words[at].as_bytes();
        let known = command_of(words.len(), arg, None);
        let mut noted = Vec::new();
        if known.is_none_or(reads) {
            each_key(known, words.len(), arg, |name| {
                noted.push(String::from_utf8_lossy(name).into_owned());
            });
        }
        noted
    }

    #[test]
    fn keys_that_are_read() {
        assert_eq!(noted(&["mget", "a", "b"]), ["a", "b"]);
        assert_eq!(noted(&["MSET", "a", "1", "b", "2"]), Vec::<String>::new());
        assert_eq!(noted(&["EVAL", "return 1", "2", "a", "b", "c"]), ["a", "b"]);
        assert_eq!(noted(&["EVAL_RO", "return 1", "1", "a", "c"]), ["a"]);
        assert_eq!(noted(&["XREAD", "BLOCK", "1", "STREAMS", "s", "$"]), ["s"]);
        assert_eq!(noted(&["MULTI"]), Vec::<String>::new());
        assert_eq!(noted(&["my.read", "a", "b"]), ["a"]);
    }

    #[test]
    fn own_writes_that_are_beyond_doubt() {
        let changed = |name: &str, keys: usize, reply: &str| {
            let command = redplane_command::lookup(name.as_bytes()).unwrap();
            has_changed(command, keys, reply.as_bytes())
        };
        for (name, keys, reply) in [
            ("set", 1, "+OK\r\n"),
            ("mset", 2, "+OK\r\n"),
            ("del", 2, ":2\r\n"),
            ("incr", 1, ":1\r\n"),
            ("xadd", 1, "$3\r\n1-1\r\n"),
        ] {
            assert!(changed(name, keys, reply), "{name} {reply}");
        }
        for (name, keys, reply) in [
            ("set", 1, "$-1\r\n"),
            ("set", 1, "_\r\n"),
            ("set", 1, "-ERR x\r\n"),
            ("set", 1, ""),
            ("del", 2, ":1\r\n"),
            ("del", 1, ":0\r\n"),
            ("ltrim", 1, "+OK\r\n"),
            ("getex", 1, "$1\r\nv\r\n"),
            ("zunionstore", 3, ":3\r\n"),
            ("copy", 2, ":1\r\n"),
            ("get", 1, "$1\r\nv\r\n"),
        ] {
            assert!(!changed(name, keys, reply), "{name} {reply}");
        }
    }

    #[test]
    fn a_transaction_has_a_reply_for_each_command() {
        let mut replies = Replies::new(b"*2\r\n+OK\r\n:1\r\n", Purpose::Exec);
        let got = [replies.next(), replies.next(), replies.next(), replies.next()];
        assert_eq!(got, [&b""[..], b"+OK\r\n", b":1\r\n", b""]);
        assert_eq!(Replies::new(b"-EXECABORT\r\n", Purpose::Exec).rest, b"");
        assert_eq!(Replies::new(b"+OK\r\n", Purpose::Reply).next(), b"+OK\r\n");
    }
}
