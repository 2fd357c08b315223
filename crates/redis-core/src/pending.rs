//! Requests that wait for a server's reply: which client waits, since when, and what their purpose means.
//!
//! What holds for all entries of one purpose is one row of one table: code asks the row and matches on no purpose.

use redplane_command::CommandId;

use crate::client::Waiter;

/// What happens to a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client waits for it.
    Reply,
    /// Nobody does: a mirror's.
    Mirror,
    /// COMMAND INFO of a command that the table lacks.
    Lesson,
    /// AUTH.
    Auth,
    /// HELLO 3: without it the connection is of no use.
    Hello,
    /// As `Reply`, behind a SCRIPT LOAD that a NOSCRIPT called for: another one is the client's.
    Loaded,
    /// READONLY, ASKING, SCRIPT LOAD: read and dropped.
    Setup,
    /// PING of a connection that has to prove itself before it gets requests.
    Probe,
    /// MULTI and the commands of a transaction: dropped, unless one is a redirection.
    Queued,
    /// EXEC.
    Exec,
    /// WATCH on a leased connection: a redirection changes the connection.
    Pinned,
    /// A blocking command on a leased connection: it may take as long as it likes.
    Block,
    /// What WAIT asks of a primary.
    Acknowledged,
    /// A WAIT of the proxy's own on a leased connection: it makes replicas speak.
    Nudge,
    /// PUBLISH while clients are subscribed: the server's count is put right.
    Published,
    /// A command on a connection that carries subscriptions.
    Feed,
    /// AUTH of a client's login, SELECT and CLIENT TRACKING in front of all requests: until they are granted none of those is written.
    Greeting,
    /// A client's own SELECT: it waits, and goes back to where it was (`part` of the waiter) when it is refused.
    Select,
    /// A client's own AUTH, which a server decides on: it is who it was when that is refused.
    Login,
    /// A PING whose reply a client's CLIENT TRACKING waits for: the server has granted what stands in front of it.
    Track,
    /// CLIENT ID of a connection that invalidations are redirected to.
    Relay,
    /// PING on such a connection: what comes behind the reply is not about writes that were answered in front of it.
    Fence,
    /// PING behind all that was sent before a pause: when its reply is there, nothing of that is on its way.
    Quiet,
}

/// When a reply is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// After `op_timeout`.
    Usual,
    /// The same, but no sooner than after a second: servers look at the clock of those that wait some ten times a second.
    ASecond,
    /// Never: it may take as long as it likes.
    Never,
}

/// What holds for every entry of one purpose.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    purpose: Purpose,
    /// Envoy counts what clients sent, by its verb, and nothing that it sends itself.
    pub counted: bool,
    /// Errors are looked at before the client sees them: redirections are followed, scripts loaded.
    pub redirected: bool,
    /// When there is no reply, its client gets that for an answer.
    pub fails: bool,
    /// Its reply tells what became of keys: clients that cache them want to know.
    pub executes: bool,
    /// A request that named a script by its SHA1 may be sent again behind the script.
    pub again: bool,
    /// Its client has to wait while too much waits at the server.
    pub bounded: bool,
    /// WAIT asks the server that got it, if its command writes.
    pub marks: bool,
    /// When its reply is late.
    pub deadline: Deadline,
}

/// A row: its flags by their messages, in the order of [`Row`]'s fields.
const fn row(purpose: Purpose, flags: &[u8; 7], deadline: Deadline) -> Row {
    Row {
        purpose,
        counted: flags[0] == b'c',
        redirected: flags[1] == b'r',
        fails: flags[2] == b'f',
        executes: flags[3] == b'x',
        again: flags[4] == b'a',
        bounded: flags[5] == b'b',
        marks: flags[6] == b'm',
        deadline,
    }
}

#[rustfmt::skip]
const ROWS: [Row; 23] = [
    row(Purpose::Reply,        b"crfxabm", Deadline::Usual),
    row(Purpose::Mirror,       b"c......", Deadline::Usual),
    row(Purpose::Lesson,       b".......", Deadline::Usual),
    row(Purpose::Auth,         b".......", Deadline::Usual),
    row(Purpose::Hello,        b".......", Deadline::Usual),
    row(Purpose::Loaded,       b"crfx.bm", Deadline::Usual),
    row(Purpose::Setup,        b".......", Deadline::Usual),
    row(Purpose::Probe,        b".......", Deadline::Usual),
    row(Purpose::Queued,       b".......", Deadline::Usual),
    row(Purpose::Exec,         b"c.fx.bm", Deadline::Usual),
    row(Purpose::Pinned,       b"c.f..b.", Deadline::Usual),
    row(Purpose::Block,        b"c..x.bm", Deadline::Never),
    row(Purpose::Acknowledged, b".......", Deadline::Usual),
    row(Purpose::Nudge,        b".......", Deadline::ASecond),
    row(Purpose::Published,    b"crf..bm", Deadline::Usual),
    row(Purpose::Feed,         b".......", Deadline::Usual),
    row(Purpose::Greeting,     b".......", Deadline::Usual),
    row(Purpose::Select,       b"..f..b.", Deadline::Usual),
    row(Purpose::Login,        b".....b.", Deadline::Usual),
    row(Purpose::Track,        b".......", Deadline::Usual),
    row(Purpose::Relay,        b".......", Deadline::Usual),
    row(Purpose::Fence,        b".......", Deadline::Usual),
    row(Purpose::Quiet,        b".......", Deadline::Usual),
];

impl Purpose {
    /// What holds for it.
    #[inline]
    pub fn row(self) -> &'static Row {
        let row = &ROWS[self as usize];
        debug_assert_eq!(row.purpose, self, "a row stands in another's place");
        row
    }
}

/// How a request came to the connection that it waits on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Travel(u8);

impl Travel {
    const RESENT: u8 = 0x80;

    /// Redirections that were followed.
    pub fn hops(self) -> u8 {
        self.0 & !Self::RESENT
    }

    /// Whether it was sent before, here or elsewhere: its age says nothing about the server that has it now.
    #[inline]
    pub fn is_resent(self) -> bool {
        self.0 & Self::RESENT != 0
    }

    /// How often it was sent; what is repeated without a redirection counts twice.
    pub fn times_sent(self) -> u32 {
        u32::from(self.hops()).max(u32::from(self.is_resent())) + 1
    }

    /// It is sent once more.
    pub fn again(self) -> Self {
        Self(self.0 | Self::RESENT)
    }

    /// It is sent to where a redirection leads.
    pub fn hop(self) -> Self {
        Self((self.0 + 1) | Self::RESENT)
    }
}

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Who waits.
    pub waiter: Waiter,
    /// The turn it was first sent in: microseconds of the engine's clock. Being sent again does not change it.
    pub since: u64,
    /// Where its bytes are in the connection's output.
    pub at: u64,
    /// How many they are.
    pub len: u32,
    /// Its command.
    pub command: CommandId,
    /// What happens to the reply.
    pub purpose: Purpose,
    /// How it came here.
    pub travel: Travel,
}

impl Pending {
    /// When its reply is late, in microseconds of the engine's clock.
    pub fn late_at(&self, op_timeout: u64) -> u64 {
        match self.purpose.row().deadline {
            Deadline::Never => u64::MAX,
            Deadline::ASecond => self.since + op_timeout.max(1_000_000),
            Deadline::Usual => self.since + op_timeout,
        }
    }

    /// The command by which it is counted among those of its host; `None` where Envoy counts nothing.
    #[inline]
    pub fn counted(&self) -> Option<CommandId> {
        let known = self.command.index() < redplane_command::all().len();
        (self.purpose.row().counted && known).then_some(self.command)
    }

    /// Whether what it asks for may change something. Nothing is known of custom commands.
    pub fn writes(&self) -> bool {
        let command = redplane_command::all().get(self.command.index());
        command.is_none_or(|command| !command.is_read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_its_row() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(
                row.purpose as usize, at,
                "{:?} stands in another's place",
                row.purpose
            );
            assert_eq!(row.purpose.row().purpose, row.purpose);
            // Whoever may be sent elsewhere has a client that hears of it when that fails.
            assert!(!row.redirected || row.fails, "{:?}", row.purpose);
            assert!(!row.again || row.redirected, "{:?}", row.purpose);
            assert!(!row.marks || row.bounded, "{:?}", row.purpose);
        }
    }

    #[test]
    fn travels_are_counted_by_hops() {
        let fresh = Travel::default();
        assert!(!fresh.is_resent() && fresh.again().is_resent());
        assert_eq!(fresh.again().hops(), 0);
        assert_eq!(fresh.hop().again().hop().hops(), 2);
    }
}
