//! How long a blocking command is willing to wait, read from its arguments.

use crate::flags::Flags;
use crate::policy::{Blocking, RequestPolicy};
use crate::table::Command;
use std::time::Duration;

/// How long a blocking command waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until there is something.
    Forever,
    /// At most this long.
    For(Duration),
}

/// Whether a request might block its connection. Rather once too often: a server reads numbers and options more
/// generously than we do, and one that blocks a shared connection blocks everybody.
pub fn may_block<'a>(command: &Command, count: usize, arg: impl Fn(usize) -> &'a [u8]) -> bool {
    match command.request {
        RequestPolicy::Blocking(Blocking::BlockOption) => {
            (1..count).any(|at| arg(at).eq_ignore_ascii_case(b"block"))
        }
        // Of one that was learnt from a server no more is known than this.
        _ => command.flags.contains(Flags::BLOCKING),
    }
}

/// The argument that says how long a request blocks; `None` when it does not.
pub fn timeout_at<'a>(command: &Command, count: usize, arg: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
    let RequestPolicy::Blocking(blocking) = command.request else {
        return None;
    };
    match blocking {
        Blocking::LastArgument | Blocking::Replication => count.checked_sub(1),
        Blocking::FirstArgument => (count > 1).then_some(1),
        Blocking::BlockOption => block_option(count, arg),
    }
}

/// The value of the last BLOCK among the options of XREAD and XREADGROUP. Names of groups, consumers and keys may read
/// like options.
fn block_option<'a>(count: usize, arg: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
    let mut at = 1;
    let mut found = None;
    while at < count {
        let is = |word: &str| arg(at).eq_ignore_ascii_case(word.as_bytes());
        if is("streams") {
            break;
        }
        if is("block") && at + 1 < count {
            found = Some(at + 1);
        }
        at += match () {
            () if is("group") => 3,
            () if is("noack") => 1,
            () => 2,
        };
    }
    found
}

/// The wait of a request, or `None` when it does not block: another command, XREAD without BLOCK, or a
/// timeout that is no number, which the server refuses at once.
pub fn patience<'a>(command: &Command, count: usize, arg: impl Fn(usize) -> &'a [u8]) -> Option<Patience> {
    let text = arg(timeout_at(command, count, &arg)?);
    match command.request {
        RequestPolicy::Blocking(Blocking::LastArgument | Blocking::FirstArgument) => seconds(text),
        _ => milliseconds(text),
    }
}

fn seconds(text: &[u8]) -> Option<Patience> {
    let seconds: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(Patience::of)
}

fn milliseconds(text: &[u8]) -> Option<Patience> {
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .map(|n| Patience::of(Duration::from_millis(n)))
}

impl Patience {
    const fn of(time: Duration) -> Self {
        if time.is_zero() {
            Self::Forever
        } else {
            Self::For(time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::{Description, learn};
    use crate::table::find;

    fn of(request: &str) -> Option<Patience> {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let arg = |at: usize| args[at];
        patience(find(args.len(), arg).expect("a valid request"), args.len(), arg)
    }

    #[test]
    fn waits_are_read_where_each_command_has_them() {
        let half = Some(Patience::For(Duration::from_millis(500)));
        assert_eq!(of("BLPOP a b 0.5"), half);
        assert_eq!(of("BRPOPLPUSH a b 0"), Some(Patience::Forever));
        assert_eq!(of("BLMPOP 0.5 1 a LEFT"), half);
        assert_eq!(of("XREAD COUNT 2 BLOCK 500 STREAMS a 0"), half);
        assert_eq!(of("XREAD block 0 STREAMS a 0"), Some(Patience::Forever));
        assert_eq!(of("WAIT 1 500"), half);
        assert_eq!(of("XREADGROUP GROUP g streams BLOCK 500 STREAMS k >"), half);
        assert_eq!(
            of("XREADGROUP GROUP block block NOACK BLOCK 500 STREAMS k >"),
            half
        );
    }

    #[test]
    fn what_might_block_keeps_to_itself() {
        let might = |request: &str| {
            let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            let command = find(args.len(), |at| args[at]).expect("a valid request");
            may_block(command, args.len(), |at| args[at])
        };
        // A server reads 0x10 as sixteen seconds.
        for request in [
            "BLPOP a 0x10",
            "BLMPOP x 1 a LEFT",
            "XREAD BLOCK x STREAMS a 0",
            "WAIT 1 0",
        ] {
            assert!(might(request), "{request}");
        }
        for request in [
            "GET a",
            "XREAD STREAMS a 0",
            "XREADGROUP GROUP g c COUNT 1 STREAMS a >",
        ] {
            assert!(!might(request), "{request}");
        }
    }

    #[test]
    fn what_was_learnt_as_blocking_keeps_to_itself_as_well() {
        let described = |flags: &[&str]| Description {
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            range: (1, 1, 1),
            tips: Vec::new(),
            keys: Vec::new(),
            subcommands: Vec::new(),
        };
        let learnt = |name, flags: &[&str]| learn(name, &described(flags)).expect("room for it");
        let pop = learnt("queue.pop", &["write", "blocking"]);
        assert!(may_block(&pop.command, 3, |_| b"1"));
        assert_eq!(patience(&pop.command, 3, |_| b"1"), None);
        assert!(!may_block(&learnt("queue.len", &["readonly"]).command, 2, |_| {
            b"1"
        }));
    }

    #[test]
    fn what_the_server_answers_at_once_does_not_wait() {
        for request in [
            "GET a",
            "XREAD STREAMS block 0",
            "BLPOP a -1",
            "BLPOP a x",
            "BLPOP a nan",
            "WAIT 1 -5",
        ] {
            assert_eq!(of(request), None, "{request}");
        }
    }
}
