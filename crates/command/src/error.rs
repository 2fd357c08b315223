//! Error replies in Redis's exact words, as whole RESP lines that are appended to a caller's buffer.
//!
//! Names and arguments come from clients: control bytes become spaces, so that nothing echoed can end the
//! line early, and what is echoed is bounded.

use crate::policy::{Refusal, RequestPolicy};
use crate::table::Command;

/// As much of a name, and of all arguments together, as is echoed.
const ECHO_LIMIT: usize = 128;

macro_rules! lines {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &[u8] = concat!("-", $text, "\r\n").as_bytes();)*
    };
}

lines! {
    /// Keys of one command in several slots.
    CROSSSLOT = "CROSSSLOT Keys in request don't hash to the same slot";
    /// EXEC outside a transaction.
    EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI";
    /// DISCARD outside a transaction.
    DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI";
    /// MULTI inside a transaction.
    NESTED_MULTI = "ERR MULTI calls can not be nested";
    /// WATCH inside a transaction; the transaction stays valid.
    WATCH_INSIDE_MULTI = "ERR WATCH inside MULTI is not allowed";
    /// A command with the flag no_multi inside a transaction.
    NOT_IN_TRANSACTION = "ERR Command not allowed inside a transaction";
    /// SSUBSCRIBE when EXEC runs it; SUBSCRIBE and PSUBSCRIBE are let through for clients of old.
    SSUBSCRIBE_IN_TRANSACTION = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client";
    /// EXEC after an error while queueing.
    EXECABORT = "EXECABORT Transaction discarded because of previous errors.";
    /// The client has not logged in.
    NOAUTH = "NOAUTH Authentication required.";
    /// HELLO without AUTH before the client has logged in.
    NOAUTH_HELLO = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
    /// A wrong user or password.
    WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled.";
    /// AUTH with a password where none is configured.
    AUTH_WITHOUT_PASSWORD = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
    /// A malformed command.
    SYNTAX = "ERR syntax error";
    /// An argument that should be an integer.
    NOT_AN_INTEGER = "ERR value is not an integer or out of range";
    /// HELLO with a protocol other than 2 and 3.
    NOPROTO = "NOPROTO unsupported protocol version";
    /// HELLO with a protocol that is no number.
    BAD_PROTO = "ERR Protocol version is not an integer or out of range";
    /// SELECT of a database other than 0 on a cluster.
    SELECT_IN_CLUSTER = "ERR SELECT is not allowed in cluster mode";
    /// A slot that no node serves.
    CLUSTERDOWN_SLOT = "CLUSTERDOWN Hash slot not served";
    /// COMMAND GETKEYS of an unknown command.
    INVALID_COMMAND = "ERR Invalid command specified";
    /// COMMAND GETKEYS with a wrong number of arguments.
    INVALID_ARGUMENTS = "ERR Invalid number of arguments specified for command";
    /// COMMAND GETKEYS of a command without keys.
    NO_KEY_ARGUMENTS = "ERR The command has no key arguments";
    /// CLIENT UNBLOCK with ERROR, said to the client that waited.
    UNBLOCKED = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
    /// CLIENT SETNAME with blanks in the name.
    BAD_CLIENT_NAME = "ERR Client names cannot contain spaces, newlines or special characters.";
    /// INFO.SHARD with an index that is no number; the words are Envoy's.
    SHARD_NOT_A_NUMBER = "ERR invalid shard_id - must be a numeric shard index";
}

/// No command has this name. `args` are the arguments behind it.
pub fn unknown_command<'a>(out: &mut Vec<u8>, name: &[u8], args: impl IntoIterator<Item = &'a [u8]>) {
    out.extend_from_slice(b"-ERR unknown command '");
    echo(out, cut(name, ECHO_LIMIT));
    out.extend_from_slice(b"', with args beginning with: ");
    let start = out.len();
    for arg in args {
        // Redis counts the quotes and blanks already written against the limit.
        let Some(left) = ECHO_LIMIT.checked_sub(out.len() - start).filter(|left| *left > 0) else {
            break;
        };
        out.push(b'\'');
        echo(out, cut(arg, left));
        out.extend_from_slice(b"' ");
    }
    out.extend_from_slice(b"\r\n");
}

/// The command has another arity.
pub fn wrong_arity(out: &mut Vec<u8>, command: &Command) {
    out.extend_from_slice(b"-ERR wrong number of arguments for '");
    out.extend_from_slice(command.name.as_bytes());
    out.extend_from_slice(b"' command\r\n");
}

/// The container has no such subcommand.
pub fn unknown_subcommand(out: &mut Vec<u8>, container: &Command, sub: &[u8]) {
    out.extend_from_slice(b"-ERR unknown subcommand '");
    echo(out, cut(sub, ECHO_LIMIT));
    out.extend_from_slice(b"'. Try ");
    out.extend(container.container.bytes().map(|byte| byte.to_ascii_uppercase()));
    out.extend_from_slice(b" HELP.\r\n");
}

/// Not allowed while a RESP2 client has subscriptions.
pub fn in_pubsub(out: &mut Vec<u8>, command: &Command) {
    out.extend_from_slice(b"-ERR Can't execute '");
    out.extend_from_slice(command.name.as_bytes());
    out.extend_from_slice(
        b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n",
    );
}

/// A command that is known and not offered. `name` and `args` are as the client wrote them.
///
/// What a node would not know either is unknown; MOVE and SWAPDB get the words of a cluster's node.
pub fn refused<'a>(
    out: &mut Vec<u8>,
    command: &Command,
    name: &[u8],
    args: impl IntoIterator<Item = &'a [u8]>,
) {
    match command.request {
        RequestPolicy::Refuse(Refusal::OneDatabase) => {
            out.extend_from_slice(b"-ERR ");
            out.extend(command.name.bytes().map(|byte| byte.to_ascii_uppercase()));
            out.extend_from_slice(b" is not allowed in cluster mode\r\n");
        }
        RequestPolicy::Refuse(why) if !why.hides() => {
            out.extend_from_slice(b"-ERR '");
            out.extend_from_slice(command.name.as_bytes());
            out.extend_from_slice(b"' is not offered by the proxy: ");
            out.extend_from_slice(why.reason().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        _ => unknown_command(out, name, args),
    }
}

/// Any text as an error line; `text` begins with its code (`ERR …`).
pub fn line(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    echo(out, text);
    out.extend_from_slice(b"\r\n");
}

fn cut(text: &[u8], limit: usize) -> &[u8] {
    // Redis prints with %.*s, which ends at a zero byte.
    let text = text.get(..limit).unwrap_or(text);
    text.split(|byte| *byte == 0).next().unwrap_or(text)
}

fn echo(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(
        text.iter()
            .map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::lookup;

    fn refusal(name: &str) -> String {
        let mut out = Vec::new();
        let command = lookup(name.as_bytes()).expect("a known command");
        refused(&mut out, command, name.as_bytes(), [b"x".as_slice()]);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn refusals_have_the_words_that_fit() {
        assert_eq!(
            refusal("SWAPDB"),
            "-ERR SWAPDB is not allowed in cluster mode\r\n"
        );
        assert_eq!(
            refusal("Psync"),
            "-ERR unknown command 'Psync', with args beginning with: 'x' \r\n"
        );
        assert_eq!(
            refusal("BGSAVE"),
            "-ERR 'bgsave' is not offered by the proxy: it concerns one node's disk\r\n"
        );
    }

    #[test]
    fn control_bytes_are_not_echoed() {
        let mut out = Vec::new();
        unknown_command(&mut out, b"a\r\n+OK\x1b", [b"\0hidden".as_slice()]);
        assert_eq!(
            out,
            b"-ERR unknown command 'a  +OK ', with args beginning with: '' \r\n"
        );
    }
}
