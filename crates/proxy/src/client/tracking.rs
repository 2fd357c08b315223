//! CLIENT TRACKING and its relatives, as far as they go without invalidations: OFF is what is, ON is refused.
//!
//! Invalidations of every shard would have to be collected and relayed; a client that was told OK and never heard of a
//! change would go on with what is no longer true.

use redplane_command::{Command, Local, error};
use redplane_resp::encode;

use crate::dispatch::Request;
use crate::engine::Engine;

const REFUSED: &[u8] =
    b"-ERR CLIENT TRACKING ON is not offered by the proxy: invalidations of all shards are not relayed\r\n";
const CACHING: &[u8] =
    b"-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
OPTOUT mode enabled\r\n";

impl Engine {
    /// CLIENT TRACKING, TRACKINGINFO, CACHING and GETREDIR.
    pub(super) fn client_tracking(
        &mut self,
        key: usize,
        local: Local,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        match local {
            Local::ClientTracking if !are_options(request) => self.answer(key, error::SYNTAX),
            Local::ClientTracking if request.arg(2).eq_ignore_ascii_case(b"ON") => self.answer(key, REFUSED),
            Local::ClientTracking if request.arg(2).eq_ignore_ascii_case(b"OFF") => {
                self.answer(key, b"+OK\r\n");
            }
            Local::ClientTracking => self.answer(key, error::SYNTAX),
            Local::ClientCaching => self.answer(key, CACHING),
            Local::ClientGetRedir => self.answer(key, b":-1\r\n"),
            Local::ClientTrackingInfo => {
                let resp3 = self.is_resp3(key);
                self.answer_with(key, |out| {
                    encode::map(out, 3, resp3);
                    out.extend_from_slice(b"$5\r\nflags\r\n");
                    out.extend_from_slice(if resp3 { b"~1\r\n" } else { b"*1\r\n" });
                    out.extend_from_slice(b"$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n");
                });
            }
            _ => self.answer_with(key, |out| error::wrong_arity(out, command)),
        }
    }
}

/// Whether the options behind ON and OFF are such.
fn are_options(request: &Request<'_>) -> bool {
    let mut at = 3;
    while at < request.len() {
        let is = |name: &str| request.arg(at).eq_ignore_ascii_case(name.as_bytes());
        at += match () {
            () if is("BCAST") || is("OPTIN") || is("OPTOUT") || is("NOLOOP") => 1,
            () if (is("REDIRECT") || is("PREFIX")) && at + 1 < request.len() => 2,
            () => return false,
        };
    }
    true
}
