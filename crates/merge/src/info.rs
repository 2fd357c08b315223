//! INFO of a whole cluster: the primaries' reports made into one, in the servers' own layout.
//!
//! Amounts are added, peaks are the highest, the rest is the first shard's word. What a client decides its behaviour
//! by says "one server": `redis_mode:standalone`, `cluster_enabled:0`, `role:master`.

mod rules;

use redplane_resp::{encode, reply};
use rustc_hash::FxHashMap;

use rules::{Rule, rule};

/// What INFO says of the proxy and not of the servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// Clients of all workers.
    pub clients: u64,
    /// Those of them that wait in a command.
    pub blocked: u64,
    /// Clients that track.
    pub tracking: u64,
    /// As many can connect.
    pub max_clients: u64,
    /// Of the address that the client came to; 0 for a Unix socket.
    pub port: u64,
    /// In seconds.
    pub uptime: u64,
}

/// A section's name, and its fields in order.
type Section<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Appends one report made of all; false when a reply is no text.
pub(crate) fn merge<'a>(
    replies: impl Iterator<Item = &'a [u8]> + Clone,
    own: &Own,
    out: &mut Vec<u8>,
) -> bool {
    let resp3 = replies.clone().any(|raw| raw.starts_with(b"="));
    let texts: Option<Vec<&str>> = replies
        .map(|raw| std::str::from_utf8(reply::text_payload(raw)?).ok())
        .collect();
    let Some(texts) = texts else {
        return false;
    };
    let reports: Vec<Vec<Section<'_>>> = texts.iter().map(|text| sections(text)).collect();
    encode::text(out, render(&reports, own).as_bytes(), resp3);
    true
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            sections.push((name, Vec::new()));
        } else if let (Some((field, value)), Some((_, fields))) = (line.split_once(':'), sections.last_mut())
        {
            fields.push((field, value));
        }
    }
    sections
}

fn render(reports: &[Vec<Section<'_>>], own: &Own) -> String {
    let mut text = String::new();
    for name in in_order(reports.iter().flatten().map(|(name, _)| *name)) {
        let place = |report: &'_ Vec<Section<'_>>| report.iter().position(|(section, _)| *section == name);
        let lists: Vec<&[(&str, &str)]> = reports
            .iter()
            .filter_map(|report| place(report).map(|at| report[at].1.as_slice()))
            .collect();
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {name}\r\n"));
        let mut made: Vec<(&str, String)> = Vec::new();
        for (field, values) in gathered(&lists) {
            if is_replica(field) {
                continue;
            }
            let value = combine(field, &values, &made, own);
            text.push_str(&format!("{field}:{value}\r\n"));
            made.push((field, value));
        }
    }
    text
}

/// `slave0` and so on: who looks for replicas must not find one shard's and go around the proxy.
fn is_replica(field: &str) -> bool {
    let number = field.strip_prefix("slave");
    number.is_some_and(|number| number.bytes().next().is_some_and(|digit| digit.is_ascii_digit()))
}

/// Each field once, at its first place, with what the servers say.
fn gathered<'a>(lists: &[&[(&'a str, &'a str)]]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut places = FxHashMap::default();
    let mut fields: Vec<(&str, Vec<&str>)> = Vec::new();
    for (field, value) in lists.iter().copied().flatten() {
        let place = *places.entry(*field).or_insert(fields.len());
        if place == fields.len() {
            fields.push((field, Vec::new()));
        }
        fields[place].1.push(value);
    }
    fields
}

/// Each name once, at its first place.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn combine(field: &str, values: &[&str], made: &[(&str, String)], own: &Own) -> String {
    let first = || values.first().copied().unwrap_or_default().to_owned();
    match rule(field) {
        Rule::Fixed(value) => value.to_owned(),
        Rule::Own(figure) => figure(own).to_string(),
        Rule::Percent(part, whole) => {
            quotient(made, part, whole).map_or_else(first, |share| format!("{:.2}%", share * 100.0))
        }
        Rule::Ratio(part, whole) => {
            quotient(made, part, whole).map_or_else(first, |ratio| format!("{ratio:.2}"))
        }
        Rule::Highest => highest(values),
        Rule::First => first(),
        Rule::Sum => number(values, |a, b| a + b).unwrap_or_else(first),
        Rule::Max => number(values, f64::max).unwrap_or_else(first),
        Rule::Lowest => values
            .iter()
            .min_by_key(|v| version(v))
            .map_or_else(first, |v| (*v).to_owned()),
        Rule::Human => {
            let base = field.trim_end_matches("_human");
            let bytes = made
                .iter()
                .find(|(name, _)| *name == base)
                .and_then(|(_, value)| value.parse().ok());
            bytes.map_or_else(first, human)
        }
        Rule::Keyspace | Rule::Pairs => pairs(values),
    }
}

fn number(values: &[&str], fold: impl Fn(f64, f64) -> f64) -> Option<String> {
    if let Ok(whole) = values
        .iter()
        .map(|v| v.parse::<u64>())
        .collect::<Result<Vec<_>, _>>()
    {
        let folded = whole.into_iter().reduce(|a, b| fold(a as f64, b as f64) as u64)?;
        return Some(folded.to_string());
    }
    let parsed: Result<Vec<f64>, _> = values.iter().map(|v| v.parse::<f64>()).collect();
    let folded = parsed.ok()?.into_iter().reduce(fold)?;
    let decimals = values
        .first()?
        .split_once('.')
        .map_or(0, |(_, after)| after.len());
    Some(format!("{folded:.decimals$}"))
}

fn version(text: &str) -> Vec<u64> {
    text.split('.')
        .map(|part| part.parse().unwrap_or_default())
        .collect()
}

/// `name=number` lists: added by name; averages are weighted by what they are averages of.
fn pairs(values: &[&str]) -> String {
    let mut sums: Vec<(&str, f64)> = Vec::new();
    let mut ttl_weight = 0.0;
    let mut ttl_sum = 0.0;
    for value in values {
        let parsed: Vec<(&str, f64)> = value
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, n)| Some((name, n.parse().ok()?)))
            .collect();
        let of = |name: &str| parsed.iter().find(|(n, _)| *n == name).map_or(0.0, |(_, v)| *v);
        ttl_sum += of("avg_ttl") * of("expires");
        ttl_weight += of("expires");
        for (name, n) in parsed {
            match sums.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += n,
                None => sums.push((name, n)),
            }
        }
    }
    let of = |name: &str| sums.iter().find(|(n, _)| *n == name).map_or(0.0, |(_, v)| *v);
    let (calls, usec) = (of("calls"), of("usec"));
    let written = sums.iter().map(|(name, sum)| match *name {
        "avg_ttl" => format!("avg_ttl={}", (ttl_sum / f64::max(ttl_weight, 1.0)) as u64),
        "usec_per_call" => format!("usec_per_call={:.2}", usec / f64::max(calls, 1.0)),
        name => format!("{name}={}", *sum as u64),
    });
    written.collect::<Vec<_>>().join(",")
}

/// Of two fields that stand before; `None` where one is missing or the second is 0.
fn quotient(made: &[(&str, String)], part: &str, whole: &str) -> Option<f64> {
    let of = |field: &str| {
        let found = made.iter().find(|(name, _)| *name == field);
        found.and_then(|(_, value)| value.parse::<f64>().ok())
    };
    Some(of(part)? / of(whole).filter(|whole| *whole > 0.0)?)
}

/// `name=number` lists: the highest by name. Percentiles cannot be added, and this one is never too low.
fn highest(values: &[&str]) -> String {
    let pairs = values.iter().flat_map(|value| value.split(','));
    let mut highest: Vec<(&str, &str)> = Vec::new();
    for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
        let number = |text: &str| text.parse::<f64>().unwrap_or_default();
        match highest.iter_mut().find(|(known, _)| *known == name) {
            Some((_, most)) if number(value) > number(most) => *most = value,
            Some(_) => {}
            None => highest.push((name, value)),
        }
    }
    let written: Vec<String> = highest
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    written.join(",")
}

/// Redis's way of writing bytes for people.
fn human(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["K", "M", "G", "T", "P"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes}B")
    } else {
        format!("{value:.2}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode::bulk(&mut out, text.as_bytes());
        out
    }

    #[test]
    fn one_report_of_two() {
        let one = report(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\nuptime_in_seconds:5\r\n\r\n# Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=1,avg_ttl=100\r\n",
        );
        let two = report(
            "# Server\r\nredis_version:7.0.9\r\nredis_mode:cluster\r\nuptime_in_seconds:9\r\n\r\n# Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\n\r\n# Keyspace\r\ndb0:keys=2,expires=3,avg_ttl=200\r\n",
        );
        let own = Own {
            uptime: 7,
            ..Own::default()
        };
        let mut out = Vec::new();
        assert!(merge(
            [one.as_slice(), two.as_slice()].into_iter(),
            &own,
            &mut out
        ));
        let expected = report(
            "# Server\r\nredis_version:7.0.9\r\nredis_mode:standalone\r\nuptime_in_seconds:7\r\n\r\n# Memory\r\nused_memory:2048\r\nused_memory_human:2.00K\r\n\r\n# Keyspace\r\ndb0:keys=3,expires=4,avg_ttl=175\r\n",
        );
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn calls_are_added_and_averages_made_again() {
        assert_eq!(
            pairs(&[
                "calls=1,usec=10,usec_per_call=10.00,rejected_calls=0",
                "calls=3,usec=2,usec_per_call=0.67,rejected_calls=1"
            ]),
            "calls=4,usec=12,usec_per_call=3.00,rejected_calls=1"
        );
    }
}
