//! COMMAND and its kin: what clients ask to learn where keys are.
//!
//! A server answers, since it knows its version, its modules and its texts. Where no route leads to one without a key
//! the table does and what was learnt from servers, so that clients that ask when they connect are not turned away.

use redplane_command::{Command, Local, NotFound, Protocol, command_info, error};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_redis_flow::settle::null_array;
use redplane_resp::encode;

use crate::engine::Engine;

/// Commands that the servers behind a client have told of, by name.
fn learnt(core: &Core, key: usize) -> Vec<&'static Command> {
    let pools = core.filters[core.clients[key].filter].pools();
    let lives = pools
        .into_iter()
        .filter_map(|pool| core.pools[pool].live.as_ref());
    let mut learnt: Vec<&'static Command> = lives.flat_map(|live| live.lessons.commands()).collect();
    learnt.sort_unstable_by_key(|command| command.name);
    learnt.dedup_by_key(|command| command.name);
    learnt
}

impl Engine {
    /// COMMAND, COMMAND COUNT, LIST, INFO, DOCS, GETKEYS and GETKEYSANDFLAGS.
    pub(crate) fn introspect(
        &mut self,
        key: usize,
        local: Local,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        if self.core.keyless_route(key).is_some() {
            return self.forward_any(key, command, *request);
        }
        let protocol = if self.core.is_resp3(key) {
            Protocol::Resp3
        } else {
            Protocol::Resp2
        };
        let learnt = learnt(&self.core, key);
        let served = || served().chain(learnt.iter().copied());
        let learnt_named = |name: &[u8]| {
            let mut learnt = learnt.iter();
            learnt.find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
        };
        let named = (2..request.len()).map(|i| {
            let name = request.arg(i);
            named(name).or_else(|| learnt_named(name).copied())
        });
        self.core.answer_with(key, |out| match local {
            Local::CommandCount => encode::integer(out, served().count() as i64),
            Local::CommandList => {
                encode::array(out, served().count());
                served().for_each(|command| encode::bulk(out, command.name.as_bytes()));
            }
            Local::CommandInfo if request.len() > 2 => entries(out, named.len(), named, protocol),
            // Texts for people are redis-cli's own.
            Local::CommandDocs => encode::map(out, 0, protocol == Protocol::Resp3),
            Local::CommandGetKeys | Local::CommandGetKeysAndFlags => keys(out, request, local),
            _ => entries(out, served().count(), served().map(Some), protocol),
        });
    }
}

/// Commands by themselves, not their subcommands.
fn served() -> impl Iterator<Item = &'static Command> {
    redplane_command::all()
        .iter()
        .filter(|command| command.name == command.container)
}

fn named(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|byte| *byte == b'|') {
        None => redplane_command::lookup(name),
        Some(bar) => redplane_command::lookup_sub(redplane_command::lookup(&name[..bar])?, &name[bar + 1..]),
    }
}

/// An unknown name is a null at its place.
fn entries(
    out: &mut Vec<u8>,
    count: usize,
    commands: impl Iterator<Item = Option<&'static Command>>,
    protocol: Protocol,
) {
    encode::array(out, count);
    for command in commands {
        match command {
            Some(command) => command_info(out, command, protocol),
            None => out.extend_from_slice(null_array(protocol == Protocol::Resp3)),
        }
    }
}

/// The keys of the request that stands behind `COMMAND GETKEYS`.
fn keys(out: &mut Vec<u8>, request: &Request<'_>, local: Local) {
    let count = request.len() - 2;
    let arg = |i: usize| request.arg(i + 2);
    let command = match redplane_command::find(count, arg) {
        Ok(command) => command,
        Err(NotFound::Arity(_)) => return out.extend_from_slice(error::INVALID_ARGUMENTS),
        Err(_) => return out.extend_from_slice(error::INVALID_COMMAND),
    };
    let keys: Vec<usize> = match command.keys_are_channels() {
        true => Vec::new(),
        false => redplane_command::keys(command, count, arg).collect(),
    };
    if keys.is_empty() {
        return out.extend_from_slice(error::NO_KEY_ARGUMENTS);
    }
    encode::array(out, keys.len());
    for at in keys {
        if local == Local::CommandGetKeysAndFlags {
            encode::array(out, 2);
            encode::bulk(out, arg(at));
            encode::array(out, 1);
            encode::simple(out, if command.is_write() { b"RW" } else { b"RO" });
        } else {
            encode::bulk(out, arg(at));
        }
    }
}
