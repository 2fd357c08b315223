//! `/stats` and `/stats/prometheus`.

use redplane_telemetry::{BucketMode, Kinds, Pattern, Query};

use crate::Sources;
use crate::html::escape;
use crate::reply::{HTML, JSON, PROMETHEUS, Reply};
use crate::request::{Params, Request};

/// `/stats`
pub(crate) fn page(sources: &Sources, request: &Request) -> Reply {
    let query = match query(&request.params) {
        Ok(query) => query,
        Err(refusal) => return Reply::bad_request(refusal),
    };
    (sources.refresh)();
    let registry = &sources.registry;
    match request.params.filled("format").unwrap_or("text") {
        "text" => Reply::text(registry.print_text(&query)),
        "json" => Reply::new(JSON, registry.print_json(&query)),
        "prometheus" => Reply::new(PROMETHEUS, registry.print_prometheus(&query)),
        "html" | "active-html" => html(&registry.print_text(&query)),
        _ => Reply::bad_request("usage: /stats?format=(html|active-html|json|prometheus|text)\n\n"),
    }
}

/// `/stats/prometheus`
pub(crate) fn prometheus(sources: &Sources, request: &Request) -> Reply {
    let query = match query(&request.params) {
        Ok(query) => query,
        Err(refusal) => return Reply::bad_request(refusal),
    };
    (sources.refresh)();
    Reply::new(PROMETHEUS, sources.registry.print_prometheus(&query))
}

fn html(stats: &str) -> Reply {
    let head = "<!DOCTYPE html>\n<html lang='en'>\n<head><title>redplane stats</title></head>\n<body>\n";
    Reply::new(
        HTML,
        format!("{head}<pre>\n{}</pre>\n</body>\n</html>\n", escape(stats)),
    )
}

/// The query's parameters, or Envoy's words for the one that is wrong.
fn query(params: &Params) -> Result<Query, String> {
    let filter = params.filled("filter").map(Pattern::search).transpose();
    Ok(Query {
        filter: filter.map_err(|bad| format!("Invalid re2 regex: {}\n", bad.reason))?,
        invert_filter: params.has("invert_filter"),
        used_only: params.has("usedonly"),
        kinds: kinds(params.filled("type"))?,
        text_readouts: params.has("text_readouts"),
        buckets: bucket_mode(params.filled("histogram_buckets"))?,
    })
}

fn kinds(word: Option<&str>) -> Result<Kinds, String> {
    match word.map(str::to_ascii_lowercase).as_deref() {
        None | Some("all") => Ok(Kinds::All),
        Some("counters") => Ok(Kinds::Counters),
        Some("gauges") => Ok(Kinds::Gauges),
        Some("histograms") => Ok(Kinds::Histograms),
        Some("textreadouts") => Ok(Kinds::TextReadouts),
        Some(_) => Err("invalid &type= param".to_owned()),
    }
}

fn bucket_mode(word: Option<&str>) -> Result<BucketMode, String> {
    match word {
        None | Some("none") => Ok(BucketMode::Unset),
        Some("cumulative") => Ok(BucketMode::Cumulative),
        Some("disjoint" | "detailed") => Ok(BucketMode::Disjoint),
        Some("summary") => Ok(BucketMode::Summary),
        Some(_) => Err("usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n".to_owned()),
    }
}
