//! Commands that the table lacks (of modules, of newer servers, renamed ones), made from what a server says of them.
//!
//! Follows `COMMAND INFO`: <https://redis.io/docs/latest/commands/command/>. Only what is sure to be safe on a connection
//! that many clients share is served: commands that say of themselves that they read or write, or that come from a
//! module, and that neither subscribe nor administer nor, unless they are a module's, block. A renamed MULTI or SELECT
//! is none of these. Arity is left to the server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::flags::{Flags, Handling, KeyFlags};
use crate::key_spec::{Begin, FastKeys, Find, KeySpec, ONE};
use crate::pack::pack;
use crate::policy::{Class, Effect, Refusal, ReplyPolicy, RequestPolicy};
use crate::table::{About, Command, CommandId, CommandKeys, Indexed};

/// Commands and subcommands that a process learns at most; they live as long as it does, like those of the table.
const MAX_LEARNT: usize = 4096;

/// What a server says of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// As `COMMAND` names them, `movablekeys` and `module` among them.
    pub flags: Vec<String>,
    /// First key, last key, step.
    pub range: (i16, i16, i16),
    /// Such as `request_policy:all_shards`.
    pub tips: Vec<String>,
    /// The key specifications; `None` for one that says that it does not know.
    pub keys: Vec<Option<DescribedKeys>>,
    /// Names without the container's, and what they are.
    pub subcommands: Vec<(String, Self)>,
}

/// One key specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedKeys {
    /// Where it begins.
    pub begin: DescribedBegin,
    /// How keys are found from there.
    pub find: Find,
}

/// Where a key specification begins; see [`Begin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescribedBegin {
    /// At this argument.
    Index(u16),
    /// Behind this word, searched from this argument on.
    Keyword(String, i16),
}

/// A command that was learnt, with its subcommands.
#[derive(Debug)]
pub struct Learnt {
    /// Its id is beyond the table and all custom commands, so that it has no statistics of its own.
    pub command: Command,
    /// Empty for most commands.
    pub subcommands: Vec<Command>,
}

impl Learnt {
    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&Command> {
        let skipped = self.command.name.len() + 1;
        self.subcommands.iter().find(|command| {
            let own = command.name.as_bytes().get(skipped..);
            own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        })
    }
}

/// Rows that were made, by all that they were made of, and how many commands they have together.
static LEARNT: Mutex<(BTreeMap<String, &'static Learnt>, usize)> = Mutex::new((BTreeMap::new(), 0));

/// The row of a command that a server describes; equal ones are made once. `None` when too many were learnt.
///
/// `name` is the one that clients write, in lower case; a subcommand's is `container|sub`.
pub fn learn(name: &str, description: &Description) -> Option<&'static Learnt> {
    // Shared by all workers, and touched once for each name that one of them meets.
    let mut learnt = LEARNT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = format!("{name} {description:?}");
    if let Some(known) = learnt.0.get(&key) {
        return Some(known);
    }
    let count = 1 + description.subcommands.len();
    if learnt.1 + count > MAX_LEARNT {
        return None;
    }
    let subcommands = description.subcommands.iter();
    let made: &'static Learnt = Box::leak(Box::new(Learnt {
        command: row(name, description),
        subcommands: subcommands
            .map(|(sub, description)| row(&format!("{name}|{sub}"), description))
            .collect(),
    }));
    learnt.0.insert(key, made);
    learnt.1 += count;
    Some(made)
}

fn row(name: &str, description: &Description) -> Command {
    let name: &'static str = String::leak(name.to_owned());
    let known = description.flags.iter().filter_map(|flag| Flags::named(flag));
    let flags = known.fold(Flags::EMPTY, Flags::union);
    let keys = key_specs(description);
    let fast_keys = fast_keys(description, keys.as_deref());
    let (request, reply) = policies(description, flags, fast_keys);
    Command {
        id: CommandId(u16::MAX),
        name,
        container: name.split('|').next().unwrap_or(name),
        arity: -1,
        flags,
        keys: CommandKeys {
            specs: keys.unwrap_or_default().leak(),
            fast: fast_keys.unwrap_or(FastKeys::None),
            range: description.range,
        },
        request,
        reply,
        effect: Effect::None,
        handling: handling(flags, request),
        about: About {
            class: Class::Keyed,
            served_by_envoy: false,
            since: "",
            note: "",
        },
        index: Indexed {
            name: pack(name.as_bytes()),
            subcommands: (0, 0),
        },
    }
}

fn handling(flags: Flags, request: RequestPolicy) -> Handling {
    let reads_by_key = flags.contains(Flags::READONLY) && request == RequestPolicy::ByKey;
    [
        (flags.contains(Flags::NO_AUTH), Handling::BEFORE_LOGIN),
        (reads_by_key, Handling::MAY_USE_REPLICA),
    ]
    .iter()
    .filter(|(holds, _)| *holds)
    .fold(Handling::EMPTY, |all, (_, one)| all.union(*one))
}

/// `None` when one of them is not known.
fn key_specs(description: &Description) -> Option<Vec<KeySpec>> {
    let spec = |described: &DescribedKeys| KeySpec {
        begin: match &described.begin {
            DescribedBegin::Index(at) => Begin::Index(*at),
            DescribedBegin::Keyword(word, from) => Begin::Keyword {
                word: String::leak(word.to_ascii_lowercase()),
                from: *from,
            },
        },
        find: described.find,
        flags: KeyFlags::EMPTY,
    };
    let described = description.keys.iter().map(Option::as_ref);
    described.map(|keys| keys.map(spec)).collect()
}

/// Where keys are, in short; `None` when that is not known. Servers before 7.0 have no specifications, only the range.
fn fast_keys(description: &Description, specs: Option<&[KeySpec]>) -> Option<FastKeys> {
    let movable = description.flags.iter().any(|flag| flag == "movablekeys");
    match (specs, description.range) {
        (Some([only]), _) if (only.begin, only.find) == (Begin::Index(1), ONE) => Some(FastKeys::First),
        (Some([_, ..]), _) => Some(FastKeys::Spec),
        _ if movable => None,
        (_, (1, 1, 1)) => Some(FastKeys::First),
        (_, (first @ 1.., last, step @ 1..)) => Some(FastKeys::Range {
            first: first.unsigned_abs(),
            last,
            step: step.unsigned_abs(),
        }),
        (Some(_), _) => Some(FastKeys::None),
        (None, _) => None,
    }
}

fn policies(description: &Description, flags: Flags, keys: Option<FastKeys>) -> (RequestPolicy, ReplyPolicy) {
    let module = description.flags.iter().any(|flag| flag == "module");
    let data = flags.intersects(Flags::READONLY.union(Flags::WRITE));
    let private = Flags::ADMIN.union(Flags::PUBSUB);
    // Servers keep what belongs to one connection out of scripts. Modules say both of what only takes its time.
    let tied = flags.intersects(Flags::NOSCRIPT.union(Flags::BLOCKING)) && !module;
    match keys {
        _ if !description.subcommands.is_empty() => (RequestPolicy::Container, ReplyPolicy::Pass),
        _ if !(data || module) || flags.intersects(private) || tied => {
            (RequestPolicy::Refuse(Refusal::Unproved), ReplyPolicy::Pass)
        }
        None => (RequestPolicy::Refuse(Refusal::UnknownKeys), ReplyPolicy::Pass),
        Some(FastKeys::None) => by_tips(description),
        Some(_) => (RequestPolicy::ByKey, ReplyPolicy::Pass),
    }
}

/// Commands without keys say by their tips which servers are to be asked, and how the answers become one.
fn by_tips(description: &Description) -> (RequestPolicy, ReplyPolicy) {
    let tip = |name: &str| description.tips.iter().find_map(|tip| tip.strip_prefix(name));
    let request = match tip("request_policy:") {
        Some("all_shards") => RequestPolicy::AllShards,
        Some("all_nodes") => RequestPolicy::AllNodes,
        _ => return (RequestPolicy::AnyNode, ReplyPolicy::Pass),
    };
    let reply = match tip("response_policy:") {
        Some("agg_sum") => ReplyPolicy::Sum,
        Some("agg_min") => ReplyPolicy::Min,
        Some("agg_logical_and") => ReplyPolicy::LogicalAnd,
        Some("all_succeeded") => ReplyPolicy::AllSucceeded,
        Some("one_succeeded") => ReplyPolicy::OneSucceeded,
        None => ReplyPolicy::Concatenate,
        Some(_) => return (RequestPolicy::AnyNode, ReplyPolicy::Pass),
    };
    (request, reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{SlotOf, first_key, slots};

    fn described(flags: &str, range: (i16, i16, i16)) -> Description {
        Description {
            flags: flags.split(' ').map(str::to_owned).collect(),
            range,
            ..Description::default()
        }
    }

    #[test]
    fn rows_are_made_once_and_say_where_keys_are() {
        let json = described("readonly module", (1, 1, 1));
        let row = learn("json.get", &json).unwrap();
        assert!(std::ptr::eq(row, learn("json.get", &json).unwrap()));
        assert_eq!(row.command.keys.fast, FastKeys::First);
        assert!(row.command.may_use_replica() && row.command.arity_ok(1));
        let mget = learn("json.mget", &described("readonly module", (1, -2, 1))).unwrap();
        let args: [&[u8]; 4] = [b"JSON.MGET", b"foo", b"{foo}", b"$"];
        assert_eq!(slots(&mget.command, 4, |at| args[at]), SlotOf::One(12182));
        let union = Description {
            keys: vec![
                Some(DescribedKeys {
                    begin: DescribedBegin::Index(1),
                    find: ONE,
                }),
                Some(DescribedKeys {
                    begin: DescribedBegin::Keyword("FROM".into(), 1),
                    find: Find::KeyNum {
                        at: 0,
                        first: 1,
                        step: 1,
                    },
                }),
            ],
            ..described("write movablekeys", (1, 1, 1))
        };
        let union = learn("x.union", &union).unwrap();
        let args: [&[u8]; 5] = [b"X.UNION", b"to", b"from", b"1", b"other"];
        assert_eq!(first_key(&union.command, 5, |at| args[at]), Some(1));
        assert_eq!(slots(&union.command, 5, |at| args[at]), SlotOf::Cross);
    }

    #[test]
    fn what_may_change_a_shared_connection_is_refused() {
        let unproved = RequestPolicy::Refuse(Refusal::Unproved);
        for (flags, expected) in [
            ("noscript loading stale fast allow_busy", unproved),
            ("loading stale fast", unproved),
            ("write blocking", unproved),
            ("readonly admin", unproved),
            ("pubsub loading", unproved),
            ("readonly noscript", unproved),
            (
                "readonly movablekeys",
                RequestPolicy::Refuse(Refusal::UnknownKeys),
            ),
            ("readonly", RequestPolicy::AnyNode),
            ("module", RequestPolicy::AnyNode),
            ("module write blocking noscript", RequestPolicy::AnyNode),
            ("module admin", unproved),
        ] {
            let learnt = learn(&format!("x.{flags}"), &described(flags, (0, 0, 0))).unwrap();
            assert_eq!(learnt.command.request, expected, "{flags}");
        }
    }

    #[test]
    fn tips_and_subcommands_are_followed() {
        let flush = Description {
            tips: vec![
                "request_policy:all_shards".into(),
                "response_policy:all_succeeded".into(),
            ],
            ..described("write", (0, 0, 0))
        };
        let flush = learn("wipe", &flush).unwrap();
        assert_eq!(
            (flush.command.request, flush.command.reply),
            (RequestPolicy::AllShards, ReplyPolicy::AllSucceeded)
        );
        let thing = Description {
            subcommands: vec![("freq".into(), described("readonly", (2, 2, 1)))],
            ..Description::default()
        };
        let thing = learn("thing", &thing).unwrap();
        assert_eq!(thing.command.request, RequestPolicy::Container);
        let freq = thing.subcommand(b"FREQ").unwrap();
        assert_eq!((freq.name, freq.container), ("thing|freq", "thing"));
        assert!(thing.subcommand(b"x").is_none());
    }
}
