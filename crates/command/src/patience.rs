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
