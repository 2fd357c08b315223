//! Histograms: log-linear buckets, sixteen to a power of two up to 2^36, so a quantile is at most 3.2 % off.
//!
//! Values below 16 have a bucket each. The sixteen buckets of one power of two are allocated when the first value falls
//! there: a histogram that sees only latencies between 100 and 1000 microseconds costs four such rows.
//! Quantiles and their text follow Envoy's `/stats` page.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The quantiles that Envoy prints, in per cent.
pub const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

const PER_ROW: usize = 16;
const ROWS: usize = 33;
const BUCKETS: usize = ROWS * PER_ROW;

/// One writer's counts.
#[derive(Debug)]
pub(crate) struct HistogramCells {
    sum: AtomicU64,
    rows: [OnceLock<Box<[AtomicU64; PER_ROW]>>; ROWS],
}

impl Default for HistogramCells {
    fn default() -> Self {
        Self {
            sum: AtomicU64::new(0),
            rows: [const { OnceLock::new() }; ROWS],
        }
    }
}

impl HistogramCells {
    pub(crate) fn record(&self, value: u64, times: u64) {
        let bucket = bucket_of(value);
        let row = self.rows[bucket / PER_ROW].get_or_init(Box::default);
        bump(&row[bucket % PER_ROW], times);
        bump(&self.sum, value.wrapping_mul(times));
    }
}

fn bump(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
}

fn bucket_of(value: u64) -> usize {
    if value < PER_ROW as u64 {
        return value as usize;
    }
    let power = 63 - value.leading_zeros() as usize;
    let row = power - 3;
    if row >= ROWS {
        return BUCKETS - 1;
    }
    row * PER_ROW + ((value >> (power - 4)) as usize & (PER_ROW - 1))
}

/// The smallest and the largest value of a bucket.
fn bounds(bucket: usize) -> (u64, u64) {
    let (row, column) = (bucket / PER_ROW, (bucket % PER_ROW) as u64);
    if row == 0 {
        return (column, column);
    }
    let low = (PER_ROW as u64 + column) << (row - 1);
    (low, low + (1 << (row - 1)) - 1)
}

/// Counts added up over writers, or the part of them that fell into one interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
}

impl Distribution {
    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of the values, in the histogram's unit.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The value below which `percent` per cent of the recorded values lie; `None` when there are none.
    pub fn quantile(&self, percent: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let wanted = (percent / 100.0).clamp(0.0, 1.0) * self.count as f64;
        let mut before = 0.0;
        for (bucket, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = count as f64;
            if wanted <= before + count {
                let (low, high) = bounds(bucket);
                return Some(low as f64 + (high - low) as f64 * ((wanted - before) / count));
            }
            before += count;
        }
        self.counts
            .iter()
            .rposition(|count| *count > 0)
            .map(|bucket| bounds(bucket).1 as f64)
    }

    /// How many values are at most `bound`; a bucket that lies across it counts with its middle.
    pub fn at_most(&self, bound: f64) -> u64 {
        let below = |bucket: usize| {
            let (low, high) = bounds(bucket);
            (low as f64 + high as f64) / 2.0 <= bound
        };
        self.counts
            .iter()
            .enumerate()
            .take_while(|(bucket, _)| below(*bucket))
            .map(|(_, count)| count)
            .sum()
    }

    /// The non-empty buckets: smallest value, width, count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, &count)| {
                let (low, high) = bounds(bucket);
                (low, high - low + 1, count)
            })
    }

    pub(crate) fn add_cells(&mut self, cells: &HistogramCells) {
        for (row, counts) in cells.rows.iter().enumerate() {
            for (column, count) in counts.get().into_iter().flat_map(|row| row.iter().enumerate()) {
                self.add_count(row * PER_ROW + column, count.load(Relaxed));
            }
        }
        self.sum = self.sum.wrapping_add(cells.sum.load(Relaxed));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (bucket, &count) in other.counts.iter().enumerate() {
            self.add_count(bucket, count);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What came since `earlier`, an older state of the same distribution.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut grown = Self {
            sum: self.sum.wrapping_sub(earlier.sum),
            ..Self::default()
        };
        for (bucket, &count) in self.counts.iter().enumerate() {
            grown.add_count(
                bucket,
                count.saturating_sub(earlier.counts.get(bucket).copied().unwrap_or(0)),
            );
        }
        grown
    }

    fn add_count(&mut self, bucket: usize, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].wrapping_add(count);
        self.count = self.count.wrapping_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn distribution(values: &[u64]) -> Distribution {
        let cells = HistogramCells::default();
        values.iter().for_each(|value| cells.record(*value, 1));
        let mut sum = Distribution::default();
        sum.add_cells(&cells);
        sum
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 1..BUCKETS {
            assert_eq!(bounds(bucket - 1).1 + 1, bounds(bucket).0);
        }
        assert_eq!(bounds(BUCKETS - 1).1, (1 << 36) - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn small_numbers_are_exact() {
        let three = distribution(&[1, 2, 3]);
        assert_eq!(three.quantile(0.0), Some(1.0));
        assert_eq!(three.quantile(50.0), Some(2.0));
        assert_eq!(three.quantile(100.0), Some(3.0));
        assert_eq!((three.count(), three.sum(), three.at_most(2.0)), (3, 6, 2));
        assert_eq!(
            three.buckets().collect::<Vec<_>>(),
            [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
        );
        assert_eq!(Distribution::default().quantile(50.0), None);
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(value in 0..1_u64 << 36) {
            let (low, high) = bounds(bucket_of(value));
            prop_assert!(low <= value && value <= high);
            // Half the width over the lowest value: the error of the middle.
            prop_assert!((high - low) as f64 / 2.0 <= low as f64 * 0.032);
        }

        #[test]
        fn quantiles_rise_and_stay_near_the_true_ones(mut values in prop::collection::vec(0..1_u64 << 30, 1..200)) {
            let sum = distribution(&values);
            values.sort_unstable();
            let found: Vec<f64> = QUANTILES.iter().filter_map(|percent| sum.quantile(*percent)).collect();
            prop_assert!(found.is_sorted());
            let (first, last) = (values[0] as f64, values[values.len() - 1] as f64);
            prop_assert!((found[0] - first).abs() <= first * 0.064);
            prop_assert!((found[9] - last).abs() <= last * 0.064);
        }

        #[test]
        fn parts_add_up(one in prop::collection::vec(any::<u64>(), 0..50), two in prop::collection::vec(any::<u64>(), 0..50)) {
            let (first, mut both) = (distribution(&one), distribution(&one));
            both.add(&distribution(&two));
            prop_assert_eq!(both.count(), (one.len() + two.len()) as u64);
            prop_assert_eq!(both.since(&first), distribution(&two));
            prop_assert_eq!(both.at_most(f64::INFINITY), both.count());
        }
    }
}
