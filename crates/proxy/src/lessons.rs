//! Commands that the table lacks are learnt from the servers, at their first use: `COMMAND INFO name`.
//!
//! The client's input rests meanwhile, so that order is kept; then its request is looked at again. What a server said is
//! kept with the cluster, so that it goes when a push replaces that. "Unknown" is kept for a while only, and not when the
//! topology changes: servers are upgraded and load modules. All of it is bounded, since names come from clients.

mod functions;

use redplane_command::{
    CommandId, DescribedBegin, DescribedKeys, Description, Find, Learnt, NotFound, learn,
};
use redplane_merge::Failure;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::lessons::Missing;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served};
use redplane_redis_flow::send::{Payload, Sending};
use redplane_resp::encode;
use redplane_resp::value::{self, Value};
use rustc_hash::FxHashMap;
use slab::Slab;

use functions::KnownFunctions;

/// A longer name is no command's.
const MAX_NAME: usize = 64;

/// How long a name stays unknown, in microseconds.
const MISSING_TIME: u64 = 60_000_000;

/// How long a failure to ask counts as the answer, in microseconds.
const FAILED_TIME: u64 = 100_000;

/// What one worker asks servers about commands.
#[derive(Default)]
pub(crate) struct Lessons {
    pub(crate) requests: Slab<LessonRequest>,
    /// By pool.
    functions: FxHashMap<usize, KnownFunctions>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    /// A command by its name.
    Command(Vec<u8>),
    /// All functions.
    Functions,
}

/// A question that is not answered yet, and the clients that wait for it.
pub(crate) struct LessonRequest {
    pool: usize,
    about: About,
    clients: Vec<(u32, u32)>,
}

/// What becomes of a request whose name the table lacks.
pub(crate) enum Lesson {
    /// It is served like those of the table.
    Served(Served),
    /// It is looked at again when a server has answered.
    Rests,
    Unknown(NotFound),
    Failed(Failure),
}

impl Lessons {
    /// Looks a name up among what was learnt, and asks a server when it was not.
    #[cold]
    pub(crate) fn consult(
        &mut self,
        core: &mut Core,
        key: usize,
        not_found: NotFound,
        request: &Request<'_>,
    ) -> Lesson {
        let client = &core.clients[key];
        let Some(name) = name_of(not_found, request).filter(|_| client.authenticated) else {
            return Lesson::Unknown(not_found);
        };
        let filter = &core.filters[client.filter];
        let by_key = (request.len() > 1)
            .then(|| filter.route(request.arg(1)))
            .flatten();
        let Some(pool) = by_key.or_else(|| filter.route(b"")).map(|route| route.pool) else {
            return Lesson::Unknown(not_found);
        };
        let Some(live) = &mut core.pools[pool].live else {
            return Lesson::Failed(Failure::NoHost);
        };
        let lessons = &mut live.lessons;
        if let Some(learnt) = lessons.known.get(&name) {
            return taught(learnt, not_found, request);
        }
        if lessons.version != live.topology.version {
            lessons.version = live.topology.version;
            lessons.missing.clear();
        }
        match lessons
            .missing
            .get(&name)
            .filter(|missing| core.now < missing.until)
        {
            Some(Missing { failure: None, .. }) => Lesson::Unknown(not_found),
            Some(Missing {
                failure: Some(failure),
                ..
            }) => Lesson::Failed(*failure),
            None => self.ask(core, key, pool, name),
        }
    }

    /// Asks one primary, once for all clients that use the name meanwhile.
    fn ask(&mut self, core: &mut Core, key: usize, pool: usize, name: Vec<u8>) -> Lesson {
        let about = About::Command(name.clone());
        if self.join(core, key, pool, &about) {
            return Lesson::Rests;
        }
        let connection = match core.connection_for(pool, Target::Any, Access::Primary) {
            Ok(connection) => connection,
            Err(failure) => return Lesson::Failed(failure),
        };
        let mut frame = core.buffers.take_empty();
        encode::request(&mut frame, &[b"COMMAND", b"INFO", &name]);
        self.send(core, key, pool, about, connection, &frame);
        core.buffers.give(frame);
        Lesson::Rests
    }

    /// A client waits for an answer that is on its way; false where there is none.
    fn join(&mut self, core: &mut Core, key: usize, pool: usize, about: &About) -> bool {
        let client = &mut core.clients[key];
        let same = |asked: &LessonRequest| asked.pool == pool && asked.about == *about;
        let Some((_, asked)) = self.requests.iter_mut().find(|(_, asked)| same(asked)) else {
            return false;
        };
        asked.clients.push((key as u32, client.generation));
        client.inlet.rest(Rest::Lesson);
        true
    }

    /// Sends a question, whose answer its client waits for.
    fn send(
        &mut self,
        core: &mut Core,
        key: usize,
        pool: usize,
        about: About,
        connection: u32,
        frame: &[u8],
    ) {
        let client = &mut core.clients[key];
        client.inlet.rest(Rest::Lesson);
        let ticket = self.requests.insert(LessonRequest {
            pool,
            about,
            clients: vec![(key as u32, client.generation)],
        });
        let sending = Sending {
            waiter: Waiter {
                sequence: ticket as u32,
                ..Waiter::NOBODY
            },
            command: CommandId(u16::MAX),
            purpose: Purpose::Lesson,
        };
        core.send(connection, sending, Payload::Copied(frame));
    }

    /// A server has answered, or it never will (`None`): the clients that waited go on.
    #[cold]
    pub(crate) fn lesson(&mut self, core: &mut Core, pending: &Pending, raw: Option<&[u8]>) {
        let Some(asked) = self.requests.try_remove(pending.waiter.sequence as usize) else {
            return;
        };
        match asked.about {
            About::Command(name) => note_command(core, asked.pool, name, raw),
            About::Functions => self.note_functions(core.now, asked.pool, raw),
        }
        for (client, generation) in asked.clients {
            let own = core.clients.known(client, generation);
            let waits = own.is_some_and(|client| client.inlet.rests_for(Rest::Lesson));
            if waits {
                core.lift(client as usize, Rest::Lesson);
            }
        }
    }
}

/// What a server has said of a command is kept with its cluster.
fn note_command(core: &mut Core, pool: usize, name: Vec<u8>, raw: Option<&[u8]>) {
    let now = core.now;
    let live = core.pools.get_mut(pool).and_then(|pool| pool.live.as_mut());
    if let Some(live) = live {
        let failed = Missing {
            until: now + FAILED_TIME,
            failure: Some(Failure::Upstream),
        };
        let unknown = Missing {
            until: now + MISSING_TIME,
            failure: None,
        };
        let learnt = match raw.map(entry) {
            None => Err(failed),
            // A server that does not tell (NOPERM, LOADING) is asked again before long.
            Some(Err(())) => Err(Missing {
                until: now + FAILED_TIME,
                ..unknown
            }),
            Some(Ok(None)) => Err(unknown),
            Some(Ok(Some(description))) => std::str::from_utf8(&name)
                .ok()
                .and_then(|name| learn(name, &description))
                .ok_or(unknown),
        };
        match learnt {
            Ok(learnt) => live.lessons.note_known(name, learnt),
            Err(missing) => live.lessons.note_missing(name, missing, now),
        }
    }
}

/// The name to ask for: of the command, or of a subcommand that the table's container lacks. `None` for what can be none.
fn name_of(not_found: NotFound, request: &Request<'_>) -> Option<Vec<u8>> {
    let plausible = |name: &[u8]| {
        let readable = name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'|');
        readable && !name.is_empty() && name.len() <= MAX_NAME
    };
    let name = match not_found {
        NotFound::Command => request.arg(0).to_vec(),
        NotFound::Subcommand(container) => {
            plausible(request.arg(1)).then(|| [container.name.as_bytes(), b"|", request.arg(1)].concat())?
        }
        NotFound::Arity(_) => return None,
    };
    let command = request.arg(0);
    (plausible(command) && !is_from_a_browser(command)).then(|| name.to_ascii_lowercase())
}

fn taught(learnt: &'static Learnt, not_found: NotFound, request: &Request<'_>) -> Lesson {
    if learnt.subcommands.is_empty() || matches!(not_found, NotFound::Subcommand(_)) {
        return Lesson::Served(Served::Known(&learnt.command));
    }
    if request.len() == 1 {
        return Lesson::Unknown(NotFound::Arity(&learnt.command));
    }
    match learnt.subcommand(request.arg(1)) {
        Some(sub) => Lesson::Served(Served::Known(sub)),
        None => Lesson::Unknown(NotFound::Subcommand(&learnt.command)),
    }
}

/// The one entry of a COMMAND INFO; `Ok(None)` when the server does not know the name, `Err` when it does not tell.
fn entry(raw: &[u8]) -> Result<Option<Description>, ()> {
    let reply = value::decode(raw).ok().flatten().ok_or(())?.0;
    match reply.elements() {
        Some([Value::Null | Value::Array(None) | Value::Bulk(None)]) => Ok(None),
        Some([entry]) => describe(entry).map(Some).ok_or(()),
        _ => Err(()),
    }
}

/// Name, arity, flags, first key, last key, step; from 6.0 on ACL categories; from 7.0 on tips, key specifications and
/// subcommands.
fn describe(entry: &Value) -> Option<Description> {
    let elements = entry.elements()?;
    let number = |at: usize| i16::try_from(elements.get(at)?.integer()?).ok();
    let list = |at: usize| elements.get(at).and_then(Value::elements).unwrap_or_default();
    let texts = |at: usize| list(at).iter().filter_map(text).collect();
    let sub = |entry: &Value| {
        let name = text(entry.elements()?.first()?)?;
        let own = name
            .split_once('|')
            .map_or(name.as_str(), |(_, own)| own)
            .to_owned();
        let mut description = describe(entry)?;
        description.subcommands.clear();
        Some((own, description))
    };
    Some(Description {
        flags: texts(2),
        range: (number(3)?, number(4)?, number(5)?),
        tips: texts(7),
        keys: list(8).iter().map(key_spec).collect(),
        subcommands: list(9).iter().filter_map(sub).collect(),
    })
}

fn text(value: &Value) -> Option<String> {
    String::from_utf8(value.text()?.to_vec()).ok()
}

/// `begin_search` and `find_keys`, each a type and what belongs to it.
fn key_spec(spec: &Value) -> Option<DescribedKeys> {
    let (begin, find) = (field(spec, "begin_search")?, field(spec, "find_keys")?);
    let (begin_spec, find_spec) = (field(begin, "spec")?, field(find, "spec")?);
    let number = |of: &Value, name: &str| field(of, name)?.integer();
    let small = |of: &Value, name: &str| u16::try_from(number(of, name)?).ok();
    let signed = |of: &Value, name: &str| i16::try_from(number(of, name)?).ok();
    Some(DescribedKeys {
        begin: match field(begin, "type")?.text()? {
            b"index" => DescribedBegin::Index(small(begin_spec, "index")?),
            b"keyword" => DescribedBegin::Keyword(
                text(field(begin_spec, "keyword")?)?,
                signed(begin_spec, "startfrom")?,
            ),
            _ => return None,
        },
        find: match field(find, "type")?.text()? {
            b"range" => Find::Range {
                last: signed(find_spec, "lastkey")?,
                step: small(find_spec, "keystep")?,
                limit: small(find_spec, "limit")?,
            },
            b"keynum" => Find::KeyNum {
                at: small(find_spec, "keynumidx")?,
                first: small(find_spec, "firstkey")?,
                step: small(find_spec, "keystep")?,
            },
            _ => return None,
        },
    })
}

/// The value of a name: in a map, or in a flat array of names and values.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    if let Value::Map(pairs) = value {
        let pair = pairs.iter().find(|(key, _)| key.text() == Some(name.as_bytes()));
        return pair.map(|(_, value)| value);
    }
    let mut pairs = value.elements()?.chunks_exact(2);
    pairs
        .find(|pair| pair[0].text() == Some(name.as_bytes()))
        .map(|pair| &pair[1])
}

/// Redis: a web page that was made to speak to a server must not get further than its first line.
pub(crate) fn is_from_a_browser(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_without_the_command_say_null() {
        assert_eq!(entry(b"*1\r\n$-1\r\n"), Ok(None));
        assert_eq!(entry(b"*1\r\n*-1\r\n"), Ok(None));
        assert_eq!(entry(b"*1\r\n_\r\n"), Ok(None));
        assert_eq!(entry(b"-NOPERM no\r\n"), Err(()));
        assert_eq!(entry(b"*1\r\n:1\r\n"), Err(()));
    }

    #[test]
    fn entries_of_both_protocols_say_the_same() {
        let old = entry(b"*1\r\n*6\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n");
        let expected = Description {
            flags: vec!["readonly".into()],
            range: (1, 1, 1),
            ..Description::default()
        };
        assert_eq!(old, Ok(Some(expected.clone())));
        let start =
            "*6\r\n$3\r\nget\r\n:2\r\n~1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n".replace("*6", "*1\r\n*10");
        let spec = "%3\r\n$5\r\nflags\r\n~1\r\n+RO\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\n\
                    spec\r\n%1\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n\
                    %3\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n";
        let new = format!("{start}~0\r\n~1\r\n+tip\r\n*1\r\n{spec}*0\r\n");
        let keys = DescribedKeys {
            begin: DescribedBegin::Index(1),
            find: Find::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
        };
        let expected = Description {
            tips: vec!["tip".into()],
            keys: vec![Some(keys)],
            ..expected
        };
        assert_eq!(entry(new.as_bytes()), Ok(Some(expected.clone())));
        // RESP2 has flat arrays in their place.
        let flat = new
            .replace('~', "*")
            .replace("%1\r\n", "*2\r\n")
            .replace("%2\r\n", "*4\r\n")
            .replace("%3\r\n", "*6\r\n");
        assert_eq!(entry(flat.as_bytes()), Ok(Some(expected)));
    }
}
