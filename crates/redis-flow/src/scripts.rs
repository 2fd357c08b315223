//! EVAL, EVALSHA, FCALL: scripts run wherever their keys are, although servers keep each script for themselves.
//!
//! EVAL teaches one node only, and a new primary knows nothing. So bodies are remembered ([`redplane_redis_core::scripts::Scripts`]), and a server is
//! given a script before the first EVALSHA of it that a connection carries, in the same write: what a client pipelines
//! behind runs behind. When a server has lost it all the same (NOSCRIPT), the script is loaded there and the command
//! sent once more, on mirrors too. Without its body NOSCRIPT passes, and clients fall back to EVAL.

use bytes::Bytes;
use redplane_command::{Command, Effect, Flags, RequestPolicy, Script, Script as Argument};
use redplane_config::redis_proxy::ReadPolicy;
use redplane_merge::Failure;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::Access;
use redplane_redis_core::scripts::{Sha, parse_sha};
use redplane_resp::request::{Args, Decoded, decode};

use crate::core::Core;
use crate::request::{Request, Served, access_of};
use crate::send::{Payload, Scripts as Named};

impl Core {
    /// Whether a command waits while writes are paused. Of custom ones nothing is known, nor of functions: what their
    /// script says of itself counts for EVAL and EVALSHA alone.
    pub fn may_replicate(&self, served: Served, request: &Request<'_>) -> bool {
        let Served::Known(command) = served else {
            return true;
        };
        let declared = match command.request {
            RequestPolicy::Script(Script::Body) => writes_by_shebang(request.arg(1)),
            RequestPolicy::Script(Script::Sha) => parse_sha(request.arg(1))
                .and_then(|sha| self.shared.scripts.with_sha(&sha))
                .and_then(|script| writes_by_shebang(&script.body)),
            _ => None,
        };
        declared.unwrap_or_else(|| command.is_write() || command.flags.contains(Flags::MAY_REPLICATE))
    }

    /// Always the same primary for one script, so that its SHA1 is known there from the first EVAL on.
    pub fn keyless_script(
        &mut self,
        key: usize,
        command: &'static Command,
        request: Request<'_>,
        sha: Option<Sha>,
        loads: bool,
    ) {
        let Some((_, pool)) = self.keyless_pool(key, command) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let entry = &self.pools[pool];
        let Some(live) = &entry.live else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let name = sha.as_ref().map_or_else(|| request.arg(1), |sha| &sha[..]);
        let target = live.target(name, &entry.key.settings);
        if let Some(sha) = sha.filter(|_| loads)
            && let Ok(connection) = self.connection_for(pool, target, Access::Primary)
        {
            self.load_before(connection, &sha);
        }
        self.forward_target(key, command, target, access_of(command), Payload::of(&request));
    }

    /// Gives the primary of a key a script that it may not have. Where a replica may be drawn instead, NOSCRIPT tells.
    pub fn load_before_key(&mut self, key: usize, command: &Command, sha: &Sha, name: &[u8]) {
        let client = &self.clients[key];
        let Some(route) = self.filters[client.filter].route(name).cloned() else {
            return;
        };
        let pool = route.pool_for(command.is_read());
        let drawn = self.pools[pool].key.settings.read_policy != ReadPolicy::Master;
        if client.features.has(Feature::Transaction) || drawn && command.may_use_replica() {
            return;
        }
        let found = match route.keeps_key {
            true => self.connection_for_key(pool, name, Access::Primary),
            false => self.connection_for_key(pool, &self.rename(key, &route, name), Access::Primary),
        };
        if let Ok(connection) = found {
            self.load_before(connection, sha);
        }
    }

    /// Puts SCRIPT LOAD into a connection's output, if the script is new there and its body is known.
    pub(crate) fn load_before(&mut self, connection: u32, sha: &Sha) {
        let flushes = self.shared.scripts.flushes();
        let seen = &mut self.connections[connection as usize].learnt.seen_scripts;
        if seen.is_new(sha, flushes) && !self.load(connection, sha) {
            // Nobody has shown its body so far.
            self.connections[connection as usize]
                .learnt
                .seen_scripts
                .forget(sha);
        }
    }

    fn load(&mut self, connection: u32, sha: &Sha) -> bool {
        let script = self.shared.scripts.with_sha(sha);
        if let Some(script) = &script {
            self.setup(connection, Purpose::Setup, &[b"SCRIPT", b"LOAD", &script.body]);
        }
        script.is_some()
    }

    /// Looks at a script's error before the client does. True when the command was sent once more.
    #[cold]
    pub(crate) fn script_failed(&mut self, key: usize, pending: &Pending, raw: &[u8]) -> bool {
        let missing = raw.starts_with(MISSING);
        if !missing && !raw.starts_with(b"-ERR Error compiling script") {
            return false;
        }
        let command = redplane_command::all().get(pending.command.index());
        let Some(RequestPolicy::Script(argument)) = command.map(|command| command.request) else {
            return false;
        };
        let Some((frame, args)) = self.sent(key, pending) else {
            return false;
        };
        match (argument, args.arg(&frame, 1)) {
            (Argument::Sha, text) if missing && pending.purpose.row().again => {
                parse_sha(text).is_some_and(|sha| self.load_and_resend(key, pending, &frame, &sha))
            }
            (Argument::Body, body) if !missing => {
                // No server can have it, so that nobody must be told that one has.
                if let Some(sha) = self.shared.known.remember(&self.shared.scripts, body) {
                    self.shared.scripts.forget(&sha);
                }
                false
            }
            _ => false,
        }
    }

    /// A mirror has lost a script that it was given: it gets it, and the command, once more.
    #[cold]
    pub fn mirror_failed(&mut self, key: usize, pending: &Pending, raw: &[u8]) {
        let command = redplane_command::all().get(pending.command.index());
        let by_sha = command.is_some_and(|c| c.request == RequestPolicy::Script(Argument::Sha));
        if !by_sha || !raw.starts_with(MISSING) || self.is_full_mirror(key as u32) {
            return;
        }
        if let Some((frame, args)) = self.sent(key, pending)
            && let Some(sha) = parse_sha(args.arg(&frame, 1))
            && self.load(key as u32, &sha)
        {
            // Nobody looks at the answer this time.
            let again = Pending {
                purpose: Purpose::Setup,
                since: self.now,
                ..*pending
            };
            self.resend_here(key, &again, &frame);
        }
    }

    /// A request as it was sent.
    fn sent(&self, key: usize, pending: &Pending) -> Option<(Bytes, Args)> {
        let frame = self.connections[key].frame_of(pending)?;
        let mut args = Args::default();
        decode(&frame, &mut args, &mut None, true).ok()?;
        (args.len() >= 2).then_some((frame, args))
    }

    fn load_and_resend(&mut self, key: usize, pending: &Pending, frame: &Bytes, sha: &Sha) -> bool {
        let pool = self.connections[key].pool;
        let op_timeout = self.pools[pool].key.settings.op_timeout.as_micros() as u64;
        if self.now >= pending.since + op_timeout || !self.load(key as u32, sha) {
            return false;
        }
        let again = Pending {
            purpose: Purpose::Loaded,
            ..*pending
        };
        self.resend_here(key, &again, frame);
        true
    }

    /// What a queued script command means here: its body is remembered. True when it names a script by its SHA1.
    pub fn script_queued(&mut self, command: &Command, request: &Request<'_>) -> bool {
        if command.request == RequestPolicy::Script(Argument::Body) {
            self.shared.known.remember(&self.shared.scripts, request.arg(1));
        }
        command.request == RequestPolicy::Script(Argument::Sha)
    }

    /// Gives a server the scripts that a transaction's block names, in front of it: inside, nothing can be healed.
    #[cold]
    pub fn load_for_block(&mut self, connection: u32, block: &[u8]) {
        let mut args = Args::default();
        let mut shas: Vec<Sha> = Vec::new();
        let mut rest = block;
        while let Ok(Decoded::Frame(end)) = decode(rest, &mut args, &mut None, true) {
            let command = redplane_command::find(args.len(), |i| args.arg(rest, i));
            if command.is_ok_and(|command| command.request == RequestPolicy::Script(Argument::Sha))
                && let Some(sha) = parse_sha(args.arg(rest, 1))
                && !shas.contains(&sha)
            {
                shas.push(sha);
            }
            rest = &rest[end..];
        }
        for sha in shas {
            self.load(connection, &sha);
        }
    }

    /// What SCRIPT LOAD, FLUSH and EXISTS mean here. For EXISTS: which of the scripts asked for are remembered.
    #[cold]
    pub fn script_effect(&mut self, command: &Command, request: &Request<'_>) -> Vec<bool> {
        match command.effect {
            Effect::None => {}
            Effect::LoadScript => {
                self.shared.known.remember(&self.shared.scripts, request.arg(2));
            }
            Effect::FlushScripts => self.shared.scripts.flush(),
            Effect::AskScripts => {
                let held = |at: usize| {
                    let sha = parse_sha(request.arg(at));
                    sha.is_some_and(|sha| self.shared.scripts.with_sha(&sha).is_some())
                };
                return (2..request.len()).map(held).collect();
            }
        }
        Vec::new()
    }
}

/// Whether a script may write by its first line, `#!lua flags=no-writes`; `None` where it has no such line.
pub fn writes_by_shebang(body: &[u8]) -> Option<bool> {
    let line = body.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let words = line.split(|byte| *byte == b' ').skip(1);
    let mut flags = words.filter_map(|word| word.strip_prefix(b"flags="));
    let declared = |flags: &[u8]| flags.split(|byte| *byte == b',').any(|flag| flag == b"no-writes");
    Some(!flags.any(declared))
}

/// The script that a request of this command names by its SHA1.
pub(crate) fn scripts_named(command: &Command, frame: &[u8]) -> Named {
    let mut args = Args::default();
    let by_sha = command.request == RequestPolicy::Script(Argument::Sha);
    if !by_sha || decode(frame, &mut args, &mut None, true).is_err() || args.len() < 2 {
        return Named::None;
    }
    parse_sha(args.arg(frame, 1)).map_or(Named::None, Named::One)
}

const MISSING: &[u8] = b"-NOSCRIPT No matching script";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_say_whether_they_write() {
        for (body, expected) in [
            ("return 1", None),
            ("#!lua\nreturn 1", Some(true)),
            ("#!lua flags=no-writes\nreturn 1", Some(false)),
            ("#!lua name=x flags=allow-stale,no-writes\nreturn 1", Some(false)),
            ("#!lua flags=allow-oom\n-- flags=no-writes", Some(true)),
            ("#!", Some(true)),
        ] {
            assert_eq!(writes_by_shebang(body.as_bytes()), expected, "{body}");
        }
    }
}
