//! The text page: `name: value`, and `name: P0(interval,cumulative) P25(…) …` for histograms.

use std::fmt::Write;

use super::{BucketMode, Query, Samples, bucket_counts};
use crate::gather::HistogramReading;
use crate::histogram::QUANTILES;
use crate::names::Names;

pub(super) fn print(mut samples: Samples, query: &Query, names: &Names) -> String {
    let mut page = String::new();
    for (name, value) in &samples.texts {
        // Writing into a String cannot fail; the same holds below.
        let _ = writeln!(page, "{name}: \"{}\"", value.replace('"', "&quot;"));
    }
    for (name, value) in samples.scalars() {
        let _ = writeln!(page, "{name}: {value}");
    }
    for (name, reading) in &samples.histograms {
        let _ = write!(page, "{name}: ");
        match query.buckets {
            _ if reading.cumulative.count() == 0 => page.push_str("No recorded values"),
            BucketMode::Unset | BucketMode::Summary => write_quantiles(&mut page, reading),
            mode => write_buckets(&mut page, reading, names.buckets(name), mode),
        }
        page.push('\n');
    }
    page
}

fn write_quantiles(page: &mut String, reading: &HistogramReading) {
    for (at, percent) in QUANTILES.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        let interval = number(reading.interval.quantile(*percent));
        let cumulative = number(reading.cumulative.quantile(*percent));
        let _ = write!(page, "{space}P{percent}({interval},{cumulative})");
    }
}

fn write_buckets(page: &mut String, reading: &HistogramReading, bounds: &[f64], mode: BucketMode) {
    for (at, (bound, interval, cumulative)) in bucket_counts(reading, bounds, mode).into_iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        let _ = write!(page, "{space}B{bound}({interval},{cumulative})");
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "nan".to_owned(), |value| value.to_string())
}
