//! What has come from a client and is not dealt with, and the reasons why it rests.
//!
//! Most requests go out while earlier ones are still in flight. Some must not, and some clients must wait: every such
//! reason stands in a set, is put in by whoever has it and taken out by the same, and nothing is decoded or read before
//! the set is empty. So no reason can end another.

use redplane_command::CommandId;
use redplane_resp::request::Partial;

use crate::input::Carry;

/// Why nothing of a client's input is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Too much waits for the client itself: it does not read, or its first reply is slow.
    Output,
    /// Too much waits at servers that it has sent to.
    Upstream,
    /// Every reply that it is owed has to come and to be written first.
    Order,
    /// A server has to say what the command is that it sent.
    Lesson,
    /// CLIENT PAUSE.
    Pause,
    /// Nothing else any more: it goes on before the turn ends.
    Turn,
    /// What it was promised is answered, then the connection closes (QUIT, FIN, protocol error, drain). For good.
    End,
    /// It is closed, and leaves with the actions of the turn. For good.
    Closed,
}

impl Rest {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Output,
        Self::Upstream,
        Self::Order,
        Self::Lesson,
        Self::Pause,
        Self::Turn,
        Self::End,
        Self::Closed,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Upstream => "upstream",
            Self::Order => "order",
            Self::Lesson => "lesson",
            Self::Pause => "pause",
            Self::Turn => "turn",
            Self::End => "end",
            Self::Closed => "closed",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rests(u8);

impl Rests {
    /// Whether there is none: the input is looked at.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is one of them.
    #[inline]
    pub fn has(self, rest: Rest) -> bool {
        self.0 & rest.bit() != 0
    }

    /// Those that are there.
    pub fn iter(self) -> impl Iterator<Item = Rest> {
        Rest::ALL.into_iter().filter(move |rest| self.has(*rest))
    }

    fn add(&mut self, rest: Rest) {
        self.0 |= rest.bit();
    }

    fn remove(&mut self, rest: Rest) {
        self.0 &= !rest.bit();
    }
}

/// One client's input.
#[derive(Debug, Default)]
pub struct Inlet {
    /// Bytes that are not decoded.
    pub carry: Carry,
    /// How far the decoder has come in a request that has not arrived as a whole.
    pub partial: Option<Box<Partial>>,
    rests: Rests,
    /// Connections to servers at which too much waits: it rests until none is left.
    full: u16,
    /// Bytes that came.
    pub received: u64,
    /// When something came, in microseconds of the turn's clock.
    pub heard: u64,
    /// The command that came last.
    pub last: Option<CommandId>,
}

impl Inlet {
    /// Of a client that came at this time.
    pub fn new(now: u64) -> Self {
        Self {
            heard: now,
            ..Self::default()
        }
    }

    /// Why it rests.
    #[inline]
    pub fn rests(&self) -> Rests {
        self.rests
    }

    /// Whether it rests for this reason.
    #[inline]
    pub fn rests_for(&self, rest: Rest) -> bool {
        self.rests.has(rest)
    }

    /// Whether the connection ends as soon as all is answered.
    #[inline]
    pub fn is_ending(&self) -> bool {
        self.rests.has(Rest::End) || self.is_closed()
    }

    /// Whether it is closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.rests.has(Rest::Closed)
    }

    /// Nothing is looked at before this reason is lifted.
    pub fn rest(&mut self, rest: Rest) {
        self.rests.add(rest);
    }

    /// A reason is over. True when that was the last one: what has arrived is to be looked at.
    pub fn lift(&mut self, rest: Rest) -> bool {
        let rested = !self.rests.is_empty();
        self.rests.remove(rest);
        rested && self.rests.is_empty()
    }

    /// Too much waits at one more server's connection.
    pub fn choke(&mut self) {
        self.full = self.full.saturating_add(1);
        self.rests.add(Rest::Upstream);
    }

    /// One of them has room again, or is gone. True when nothing rests any more.
    pub fn unchoke(&mut self) -> bool {
        self.full = self.full.saturating_sub(1);
        self.full == 0 && self.lift(Rest::Upstream)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reasons_do_not_end_each_other() {
        let mut inlet = Inlet::new(0);
        inlet.choke();
        inlet.choke();
        inlet.rest(Rest::Output);
        assert!(!inlet.lift(Rest::Output), "servers are full");
        assert!(!inlet.unchoke(), "one of them still is");
        inlet.rest(Rest::Order);
        assert!(!inlet.unchoke());
        assert!(!inlet.lift(Rest::Pause), "it was none of them");
        assert!(inlet.lift(Rest::Order));
        assert!(!inlet.lift(Rest::Order), "it goes on once");
        let names: Vec<&str> = Rest::ALL.iter().map(|rest| rest.name()).collect();
        assert_eq!(
            names,
            [
                "output", "upstream", "order", "lesson", "pause", "turn", "end", "closed"
            ]
        );
    }

    proptest! {
        /// It goes on when the last reason is lifted, no sooner and once.
        #[test]
        fn it_rests_while_there_is_a_reason(steps in prop::collection::vec((0..8usize, any::<bool>()), 0..80)) {
            let mut inlet = Inlet::new(0);
            let (mut set, mut full) = (std::collections::BTreeSet::new(), 0_u32);
            for (at, comes) in steps {
                let rest = Rest::ALL[at];
                let before = set.is_empty() && full == 0;
                let goes_on = match (rest, comes) {
                    (Rest::Upstream, true) => { inlet.choke(); full += 1; false }
                    (Rest::Upstream, false) => { full = full.saturating_sub(1); inlet.unchoke() }
                    (rest, true) => { inlet.rest(rest); set.insert(at); false }
                    (rest, false) => { set.remove(&at); inlet.lift(rest) }
                };
                let after = set.is_empty() && full == 0;
                prop_assert_eq!(goes_on, !before && after);
                prop_assert_eq!(inlet.rests().is_empty(), after);
                let shown: Vec<Rest> = inlet.rests().iter().collect();
                prop_assert_eq!(shown.len(), set.len() + usize::from(full > 0));
            }
        }
    }
}
