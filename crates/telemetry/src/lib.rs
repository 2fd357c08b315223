//! Counters, gauges and histograms under Envoy's names, and the access log.
//!
//! A writer owns a [`Block`] (or a [`TableBlock`]) of cells and adds to them with a plain load and store; nothing else
//! writes there. A reader adds up the blocks of a [`Scope`] when stats are asked for, and only then are names built,
//! matched and printed ([`Registry::print_text`], [`Registry::print_json`], [`Registry::print_prometheus`]).
//! Nothing here reads a clock on behalf of a writer or takes a lock while it counts.
//!
//! Names and forms follow Envoy's statistics overview and its `/stats` admin page; see [`stats`] for the lists.

pub mod access_log;
mod cells;
mod gather;
mod histogram;
mod names;
mod print;
mod registry;
mod schema;
mod scope;
pub mod stats;
mod table;

pub use cells::{Additive, Cells};
pub use histogram::{Distribution, QUANTILES};
pub use names::{BadPattern, BucketSetting, Matcher, Pattern, StatsConfig, Tag, TagValue};
pub use print::{BucketMode, Kinds, Query};
pub use registry::Registry;
pub use schema::{CounterId, GaugeId, HistogramId, Kind, Schema, Stat, Unit};
pub use scope::{Block, Scope};
pub use table::{Table, TableBlock};

#[doc(hidden)]
pub use pastey;
