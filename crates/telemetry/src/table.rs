//! A table: many rows with the same stats, such as one row per Redis command.
//!
//! Envoy prints about a thousand names per redis_proxy filter from the first moment on. Here the names cost nothing: a
//! row gets cells when a writer touches it for the first time, and its names are put together when they are printed.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::Schema;
use crate::cells::Cells;
use crate::gather::{Gather, Visited};

/// Rows of the same stats, printed as `prefix + row + "." + stat`.
#[derive(Debug)]
pub struct Table {
    prefix: Box<str>,
    schema: &'static Schema,
    fixed: Arc<[Box<str>]>,
    /// A std mutex: taken when a row is named, first touched, or read; never while a writer counts.
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    added: Vec<Box<str>>,
    places: HashMap<Box<str>, usize>,
    /// Rows that were touched; the others read 0.
    gathers: HashMap<usize, Gather>,
}

impl Table {
    pub(crate) fn new(prefix: &str, fixed: Arc<[Box<str>]>, schema: &'static Schema) -> Self {
        Self {
            prefix: prefix.into(),
            schema,
            fixed,
            rows: Mutex::default(),
        }
    }

    /// The prefix, with its final dot.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The place of a row by its name; a name that is new becomes a row and is printed from then on.
    /// Names must come from a bounded set (the command table), never from a client's bytes: rows are not taken back.
    pub fn row(&self, name: &str) -> usize {
        let mut rows = self.lock();
        if rows.places.is_empty() {
            rows.places = self
                .fixed
                .iter()
                .enumerate()
                .map(|(at, name)| (name.clone(), at))
                .collect();
        }
        if let Some(&at) = rows.places.get(name) {
            return at;
        }
        let at = self.fixed.len() + rows.added.len();
        rows.added.push(name.into());
        rows.places.insert(name.into(), at);
        at
    }

    /// New cells for one more writer; none are allocated yet.
    pub fn block(self: &Arc<Self>) -> TableBlock {
        TableBlock {
            table: Arc::clone(self),
            segments: [const { OnceLock::new() }; SEGMENTS],
        }
    }

    fn admit(&self, row: usize) -> Arc<Cells> {
        self.lock()
            .gathers
            .entry(row)
            .or_insert_with(|| Gather::new(self.schema))
            .admit()
    }

    pub(crate) fn tick(&self) {
        self.lock().gathers.values_mut().for_each(Gather::tick);
    }

    pub(crate) fn reset_counters(&self) {
        self.lock().gathers.values_mut().for_each(Gather::reset_counters);
    }

    pub(crate) fn visit(&self, visit: &mut dyn FnMut(Visited<'_>)) {
        let rows = self.lock();
        let untouched = Gather::new(self.schema);
        for (at, name) in self.fixed.iter().chain(&rows.added).enumerate() {
            let gather = rows.gathers.get(&at).unwrap_or(&untouched);
            for (stat, place) in self.schema.placed() {
                visit(Visited {
                    prefix: &self.prefix,
                    row: name,
                    stat,
                    gather,
                    at: place,
                });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first segment holds this many rows, each further one twice as many: a row never moves once it has cells.
const FIRST_SEGMENT: usize = 64;
const SEGMENTS: usize = 24;

type Segment = Box<[OnceLock<Arc<Cells>>]>;

/// One writer's part of a [`Table`].
#[derive(Debug)]
pub struct TableBlock {
    table: Arc<Table>,
    segments: [OnceLock<Segment>; SEGMENTS],
}

impl TableBlock {
    /// The cells of a row, allocated and registered at the first touch.
    pub fn row(&self, row: usize) -> &Cells {
        let (segment, at) = place(row);
        let segment = self.segments[segment]
            .get_or_init(|| (0..FIRST_SEGMENT << segment).map(|_| OnceLock::new()).collect());
        segment[at].get_or_init(|| self.table.admit(row))
    }

    /// The table this block counts for.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

impl Index<usize> for TableBlock {
    type Output = Cells;

    fn index(&self, row: usize) -> &Cells {
        self.row(row)
    }
}

/// The segment and the place in it. A row beyond the last segment (a billion rows) shares the last cells.
fn place(row: usize) -> (usize, usize) {
    let group = row / FIRST_SEGMENT + 1;
    let segment = group.ilog2() as usize;
    if segment >= SEGMENTS {
        return (SEGMENTS - 1, (FIRST_SEGMENT << (SEGMENTS - 1)) - 1);
    }
    (segment, row - ((1 << segment) - 1) * FIRST_SEGMENT)
}

impl Drop for TableBlock {
    fn drop(&mut self) {
        let mut rows = self.table.lock();
        for (segment, cells) in self.segments.iter().enumerate() {
            for (at, cells) in cells
                .get()
                .into_iter()
                .flat_map(|segment| segment.iter().enumerate())
            {
                let row = ((1 << segment) - 1) * FIRST_SEGMENT + at;
                if let (Some(cells), Some(gather)) = (cells.get(), rows.gathers.get_mut(&row)) {
                    gather.retire(cells);
                }
            }
        }
    }
}
