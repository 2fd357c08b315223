//! Adding up: the blocks that live, and what is kept of those that went.
//!
//! One `Gather` stands behind a scope and behind each row of a table. It is locked when a block comes or goes and when
//! the stats are read, never while a writer counts.

use std::sync::Arc;

use crate::cells::{Cells, gauge};
use crate::histogram::Distribution;
use crate::schema::{Kind, Schema, Stat};

#[derive(Debug)]
pub(crate) struct Gather {
    schema: &'static Schema,
    live: Vec<Arc<Cells>>,
    kept: Option<Box<Kept>>,
}

/// What outlives the blocks. Allocated when the first block goes, the first histogram ticks, or counters are reset.
#[derive(Debug)]
struct Kept {
    /// Counters: sums of retired blocks. Gauges: 1 when one was ever written.
    scalars: Box<[u64]>,
    /// Counters: the sum at the last `/reset_counters`.
    resets: Box<[u64]>,
    histograms: Box<[Option<Box<KeptHistogram>>]>,
}

#[derive(Debug, Default)]
struct KeptHistogram {
    retired: Distribution,
    at_tick: Distribution,
    interval: Distribution,
}

/// The sum of one stat over its writers.
#[derive(Debug)]
pub(crate) enum Reading {
    Counter { value: u64, used: bool },
    Gauge { value: u64, used: bool },
    Histogram(Box<HistogramReading>),
}

/// A histogram since the start, and in the last whole flush interval.
#[derive(Debug, Default)]
pub(crate) struct HistogramReading {
    pub(crate) cumulative: Distribution,
    pub(crate) interval: Distribution,
}

/// One stat on a walk over all of them: its name in three parts, and the way to its value.
pub(crate) struct Visited<'a> {
    pub(crate) prefix: &'a str,
    /// Empty in a scope.
    pub(crate) row: &'a str,
    pub(crate) stat: Stat,
    pub(crate) gather: &'a Gather,
    pub(crate) at: usize,
}

impl Visited<'_> {
    pub(crate) fn write_name(&self, name: &mut String) {
        name.clear();
        name.push_str(self.prefix);
        if !self.row.is_empty() {
            name.push_str(self.row);
            name.push('.');
        }
        name.push_str(self.stat.name);
    }

    pub(crate) fn read(&self) -> Reading {
        self.gather.read(self.stat, self.at)
    }
}

impl Reading {
    pub(crate) fn used(&self) -> bool {
        match self {
            Self::Counter { used, .. } | Self::Gauge { used, .. } => *used,
            Self::Histogram(reading) => reading.cumulative.count() > 0,
        }
    }
}

impl Gather {
    pub(crate) fn new(schema: &'static Schema) -> Self {
        Self {
            schema,
            live: Vec::new(),
            kept: None,
        }
    }

    pub(crate) fn admit(&mut self) -> Arc<Cells> {
        let cells = Arc::new(Cells::new(self.schema));
        self.live.push(Arc::clone(&cells));
        cells
    }

    pub(crate) fn retire(&mut self, cells: &Arc<Cells>) {
        let Some(at) = self.live.iter().position(|other| Arc::ptr_eq(other, cells)) else {
            return;
        };
        self.live.swap_remove(at);
        let schema = self.schema;
        let kept = self.kept_mut();
        for (stat, at) in schema.placed() {
            match stat.kind {
                Kind::Counter => kept.scalars[at] = kept.scalars[at].wrapping_add(cells.raw(at)),
                Kind::Gauge => kept.scalars[at] |= u64::from(gauge(cells.raw(at)).1),
                Kind::Histogram(_) => {
                    if let Some(histogram) = cells.histogram(at) {
                        kept.histogram_mut(at).retired.add_cells(histogram);
                    }
                }
            }
        }
    }

    /// Closes a flush interval: what came since the last call becomes the interval's values.
    pub(crate) fn tick(&mut self) {
        for at in 0..self.schema.histograms {
            // Most histograms of thousands of clusters and listeners were never written.
            if !self.has_values(at) {
                continue;
            }
            let cumulative = self.cumulative(at);
            if cumulative.count() > 0 {
                let kept = self.kept_mut().histogram_mut(at);
                kept.interval = cumulative.since(&kept.at_tick);
                kept.at_tick = cumulative;
            }
        }
    }

    /// Makes every counter read 0 from here on.
    pub(crate) fn reset_counters(&mut self) {
        for (stat, at) in self.schema.placed() {
            if matches!(stat.kind, Kind::Counter) {
                let sum = self.counter_sum(at);
                if sum > 0 {
                    self.kept_mut().resets[at] = sum;
                }
            }
        }
    }

    pub(crate) fn read(&self, stat: Stat, at: usize) -> Reading {
        match stat.kind {
            Kind::Counter => {
                let sum = self.counter_sum(at);
                let reset = self.kept.as_ref().map_or(0, |kept| kept.resets[at]);
                Reading::Counter {
                    value: sum.wrapping_sub(reset),
                    used: sum > 0,
                }
            }
            Kind::Gauge => {
                let before = self.kept.as_ref().is_some_and(|kept| kept.scalars[at] > 0);
                let (value, used) = self
                    .live
                    .iter()
                    .map(|cells| gauge(cells.raw(at)))
                    .fold((0_i64, before), |(sum, used), (value, written)| {
                        (sum.wrapping_add(value), used | written)
                    });
                Reading::Gauge {
                    value: u64::try_from(value).unwrap_or(0),
                    used,
                }
            }
            Kind::Histogram(_) => {
                let interval = self.kept.as_ref().and_then(|kept| kept.histograms[at].as_ref());
                let interval = interval.map(|kept| kept.interval.clone()).unwrap_or_default();
                Reading::Histogram(Box::new(HistogramReading {
                    cumulative: self.cumulative(at),
                    interval,
                }))
            }
        }
    }

    fn counter_sum(&self, at: usize) -> u64 {
        let retired = self.kept.as_ref().map_or(0, |kept| kept.scalars[at]);
        self.live
            .iter()
            .fold(retired, |sum, cells| sum.wrapping_add(cells.raw(at)))
    }

    fn has_values(&self, at: usize) -> bool {
        self.kept
            .as_ref()
            .is_some_and(|kept| kept.histograms[at].is_some())
            || self.live.iter().any(|cells| cells.histogram(at).is_some())
    }

    fn cumulative(&self, at: usize) -> Distribution {
        let mut sum = Distribution::default();
        if let Some(histogram) = self.kept.as_ref().and_then(|kept| kept.histograms[at].as_ref()) {
            sum.add(&histogram.retired);
        }
        for histogram in self.live.iter().filter_map(|cells| cells.histogram(at)) {
            sum.add_cells(histogram);
        }
        sum
    }

    fn kept_mut(&mut self) -> &mut Kept {
        let schema = self.schema;
        self.kept.get_or_insert_with(|| {
            Box::new(Kept {
                scalars: vec![0; schema.scalars].into(),
                resets: vec![0; schema.scalars].into(),
                histograms: (0..schema.histograms).map(|_| None).collect(),
            })
        })
    }
}

impl Kept {
    fn histogram_mut(&mut self, at: usize) -> &mut KeptHistogram {
        self.histograms[at].get_or_insert_default()
    }
}
