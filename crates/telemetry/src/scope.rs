//! A scope: one prefix, one schema, any number of writers.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cells::Cells;
use crate::gather::{Gather, Reading, Visited};
use crate::histogram::Distribution;
use crate::schema::{Kind, Stat};
use crate::{CounterId, GaugeId, HistogramId, Schema};

/// The stats below one prefix. They are printed as long as the scope lives: the last `Arc` takes the names with it.
#[derive(Debug)]
pub struct Scope {
    prefix: Box<str>,
    schema: &'static Schema,
    /// A std mutex: held for additions only, never over an await, never while a writer counts.
    gather: Mutex<Gather>,
}

impl Scope {
    pub(crate) fn new(prefix: &str, schema: &'static Schema) -> Self {
        Self {
            prefix: prefix.into(),
            schema,
            gather: Mutex::new(Gather::new(schema)),
        }
    }

    /// The prefix, with its final dot.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// New cells for one more writer.
    pub fn block(self: &Arc<Self>) -> Block {
        let cells = self.lock().admit();
        Block {
            scope: Arc::clone(self),
            cells,
        }
    }

    /// A counter's sum over all writers, past ones included.
    pub fn counter(&self, id: CounterId) -> u64 {
        match self.lock().read(
            Stat {
                name: "",
                kind: Kind::Counter,
            },
            usize::from(id.0),
        ) {
            Reading::Counter { value, .. } => value,
            Reading::Gauge { .. } | Reading::Histogram(_) => 0,
        }
    }

    /// A gauge's sum over the writers that live.
    pub fn gauge(&self, id: GaugeId) -> u64 {
        match self.lock().read(
            Stat {
                name: "",
                kind: Kind::Gauge,
            },
            usize::from(id.0),
        ) {
            Reading::Gauge { value, .. } => value,
            Reading::Counter { .. } | Reading::Histogram(_) => 0,
        }
    }

    /// All values of a histogram since the start.
    pub fn histogram(&self, id: HistogramId) -> Distribution {
        let kind = Kind::Histogram(crate::Unit::Unspecified);
        match self.lock().read(Stat { name: "", kind }, usize::from(id.0)) {
            Reading::Histogram(reading) => reading.cumulative,
            Reading::Counter { .. } | Reading::Gauge { .. } => Distribution::default(),
        }
    }

    fn retire(&self, cells: &Arc<Cells>) {
        self.lock().retire(cells);
    }

    pub(crate) fn tick(&self) {
        self.lock().tick();
    }

    pub(crate) fn reset_counters(&self) {
        self.lock().reset_counters();
    }

    pub(crate) fn visit(&self, visit: &mut dyn FnMut(Visited<'_>)) {
        let gather = self.lock();
        for (stat, at) in self.schema.placed() {
            visit(Visited {
                prefix: &self.prefix,
                row: "",
                stat,
                gather: &gather,
                at,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gather> {
        // Additions cannot leave a half state worth refusing to read.
        self.gather.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One writer's part of a [`Scope`]. When it is dropped its counters and histograms stay in the scope's sums; its gauges
/// vanish (a worker that ends has no open connections).
#[derive(Debug)]
pub struct Block {
    scope: Arc<Scope>,
    cells: Arc<Cells>,
}

impl Block {
    /// The scope this block counts for.
    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }
}

impl Deref for Block {
    type Target = Cells;

    fn deref(&self) -> &Cells {
        &self.cells
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.scope.retire(&self.cells);
    }
}
