//! The cells that one writer owns.
//!
//! Every cell has exactly one writer, so a change is a relaxed load and a relaxed store: an ordinary `add` in memory,
//! no locked instruction. Readers may see a change late, never half of it. A gauge's cell keeps twice its value plus a
//! mark in the lowest bit that says "was written", because Envoy's `usedonly` shows a gauge that was set to 0.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::histogram::HistogramCells;
use crate::{CounterId, GaugeId, HistogramId, Schema};

/// The cells of one schema for one writer.
///
/// All methods take `&self`, but only one thread may write at a time: two would lose counts (never memory safety).
#[derive(Debug)]
pub struct Cells {
    scalars: Box<[AtomicU64]>,
    histograms: Box<[OnceLock<Box<HistogramCells>>]>,
}

/// The "was written" mark of a gauge.
const WRITTEN: u64 = 1;

impl Cells {
    pub(crate) fn new(schema: &'static Schema) -> Self {
        Self {
            scalars: (0..schema.scalars).map(|_| AtomicU64::new(0)).collect(),
            histograms: (0..schema.histograms).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Adds one to a counter or a gauge.
    pub fn inc(&self, id: impl Additive) {
        self.add(id, 1);
    }

    /// Adds to a counter or a gauge.
    pub fn add(&self, id: impl Additive, amount: u64) {
        let (at, shift, mark) = id.encoding();
        self.change(at, |cell| cell.wrapping_add(amount << shift) | mark);
    }

    /// Takes one from a gauge.
    pub fn dec(&self, id: GaugeId) {
        self.sub(id, 1);
    }

    /// Lowers a gauge. One block may go below zero as long as another makes up for it; the printed sum never does.
    pub fn sub(&self, id: GaugeId, amount: u64) {
        self.change(id.0, |cell| cell.wrapping_sub(amount << 1) | WRITTEN);
    }

    /// Sets this writer's part of a gauge; the parts of all writers are added up.
    pub fn set(&self, id: GaugeId, value: u64) {
        self.change(id.0, |_| (value << 1) | WRITTEN);
    }

    /// Records a value of a histogram, in the histogram's unit. Values from 2^36 on are counted in the last bucket.
    pub fn record(&self, id: HistogramId, value: u64) {
        self.record_many(id, value, 1);
    }

    /// Records the same value several times (commands that ended in the same turn).
    pub fn record_many(&self, id: HistogramId, value: u64, times: u64) {
        let cell = self.histograms.get(usize::from(id.0));
        debug_assert!(cell.is_some(), "a histogram of another schema");
        if let Some(cell) = cell {
            cell.get_or_init(Box::default).record(value, times);
        }
    }

    /// A handle of another schema is a mistake of the caller; it is caught by tests and must not end the process.
    fn change(&self, at: u16, change: impl FnOnce(u64) -> u64) {
        let cell = self.scalars.get(usize::from(at));
        debug_assert!(cell.is_some(), "a stat of another schema");
        if let Some(cell) = cell {
            cell.store(change(cell.load(Relaxed)), Relaxed);
        }
    }

    pub(crate) fn raw(&self, at: usize) -> u64 {
        self.scalars[at].load(Relaxed)
    }

    pub(crate) fn histogram(&self, at: usize) -> Option<&HistogramCells> {
        self.histograms[at].get().map(Box::as_ref)
    }
}

/// What can be added to: a counter or a gauge.
pub trait Additive: sealed::Encoded {}
impl Additive for CounterId {}
impl Additive for GaugeId {}

mod sealed {
    use super::{CounterId, GaugeId, WRITTEN};

    pub trait Encoded {
        /// The cell's place, how far its value is shifted, and the mark that a change leaves.
        fn encoding(self) -> (u16, u32, u64);
    }

    impl Encoded for CounterId {
        fn encoding(self) -> (u16, u32, u64) {
            (self.0, 0, 0)
        }
    }

    impl Encoded for GaugeId {
        fn encoding(self) -> (u16, u32, u64) {
            (self.0, 1, WRITTEN)
        }
    }
}

/// The value and the "was written" mark of a gauge's cell.
pub(crate) fn gauge(cell: u64) -> (i64, bool) {
    ((cell as i64) >> 1, cell & WRITTEN == WRITTEN)
}
