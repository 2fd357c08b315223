//! The Prometheus page (text format 0.0.4): one `# TYPE` line per family, then its samples.
//!
//! As Envoy prints it: counters, gauges, text readouts, histograms; families in the order of their names without tags;
//! `{}` where there is no label; no HELP, no time stamps, no `# EOF` (an agent appends other metrics behind it).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{BucketMode, Query, Samples, bucket_counts};
use crate::gather::HistogramReading;
use crate::histogram::QUANTILES;
use crate::names::Names;

/// Stats below these prefixes are printed without them and without `envoy_` (Envoy: custom stat namespaces).
const CUSTOM_NAMESPACES: [&str; 2] = ["istiocustom.", "wasmcustom."];

/// Families by their name without tags; each sample has its labels.
type Families<T> = BTreeMap<String, Vec<(String, T)>>;

pub(super) fn print(samples: Samples, query: &Query, names: &Names) -> String {
    let mut page = String::new();
    print_scalars(&mut page, "counter", families(samples.counters, names));
    print_scalars(&mut page, "gauge", families(samples.gauges, names));
    if query.text_readouts {
        print_texts(&mut page, families(samples.texts, names));
    }
    let mut histograms: Families<Histogram> = BTreeMap::new();
    for (name, reading) in samples.histograms {
        let tagged = names.tagged(&name);
        let histogram = Histogram {
            reading,
            bounds: names.buckets(&name).to_vec(),
        };
        histograms
            .entry(tagged.name)
            .or_default()
            .push((labels(&tagged.tags), histogram));
    }
    print_histograms(&mut page, histograms, query.buckets);
    page
}

struct Histogram {
    reading: Box<HistogramReading>,
    bounds: Vec<f64>,
}

fn families<T>(samples: Vec<(String, T)>, names: &Names) -> Families<T> {
    let mut families: Families<T> = BTreeMap::new();
    for (name, value) in samples {
        let tagged = names.tagged(&name);
        families
            .entry(tagged.name)
            .or_default()
            .push((labels(&tagged.tags), value));
    }
    families
}

fn print_scalars(page: &mut String, kind: &str, families: Families<u64>) {
    for (name, samples) in families {
        let name = family_name(&name);
        let _ = writeln!(page, "# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(page, "{name}{{{labels}}} {value}");
        }
    }
}

fn print_texts(page: &mut String, families: Families<String>) {
    for (name, samples) in families {
        let name = family_name(&name);
        let _ = writeln!(page, "# TYPE {name} gauge");
        for (labels, text) in samples {
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = writeln!(
                page,
                "{name}{{{labels}{comma}text_value=\"{}\"}} 0",
                escape(&text)
            );
        }
    }
}

fn print_histograms(page: &mut String, families: Families<Histogram>, mode: BucketMode) {
    for (name, samples) in families {
        let name = family_name(&name);
        let kind = if mode == BucketMode::Summary {
            "summary"
        } else {
            "histogram"
        };
        let _ = writeln!(page, "# TYPE {name} {kind}");
        for (labels, histogram) in samples {
            if mode == BucketMode::Summary {
                print_summary(page, &name, &labels, &histogram);
            } else {
                print_buckets(page, &name, &labels, &histogram);
            }
        }
    }
}

fn print_buckets(page: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, _, count) in bucket_counts(&histogram.reading, &histogram.bounds, BucketMode::Cumulative) {
        let bound = if bound.is_finite() {
            bound.to_string()
        } else {
            "+Inf".to_owned()
        };
        let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
    }
    print_totals(page, name, labels, histogram);
}

fn print_summary(page: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let comma = if labels.is_empty() { "" } else { "," };
    for percent in QUANTILES {
        // Envoy takes the interval here: a summary is about now.
        let value = histogram.reading.interval.quantile(percent);
        let value = value.map_or_else(|| "NaN".to_owned(), |value| value.to_string());
        let _ = writeln!(
            page,
            "{name}{{{labels}{comma}quantile=\"{}\"}} {value}",
            percent / 100.0
        );
    }
    print_totals(page, name, labels, histogram);
}

fn print_totals(page: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let _ = writeln!(
        page,
        "{name}_sum{{{labels}}} {}",
        histogram.reading.cumulative.sum()
    );
    let _ = writeln!(
        page,
        "{name}_count{{{labels}}} {}",
        histogram.reading.cumulative.count()
    );
}

fn family_name(name: &str) -> String {
    let custom = CUSTOM_NAMESPACES
        .iter()
        .find_map(|namespace| name.strip_prefix(namespace));
    match custom {
        Some(name) if name.starts_with(|first: char| first.is_ascii_digit()) => {
            format!("_{}", sanitize(name))
        }
        Some(name) => sanitize(name),
        None => format!("envoy_{}", sanitize(name)),
    }
}

fn sanitize(name: &str) -> String {
    name.chars()
        .map(|char| if char.is_ascii_alphanumeric() { char } else { '_' })
        .collect()
}

fn labels(tags: &[(String, String)]) -> String {
    let label = |(name, value): &(String, String)| format!("{}=\"{}\"", sanitize(name), escape(value));
    tags.iter().map(label).collect::<Vec<_>>().join(",")
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
