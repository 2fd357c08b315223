//! Printing: what is asked for, and the samples that answer it. The forms are in the modules below.
//!
//! Follows Envoy's `/stats`, `/stats?format=json` and `/stats/prometheus`. A sample's name is built, matched against
//! the configured lists and the request's filter, and only then read.

mod json;
mod prometheus;
mod text;

use std::sync::Arc;

use crate::gather::{HistogramReading, Reading, Visited};
use crate::names::Pattern;
use crate::registry::Living;
use crate::{Kind, Registry};

/// Which kinds are asked for (`type=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// All of them.
    #[default]
    All,
    /// Counters only.
    Counters,
    /// Gauges only.
    Gauges,
    /// Histograms only.
    Histograms,
    /// Text readouts only.
    TextReadouts,
}

/// How histograms are printed (`histogram_buckets=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BucketMode {
    /// Quantiles in text and JSON, cumulative buckets for Prometheus.
    #[default]
    Unset,
    /// Buckets that count everything below their bound.
    Cumulative,
    /// Buckets that count what lies between two bounds.
    Disjoint,
    /// Quantiles: a Prometheus summary.
    Summary,
}

/// A request for stats.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only names in which this is found.
    pub filter: Option<Pattern>,
    /// Only names in which `filter` is not found.
    pub invert_filter: bool,
    /// Only what was ever written.
    pub used_only: bool,
    /// Only this kind.
    pub kinds: Kinds,
    /// Prometheus: print text readouts as gauges with value 0 and the text as label `text_value`.
    pub text_readouts: bool,
    /// The form of histograms.
    pub buckets: BucketMode,
}

impl Query {
    fn wants(&self, name: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.matches(name) != self.invert_filter)
    }

    fn wants_kind(&self, kind: Kind) -> bool {
        match self.kinds {
            Kinds::All => true,
            Kinds::Counters => kind == Kind::Counter,
            Kinds::Gauges => kind == Kind::Gauge,
            Kinds::Histograms => matches!(kind, Kind::Histogram(_)),
            Kinds::TextReadouts => false,
        }
    }
}

/// What a page is printed from, each list sorted by name.
struct Samples {
    texts: Vec<(String, String)>,
    counters: Vec<(String, u64)>,
    gauges: Vec<(String, u64)>,
    histograms: Vec<(String, Box<HistogramReading>)>,
}

impl Samples {
    fn collect(living: Living, query: &Query) -> Self {
        let names = living.names;
        let mut samples = Self {
            texts: Vec::new(),
            counters: Vec::new(),
            gauges: Vec::new(),
            histograms: Vec::new(),
        };
        let mut name = String::new();
        let mut visit = |visited: Visited<'_>| {
            if !query.wants_kind(visited.stat.kind) {
                return;
            }
            visited.write_name(&mut name);
            if names.matcher.admits(&name) && query.wants(&name) {
                let reading = visited.read();
                if !query.used_only || reading.used() {
                    samples.push(name.clone(), reading);
                }
            }
        };
        living
            .scopes
            .iter()
            .filter(|scope| names.matcher.may_admit_below(scope.prefix()))
            .for_each(|scope| {
                scope.visit(&mut visit);
            });
        living
            .tables
            .iter()
            .filter(|table| names.matcher.may_admit_below(table.prefix()))
            .for_each(|table| {
                table.visit(&mut visit);
            });
        if matches!(query.kinds, Kinds::All | Kinds::TextReadouts) {
            let shown = |name: &String| names.matcher.admits(name) && query.wants(name);
            samples.texts = living.texts.into_iter().filter(|(name, _)| shown(name)).collect();
        }
        sort_and_add(&mut samples.counters);
        sort_and_add(&mut samples.gauges);
        samples.histograms.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        samples.histograms.dedup_by(|a, b| a.0 == b.0);
        samples
    }

    fn push(&mut self, name: String, reading: Reading) {
        match reading {
            Reading::Counter { value, .. } => self.counters.push((name, value)),
            Reading::Gauge { value, .. } => self.gauges.push((name, value)),
            Reading::Histogram(reading) => self.histograms.push((name, reading)),
        }
    }

    /// Counters and gauges as one sorted list, as text and JSON print them.
    fn scalars(&mut self) -> Vec<(String, u64)> {
        let mut scalars = std::mem::take(&mut self.counters);
        scalars.append(&mut self.gauges);
        scalars.sort_unstable();
        scalars
    }
}

/// Sorts by name. One name from two scopes is one stat: a page must not have a line twice.
fn sort_and_add(samples: &mut Vec<(String, u64)>) {
    samples.sort_unstable();
    samples.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = kept.1.wrapping_add(later.1);
        }
        same
    });
}

impl Registry {
    /// `/stats`: text readouts, then counters and gauges, then histograms, a line each.
    pub fn print_text(&self, query: &Query) -> String {
        let living = self.living();
        let names = Arc::clone(&living.names);
        text::print(Samples::collect(living, query), query, &names)
    }

    /// `/stats?format=json`.
    pub fn print_json(&self, query: &Query) -> String {
        let living = self.living();
        let names = Arc::clone(&living.names);
        json::print(Samples::collect(living, query), query, &names)
    }

    /// `/stats/prometheus`.
    pub fn print_prometheus(&self, query: &Query) -> String {
        let living = self.living();
        let names = Arc::clone(&living.names);
        prometheus::print(Samples::collect(living, query), query, &names)
    }

    /// A counter's or gauge's value by its full name, whatever the matcher says; for tests and for other stats that
    /// are made from it. Walks everything: not for a request.
    pub fn value(&self, name: &str) -> Option<u64> {
        let mut value = None;
        let mut built = String::new();
        let mut visit = |visited: Visited<'_>| {
            visited.write_name(&mut built);
            if built == name
                && let Reading::Counter { value: read, .. } | Reading::Gauge { value: read, .. } =
                    visited.read()
            {
                value = Some(read);
            }
        };
        let living = self.living();
        living
            .scopes
            .iter()
            .filter(|scope| name.starts_with(scope.prefix()))
            .for_each(|scope| scope.visit(&mut visit));
        living
            .tables
            .iter()
            .filter(|table| name.starts_with(table.prefix()))
            .for_each(|table| table.visit(&mut visit));
        value
    }
}

/// Upper bounds with the count of each bucket, in the asked form; the last one is infinite.
fn bucket_counts(reading: &HistogramReading, bounds: &[f64], mode: BucketMode) -> Vec<(f64, u64, u64)> {
    let (mut below, mut below_interval) = (0, 0);
    let mut row = |bound: f64| {
        let (all, interval) = (reading.cumulative.at_most(bound), reading.interval.at_most(bound));
        let counted = match mode {
            BucketMode::Disjoint => (
                bound,
                interval.saturating_sub(below_interval),
                all.saturating_sub(below),
            ),
            BucketMode::Unset | BucketMode::Cumulative | BucketMode::Summary => (bound, interval, all),
        };
        (below, below_interval) = (all, interval);
        counted
    };
    bounds
        .iter()
        .copied()
        .chain([f64::INFINITY])
        .map(&mut row)
        .collect()
}

#[cfg(test)]
mod tests;
