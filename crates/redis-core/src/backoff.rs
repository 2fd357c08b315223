//! How long a host is left alone that could not be reached: longer with each failure, up to a second.

/// The first pause and the longest, in microseconds.
const FIRST: u64 = 20_000;
const LONGEST: u64 = 1_000_000;

/// The last pause, which the next one doubles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff(u64);

impl Backoff {
    /// The next pause, in microseconds.
    #[must_use]
    pub fn lengthen(&mut self) -> u64 {
        self.0 = (self.0 * 2).clamp(FIRST, LONGEST);
        self.0
    }

    /// The last pause, in microseconds; 0 when there was none since it worked.
    pub fn last(self) -> u64 {
        self.0
    }

    /// It works: the next failure begins with the first pause.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses = [(); 8].map(|()| backoff.lengthen());
        assert_eq!(
            pauses,
            [
                20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_000_000, 1_000_000
            ]
        );
        assert_eq!(backoff.last(), 1_000_000);
        backoff.reset();
        assert_eq!((backoff.last(), backoff.lengthen()), (0, 20_000));
    }
}
