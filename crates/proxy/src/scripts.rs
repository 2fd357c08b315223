//! EVAL, EVALSHA, FCALL: by their keys as other commands go, or to the one primary where a script without keys is known.
//!
//! What servers have of scripts, and what is sent once more, is a matter of `redis_flow::scripts`.

use redplane_command::{Command, Script as Argument};
use redplane_redis_core::scripts::parse_sha;
use redplane_redis_flow::request::Request;

use crate::engine::Engine;

impl Engine {
    /// EVAL, EVALSHA, FCALL and their read-only forms.
    pub(crate) fn script(
        &mut self,
        key: usize,
        argument: Argument,
        command: &'static Command,
        request: Request<'_>,
    ) {
        let sha = match argument {
            Argument::Body => self
                .core
                .shared
                .known
                .remember(&self.core.shared.scripts, request.arg(1)),
            Argument::Sha => parse_sha(request.arg(1)),
            Argument::Function => None,
        };
        let first = redplane_command::first_key(command, request.len(), |i| request.arg(i));
        let loads = sha.filter(|_| argument == Argument::Sha);
        match first {
            Some(first) => {
                if let Some(sha) = loads {
                    self.core.load_before_key(key, command, &sha, request.arg(first));
                }
                self.by_keys(key, command, request);
            }
            None => self
                .core
                .keyless_script(key, command, request, sha, loads.is_some()),
        }
    }
}
