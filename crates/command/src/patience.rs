//! How long a blocking command is willing to wait, read from its arguments.

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

/// The wait of a request, or `None` when it does not block: another command, XREAD without BLOCK, or a
/// timeout that is no number, which the server refuses at once.
pub fn patience<'a>(command: &Command, count: usize, arg: impl Fn(usize) -> &'a [u8]) -> Option<Patience> {
    let RequestPolicy::Blocking(blocking) = command.request else {
        return None;
    };
    match blocking {
        Blocking::LastArgument => seconds(arg(count.checked_sub(1)?)),
        Blocking::FirstArgument => (count > 1).then(|| seconds(arg(1)))?,
        Blocking::Replication => milliseconds(arg(count.checked_sub(1)?)),
        Blocking::BlockOption => {
            let options = (1..count).take_while(|at| !arg(*at).eq_ignore_ascii_case(b"streams"));
            let block = options
                .filter(|at| arg(*at).eq_ignore_ascii_case(b"block"))
                .last()?;
            milliseconds(arg(block.checked_add(1).filter(|at| *at < count)?))
        }
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
