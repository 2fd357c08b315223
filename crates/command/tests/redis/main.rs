//! The table against a real redis-server: arity, flags and key ranges of `COMMAND`, key positions of
//! `COMMAND GETKEYS`, slots of `CLUSTER KEYSLOT` and the wording of errors.

mod server;

use redplane_command::{
    Command, Flags, NotFound, Protocol, command_info, error, find, keys, lookup, lookup_sub, slot,
};
use server::{Reply, Server};
use std::collections::BTreeSet;

/// Where the servers' versions differ; the table has the newer and wider arity.
const OTHER_ARITY: [&str; 4] = ["zrank", "zrevrank", "command|getkeys", "command|getkeysandflags"];

/// Flags that 7.0 keeps to itself.
const UNREPORTED: [&str; 4] = ["may_replicate", "protected", "sentinel", "touches_arbitrary_keys"];

#[test]
fn table_agrees_with_command() {
    let mut server = Server::start();
    let mut compared = 0;
    for entry in server.ask(&["COMMAND"]).array() {
        compare(&entry, None, &mut compared);
    }
    assert!(compared > 330, "only {compared} commands were compared");
}

fn compare(entry: &Reply, container: Option<&'static Command>, compared: &mut usize) {
    let fields = entry.array();
    let name = fields[0].text();
    let sub = name.split_once('|').map_or(name.as_str(), |(_, sub)| sub);
    let command = match container {
        Some(container) => lookup_sub(container, sub.as_bytes()),
        None => lookup(name.as_bytes()),
    };
    let command = command.unwrap_or_else(|| panic!("{name} is not in the table"));
    *compared += 1;
    assert_eq!(command.name, name);
    if !OTHER_ARITY.contains(&name.as_str()) {
        assert_eq!(i64::from(command.arity), fields[1].int(), "arity of {name}");
    }
    let mut theirs: BTreeSet<String> = fields[2].array().iter().map(Reply::text).collect();
    assert_eq!(
        theirs.remove("movablekeys"),
        command.movable_keys(),
        "movable keys of {name}"
    );
    let mut ours: BTreeSet<String> = command.flags.names().map(str::to_owned).collect();
    ours.retain(|flag| !UNREPORTED.contains(&flag.as_str()));
    for flag in changed_since(command) {
        ours.remove(*flag);
        theirs.remove(*flag);
    }
    assert_eq!(ours, theirs, "flags of {name}");
    let range = [fields[3].int(), fields[4].int(), fields[5].int()];
    let (first, last, step) = command.keys.range;
    assert_eq!([first, last, step].map(i64::from), range, "key range of {name}");
    for sub in fields[9].array() {
        compare(&sub, Some(command), compared);
    }
}

/// Flags that newer servers give otherwise than 7.0: blocking commands may be called by scripts, WAIT blocks,
/// a node that loads answers
/// questions about the cluster, and MULTI in MULTI is refused by the flag.
fn changed_since(command: &Command) -> &'static [&'static str] {
    match command.container {
        _ if command.flags.contains(Flags::BLOCKING) => &["noscript", "blocking"],
        "cluster" => &["loading"],
        "multi" | "watch" => &["no_multi"],
        _ => &[],
    }
}

#[test]
fn command_info_is_what_the_server_says() {
    let mut server = Server::start();
    // Nothing among these that newer servers have otherwise.
    let names = [
        "get",
        "set",
        "mset",
        "rename",
        "eval",
        "xread",
        "xreadgroup",
        "georadius",
        "lmpop",
        "zunionstore",
        "ssubscribe",
        "object",
        "slowlog",
        "ping",
    ];
    for name in names {
        let theirs = server.ask(&["COMMAND", "INFO", name]).array().remove(0);
        let command = lookup(name.as_bytes()).expect("a known command");
        let mut bytes = Vec::new();
        command_info(&mut bytes, command, Protocol::Resp2);
        let ours = Reply::read(&mut bytes.as_slice());
        assert_eq!(comparable(&ours), comparable(&theirs), "{name}");
    }
}

/// Without the elements that we leave empty and the notes in key specifications; flags and subcommands in one order.
fn comparable(entry: &Reply) -> Vec<Reply> {
    let mut fields = entry.array();
    assert_eq!(fields.len(), 10);
    let mut subs: Vec<Vec<Reply>> = fields.remove(9).array().iter().map(comparable).collect();
    subs.sort_by_key(|sub| sub[0].text());
    fields.remove(7);
    fields.remove(6);
    let mut specs: Vec<Vec<Reply>> = fields[6].array().iter().map(Reply::array).collect();
    for spec in specs.iter_mut().filter(|spec| spec[0].text() == "notes") {
        spec.drain(..2);
    }
    fields[6] = Reply::Array(specs.into_iter().map(Reply::Array).collect());
    let mut flags = fields[2].array();
    flags.sort_by_key(Reply::text);
    fields[2] = Reply::Array(flags);
    fields.extend(subs.into_iter().map(Reply::Array));
    fields
}

#[test]
fn keys_agree_with_getkeys() {
    let mut server = Server::start();
    let mut wrong = Vec::new();
    for sample in SAMPLES.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let args: Vec<&str> = sample.split(' ').collect();
        let arg = |at: usize| args[at].as_bytes();
        let command = find(args.len(), arg).unwrap_or_else(|_| panic!("{sample} is no valid request"));
        let mut ours: Vec<&str> = keys(command, args.len(), arg).map(|at| args[at]).collect();
        let request: Vec<&str> = ["COMMAND", "GETKEYS"].iter().chain(&args).copied().collect();
        let mut theirs: Vec<String> = match server.ask(&request) {
            Reply::Error(_) => Vec::new(),
            reply => reply.array().iter().map(Reply::text).collect(),
        };
        ours.sort_unstable();
        theirs.sort_unstable();
        if ours != theirs {
            wrong.push(format!("{sample}: {ours:?}, Redis has {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const SAMPLES: &str = "
    GET k
    set k v EX 10
    MGET a b c
    MSET a 1 b 2
    MSETNX a 1 b 2
    DEL a b
    UNLINK a
    EXISTS a a
    TOUCH a b
    RENAME a b
    COPY a b DB 1
    APPEND k v
    BITOP AND d a b
    BITFIELD k GET u4 0
    BITCOUNT k 0 1
    PFADD k a
    PFCOUNT a b
    PFMERGE d a b
    LCS a b LEN
    LMOVE a b LEFT RIGHT
    RPOPLPUSH a b
    LMPOP 2 a b LEFT
    LMPOP 3 a b LEFT COUNT 2
    LMPOP x a b LEFT
    LMPOP 0 a b LEFT
    BLMPOP 0 2 a b LEFT
    BLPOP a b 0
    BRPOP a 0
    BLMOVE a b LEFT RIGHT 0
    BRPOPLPUSH a b 0
    BZPOPMIN a b 1
    BZMPOP 0 1 a MIN
    SMOVE a b m
    SINTER a b
    SINTERSTORE d a b
    SINTERCARD 2 a b LIMIT 1
    SINTERCARD -1 a b
    SUNIONSTORE d a
    SDIFF a b
    SDIFFSTORE d a b
    ZADD k 1 m
    ZUNION 2 a b WEIGHTS 1 2
    ZINTER 1 a
    ZDIFF 2 a b WITHSCORES
    ZINTERCARD 2 a b
    ZUNIONSTORE d 2 a b
    ZINTERSTORE d 2 a b WEIGHTS 1 2
    ZDIFFSTORE d 1 a
    ZRANGESTORE d s 0 -1
    ZMPOP 1 a MIN
    GEOADD k 1 2 m
    GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 m
    GEORADIUS k 1 2 3 m
    GEORADIUS k 1 2 3 m STORE d
    GEORADIUS k 1 2 3 m WITHDIST store d
    GEORADIUSBYMEMBER k m 1 m STOREDIST d
    GEORADIUS_RO k 1 2 3 m
    SORT k
    SORT k STORE d
    SORT k BY w_* GET p_* LIMIT 0 5 STORE d
    SORT k BY store STORE d
    SORT k STORE d STORE e
    SORT_RO k BY w_*
    XADD s * f v
    XREAD STREAMS a b 0 0
    XREAD COUNT 2 BLOCK 0 streams a 0
    XREAD COUNT 2 STREAMS a b 0 0 0 0
    XREADGROUP GROUP g c STREAMS a >
    XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >
    XGROUP CREATE s g $
    XINFO STREAM s FULL
    XACK s g 1-1
    XCLAIM s g c 0 1-1
    OBJECT ENCODING k
    MEMORY USAGE k SAMPLES 5
    EVAL x 2 a b c
    EVAL x 0
    EVAL x 0 a
    EVALSHA x 1 a
    EVAL_RO x 1 a b
    FCALL f 1 a b
    FCALL_RO f 0
    EVAL x notanumber a
    WATCH a b
    MIGRATE h 1 k 0 10
    MIGRATE h 1 k 0 10 COPY
    RESTORE k 0 x
    DUMP k
    PING
    DBSIZE
    SCAN 0
    PUBLISH c m
    SUBSCRIBE c
    CLUSTER KEYSLOT k
    CONFIG GET x
";

#[test]
fn slots_agree_with_keyslot() {
    let mut server = Server::start();
    let long = "x".repeat(300);
    let tagged = format!("{long}{{tag}}{long}");
    let keys = [
        "",
        "a",
        "ab",
        "foo",
        "user:1",
        "12345678",
        "123456789",
        "user:1000:name",
        "{user1000}.following",
        "{user1000}.followers",
        "foo{}{bar}",
        "foo{{bar}}zap",
        "foo{bar}{zap}",
        "{}x",
        "a{b",
        "a}b{c}",
        "{a",
        "ключ",
        "{ключ}:1",
        "x{y}",
        "abcdefg{h}ijklmnop",
        &long,
        &tagged,
    ];
    for key in keys {
        let theirs = server.ask(&["CLUSTER", "KEYSLOT", key]).int();
        assert_eq!(i64::from(slot(key.as_bytes())), theirs, "{key}");
    }
}

#[test]
fn errors_agree_with_the_server() {
    let mut server = Server::start();
    let long = "n".repeat(200);
    let half = "h".repeat(100);
    let requests: Vec<Vec<&str>> = vec![
        vec!["nosuch"],
        vec!["FoO", "bar", "baz"],
        vec!["foo", ""],
        vec![&long, &long, "more"],
        vec!["foo", &half, &half, "more"],
        vec!["foo", "a\r\nb", "c\r"],
        vec!["GET"],
        vec!["get", "a", "b"],
        vec!["MSET", "a"],
        vec!["CLIENT"],
        vec!["Client", "SetName"],
        vec!["CLIENT", "NoSuch", "x"],
        vec!["config", "nosuch"],
        vec!["XGROUP", "CREATE", "k"],
        vec!["object", "encoding"],
        vec!["", "x"],
    ];
    for request in requests {
        let args: Vec<&[u8]> = request.iter().map(|arg| arg.as_bytes()).collect();
        let mut ours = Vec::new();
        match find(args.len(), |at| args[at]) {
            Err(NotFound::Command) => error::unknown_command(&mut ours, args[0], args[1..].iter().copied()),
            Err(NotFound::Subcommand(container)) => error::unknown_subcommand(&mut ours, container, args[1]),
            Err(NotFound::Arity(command)) => error::wrong_arity(&mut ours, command),
            Ok(command) => panic!("{request:?} is a valid {}", command.name),
        }
        let theirs = match server.ask(&request) {
            Reply::Error(line) => format!("-{line}\r\n"),
            other => panic!("{request:?} is answered with {other:?}"),
        };
        assert_eq!(String::from_utf8_lossy(&ours), theirs, "{request:?}");
    }
    let fixed: [(&[&str], &[u8]); 9] = [
        (&["EXEC"], error::EXEC_WITHOUT_MULTI),
        (&["DISCARD"], error::DISCARD_WITHOUT_MULTI),
        (&["AUTH", "x"], error::AUTH_WITHOUT_PASSWORD),
        (&["AUTH", "u", "x"], error::WRONGPASS),
        (&["HELLO", "9"], error::NOPROTO),
        (&["HELLO", "x"], error::BAD_PROTO),
        (&["COMMAND", "GETKEYS", "nosuch", "a"], error::INVALID_COMMAND),
        (&["COMMAND", "GETKEYS", "get", "a", "b"], error::INVALID_ARGUMENTS),
        (&["COMMAND", "GETKEYS", "ping", "a"], error::NO_KEY_ARGUMENTS),
    ];
    for (request, ours) in fixed {
        let Reply::Error(theirs) = server.ask(request) else {
            panic!("{request:?} is no error")
        };
        assert_eq!(
            String::from_utf8_lossy(ours),
            format!("-{theirs}\r\n"),
            "{request:?}"
        );
    }
}
