//! The JSON page: `{"stats":[{"name","value"},…,{"histograms":{…}}]}` in one line, as Envoy's.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{BucketMode, Query, Samples, bucket_counts};
use crate::gather::HistogramReading;
use crate::histogram::QUANTILES;
use crate::names::Names;

pub(super) fn print(mut samples: Samples, query: &Query, names: &Names) -> String {
    let mut page = String::from("{\"stats\":[");
    for (name, value) in &samples.texts {
        push(&mut page, &json!({"name": name, "value": value}));
    }
    for (name, value) in samples.scalars() {
        // By hand: tens of thousands of these on a large mesh.
        separate(&mut page);
        let _ = write!(page, "{{\"name\":{},\"value\":{value}}}", Value::from(name));
    }
    if !samples.histograms.is_empty() {
        push(&mut page, &histograms(&samples, query, names));
    }
    page.push_str("]}");
    page
}

fn histograms(samples: &Samples, query: &Query, names: &Names) -> Value {
    let readings = samples.histograms.iter();
    match query.buckets {
        BucketMode::Unset | BucketMode::Summary => {
            let computed: Vec<Value> = readings.map(|(name, reading)| quantiles(name, reading)).collect();
            let supported: Vec<Value> = QUANTILES.iter().map(|percent| number(Some(*percent))).collect();
            json!({"histograms": {"supported_quantiles": supported, "computed_quantiles": computed}})
        }
        mode => {
            let rows = readings.map(|(name, reading)| buckets(name, reading, names.buckets(name), mode));
            json!({"histograms": rows.collect::<Vec<_>>()})
        }
    }
}

fn quantiles(name: &str, reading: &HistogramReading) -> Value {
    let values = QUANTILES.iter().map(|percent| {
        let (cumulative, interval) = (
            reading.cumulative.quantile(*percent),
            reading.interval.quantile(*percent),
        );
        json!({"cumulative": number(cumulative), "interval": number(interval)})
    });
    json!({"name": name, "values": values.collect::<Vec<_>>()})
}

fn buckets(name: &str, reading: &HistogramReading, bounds: &[f64], mode: BucketMode) -> Value {
    // JSON has no infinity: as in Envoy's page the last bound is left out and its count is the total.
    let rows = bucket_counts(reading, bounds, mode)
        .into_iter()
        .filter(|(bound, ..)| bound.is_finite());
    let rows = rows.map(|(bound, interval, cumulative)| {
        json!({"upper_bound": number(Some(bound)), "interval": interval, "cumulative": cumulative})
    });
    json!({"name": name, "buckets": rows.collect::<Vec<_>>()})
}

/// Whole numbers without a fraction, and null for none.
fn number(value: Option<f64>) -> Value {
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => Value::from(value as i64),
        Some(value) => Value::from(value),
        None => Value::Null,
    }
}

fn push(page: &mut String, value: &Value) {
    separate(page);
    let _ = write!(page, "{value}");
}

fn separate(page: &mut String) {
    if !page.ends_with('[') {
        page.push(',');
    }
}
