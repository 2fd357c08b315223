//! How requests ended, as one value that is compared and counted.

use redplane_command::CommandId;

/// How requests ended: the same for a whole run of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `None` where Envoy has no row for it.
    pub command: Option<CommandId>,
    /// It was no error.
    pub success: bool,
    /// How long it took, in microseconds.
    pub micros: u64,
}

impl Outcome {
    /// It as one word; the time has 46 bits of it, which are two years.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        let command = self.command.map_or(0, |command| u64::from(command.0) + 1);
        self.micros << 18 | command << 1 | u64::from(self.success)
    }

    pub(crate) fn of_word(word: u64) -> Self {
        let command = (word >> 1 & 0x1_ffff).checked_sub(1);
        Self {
            command: command.map(|command| CommandId(command as u16)),
            success: word & 1 == 1,
            micros: word >> 18,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_words_and_back() {
        for command in [None, Some(CommandId(0)), Some(CommandId(u16::MAX))] {
            for (success, micros) in [(true, 0), (false, 1), (true, (1 << 46) - 1)] {
                let outcome = Outcome {
                    command,
                    success,
                    micros,
                };
                assert_eq!(Outcome::of_word(outcome.word()), outcome);
            }
        }
    }
}
