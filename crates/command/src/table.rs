//! The command table and the search in it.
//!
//! Records are sorted by name, so a container's subcommands stand behind it in a row, and a record's place
//! is its id. Names are found through an open-addressed index over their packed form: a few multiplications
//! and one comparison for a known command.

use crate::flags::{Flags, Handling, KeyFlags};
use crate::key_spec::{Begin, FastKeys, Find, KeySpec, ONE};
use crate::pack::{Packed, pack};
use crate::policy::{
    Blocking, Class, Effect, Local, Pubsub, Refusal, ReplyPolicy, RequestPolicy, Script, Transaction,
};

/// The place of a command in [`all`]: dense, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u16);

impl CommandId {
    /// As an index into a vector with one entry per command.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What one command or subcommand is and how it is served.
#[derive(Debug)]
pub struct Command {
    /// Its place in the table.
    pub id: CommandId,
    /// Lower case; a subcommand is `container|sub`.
    pub name: &'static str,
    /// The name up to the bar: itself, unless it is a subcommand.
    pub container: &'static str,
    /// Number of arguments with the name (and the subcommand) counted; negative: at least that many.
    pub arity: i16,
    /// As Redis's `COMMAND` has them.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: CommandKeys,
    /// Where requests go.
    pub request: RequestPolicy,
    /// How replies become one.
    pub reply: ReplyPolicy,
    /// What it does to the proxy's memory of scripts.
    pub effect: Effect,
    /// What the engine has to do for it beside serving it.
    pub handling: Handling,
    /// What the compatibility page says of it.
    pub about: About,
    pub(crate) index: Indexed,
}

/// Where a command is found in the table.
#[derive(Debug)]
pub(crate) struct Indexed {
    /// Its name, packed.
    pub(crate) name: Packed,
    /// Its subcommands: first place, and the place behind the last.
    pub(crate) subcommands: (u16, u16),
}

/// Where the keys of a command are, in three forms.
#[derive(Debug)]
pub struct CommandKeys {
    /// All of it.
    pub specs: &'static [KeySpec],
    /// For the hot path.
    pub fast: FastKeys,
    /// First key, last key and step, as `COMMAND` reports them; zeros when keys cannot be said that way.
    pub range: (i16, i16, i16),
}

/// What only people read of a command.
#[derive(Debug)]
pub struct About {
    /// Its coarse kind.
    pub class: Class,
    /// Whether Envoy 1.40 serves it, at least in part.
    pub served_by_envoy: bool,
    /// The first Redis version with it; empty if unknown.
    pub since: &'static str,
    /// A remark; may be empty.
    pub note: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/table.rs"));

impl Command {
    /// Whether it writes, by Redis's flag.
    #[inline]
    pub const fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }

    /// Whether it only reads, by Redis's flag. Commands without keys may be neither.
    #[inline]
    pub const fn is_read(&self) -> bool {
        self.flags.contains(Flags::READONLY)
    }

    /// Whether it goes where its one place for keys says, like GET and SET, and cannot block on the way.
    #[inline]
    pub const fn is_plain(&self) -> bool {
        matches!(self.request, RequestPolicy::ByKey)
            && matches!(self.keys.fast, FastKeys::First)
            && !self.flags.contains(Flags::BLOCKING)
    }

    /// Whether a client that has not logged in may send it.
    #[inline]
    pub const fn may_come_before_login(&self) -> bool {
        self.handling.contains(Handling::BEFORE_LOGIN)
    }

    /// Whether it leaves on other connections than what its client sent before, and so waits for all those replies.
    #[inline]
    pub const fn waits_for_replies(&self) -> bool {
        self.handling.contains(Handling::WAITS_FOR_REPLIES)
    }

    /// Whether what CLIENT CACHING has said holds on behind it.
    #[inline]
    pub const fn keeps_caching(&self) -> bool {
        self.handling.contains(Handling::KEEPS_CACHING)
    }

    /// Whether it is dealt with at once between MULTI and EXEC.
    #[inline]
    pub const fn steers_transaction(&self) -> bool {
        self.handling.contains(Handling::STEERS_TRANSACTION)
    }

    /// Whether it runs what its client has queued.
    #[inline]
    pub const fn executes(&self) -> bool {
        self.handling.contains(Handling::EXECUTES)
    }

    /// Whether a read policy may send it to a replica.
    ///
    /// Not what depends on the one server (TOUCH, OBJECT FREQ and IDLETIME, SCAN's order of buckets).
    #[inline]
    pub const fn may_use_replica(&self) -> bool {
        self.handling.contains(Handling::MAY_USE_REPLICA)
    }

    /// Whether a request of `argc` arguments, its name included, has the right length.
    #[inline]
    pub fn arity_ok(&self, argc: usize) -> bool {
        let (arity, argc) = (isize::from(self.arity), argc as isize);
        argc == arity || arity < 0 && argc >= -arity
    }

    /// Its subcommands, sorted by name; empty for most commands.
    #[inline]
    pub fn subcommands(&self) -> &'static [Self] {
        let (start, end) = self.index.subcommands;
        TABLE
            .get(usize::from(start)..usize::from(end))
            .unwrap_or_default()
    }

    /// Whether it has subcommands. COMMAND has, and still means something alone.
    #[inline]
    pub const fn has_subcommands(&self) -> bool {
        self.index.subcommands.0 != self.index.subcommands.1
    }

    /// Whether `keys.range` does not say all (the flag `movablekeys` of `COMMAND`).
    pub const fn movable_keys(&self) -> bool {
        matches!(self.keys.fast, FastKeys::Spec)
    }

    /// Whether what is found as its keys are shard channels: routed alike, but not in the key space.
    pub fn keys_are_channels(&self) -> bool {
        self.keys
            .specs
            .iter()
            .any(|spec| spec.flags.contains(KeyFlags::NOT_KEY))
    }
}

/// Why a request is no command that could be served.
#[derive(Clone, Copy, Debug)]
pub enum NotFound {
    /// No command has this name: [`crate::error::unknown_command`].
    Command,
    /// The container has no such subcommand: [`crate::error::unknown_subcommand`].
    Subcommand(&'static Command),
    /// The number of arguments is wrong: [`crate::error::wrong_arity`].
    Arity(&'static Command),
}

/// Every command and subcommand, sorted by name; a command's place is its id.
#[inline]
pub fn all() -> &'static [Command] {
    &TABLE
}

/// The command of this name, in any case. Containers are found, subcommands are not.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let packed = pack(name);
    let mut at = packed.slot(SEED);
    loop {
        let place = usize::from(*INDEX.get(at)?).checked_sub(1)?;
        let command = TABLE.get(place)?;
        if command.index.name == packed && same_tail(command, name) {
            return Some(command);
        }
        at = (at + 1) % INDEX.len();
    }
}

/// What the packed form leaves out.
#[inline]
fn same_tail(command: &Command, name: &[u8]) -> bool {
    name.len() <= 16 || command.name.as_bytes().eq_ignore_ascii_case(name)
}

/// The subcommand of this name, in any case.
#[inline]
pub fn lookup_sub(container: &Command, sub: &[u8]) -> Option<&'static Command> {
    let skipped = container.name.len() + 1;
    let own = |command: &&Command| {
        command
            .name
            .as_bytes()
            .get(skipped..)
            .is_some_and(|name| name.eq_ignore_ascii_case(sub))
    };
    container.subcommands().iter().find(own)
}

/// The command of a request with `count` arguments, judged in Redis's order: name, subcommand, arity.
#[inline]
pub fn find<'a>(count: usize, arg: impl Fn(usize) -> &'a [u8]) -> Result<&'static Command, NotFound> {
    let name = if count == 0 { &[] } else { arg(0) };
    let mut command = lookup(name).ok_or(NotFound::Command)?;
    if count > 1 && command.has_subcommands() && !command.flags.contains(Flags::ONLY_SENTINEL) {
        command = lookup_sub(command, arg(1)).ok_or(NotFound::Subcommand(command))?;
    }
    if command.arity_ok(count) {
        Ok(command)
    } else {
        Err(NotFound::Arity(command))
    }
}

/// The name in Envoy's `redis.<prefix>.command.<name>` stats; subcommands count for their container.
#[inline]
pub fn envoy_stat_name(command: &Command) -> &'static str {
    command.container
}

#[cfg(test)]
mod tests;
