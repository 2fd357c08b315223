//! The way to one host: its connection, or how long there will be none.

use std::time::Duration;

use crate::backoff::Backoff;

/// The connection to one host, or how long there will be none.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// The connection, where there is one.
    pub connection: Option<u32>,
    /// The host could not be reached: requests fail at once until a connection proves itself.
    pub failing: bool,
    /// When the next attempt may be made, in microseconds of the turn's clock.
    pub retry_at: u64,
    backoff: Backoff,
    /// Tokens of `connection_rate_limit`, and when they were counted.
    tokens: f64,
    counted_at: u64,
}

impl Link {
    /// Notes a failure; the next attempt waits longer each time.
    pub fn failed(&mut self, now: u64) {
        self.connection = None;
        self.failing = true;
        self.retry_at = now + self.backoff.lengthen();
    }

    /// Notes a connection that works.
    pub fn recovered(&mut self) {
        self.failing = false;
        self.backoff.reset();
    }

    /// Takes a token for a new connection.
    pub fn may_connect(&mut self, rate: Option<u32>, now: u64) -> bool {
        let Some(rate) = rate.map(f64::from) else {
            return true;
        };
        let elapsed = Duration::from_micros(now.saturating_sub(self.counted_at)).as_secs_f64();
        let full = self.counted_at == 0;
        self.tokens = if full {
            rate
        } else {
            (self.tokens + elapsed * rate).min(rate)
        };
        self.counted_at = now.max(1);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_wait_longer_each_time() {
        let mut link = Link::default();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                link.failed(0);
                link.retry_at
            })
            .collect();
        assert_eq!(
            waits,
            [
                20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_000_000, 1_000_000
            ]
        );
        link.recovered();
        link.failed(5);
        assert_eq!(link.retry_at, 20_005);
    }

    #[test]
    fn tokens_come_back_with_time() {
        let mut link = Link::default();
        assert!(link.may_connect(Some(2), 10) && link.may_connect(Some(2), 10));
        assert!(!link.may_connect(Some(2), 10));
        assert!(!link.may_connect(Some(2), 400_000));
        assert!(link.may_connect(Some(2), 600_000));
        assert!(link.may_connect(None, 600_000));
    }
}
