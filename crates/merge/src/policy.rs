//! How parts become one reply, by the table's reply policy.
//!
//! A server's error is the whole command's error. Where a server gave no reply at all, split commands answer as
//! Envoy does: MGET with the error in the key's place, the others with the number of keys that failed.

use redplane_command::ReplyPolicy;
use redplane_resp::value::Value;
use redplane_resp::{encode, reply, value};

use crate::arrays;
use crate::failure::Failure;
use crate::info::{self, Own};
use crate::latency;
use crate::parts::{Part, Parts};

/// Appends the one reply that the parts make; `own` is what INFO says of the proxy. False when it is an error.
pub fn merge(parts: &Parts, own: &Own, out: &mut Vec<u8>) -> bool {
    let policy = parts.command.reply;
    if matches!(policy, ReplyPolicy::OneSucceeded | ReplyPolicy::FirstNonNull) {
        return one_succeeded(parts, out);
    }
    if let Some(error) = parts.raw_replies().find(|raw| is_error(raw)) {
        out.extend_from_slice(error);
        return false;
    }
    // INFO is a report on what is there, and clients wait for it when they connect.
    let lenient = policy == ReplyPolicy::Info && parts.raw_replies().next().is_some();
    if let Some(failure) = failures(parts).next().filter(|_| !lenient) {
        if policy == ReplyPolicy::InKeyOrder {
            arrays::in_key_order(parts, out);
            return false;
        }
        failed(parts, failure, out);
        return false;
    }
    let merged = by_policy(parts, own, out);
    if !merged {
        out.clear();
        out.extend_from_slice(b"-upstream protocol error\r\n");
    }
    merged
}

fn by_policy(parts: &Parts, own: &Own, out: &mut Vec<u8>) -> bool {
    match parts.command.reply {
        ReplyPolicy::Sum => integers(parts)
            .map(|all| encode::integer(out, arrays::sum(&all)))
            .is_some(),
        ReplyPolicy::Min => integers(parts)
            .map(|all| encode::integer(out, min(&all)))
            .is_some(),
        ReplyPolicy::MinPerElement => arrays::per_element(parts, out, |_, column| min(column)),
        ReplyPolicy::LogicalAnd => {
            let remembered = |at: usize| parts.remembered.get(at) == Some(&true);
            arrays::per_element(parts, out, |at, column| {
                i64::from(remembered(at) || column.iter().all(|n| *n == 1))
            })
        }
        ReplyPolicy::InKeyOrder => arrays::in_key_order(parts, out),
        ReplyPolicy::Concatenate => arrays::concatenate(parts, out),
        ReplyPolicy::Union => arrays::union(parts, out),
        ReplyPolicy::SumPairs => arrays::sum_pairs(parts, out),
        ReplyPolicy::NewestFirst => arrays::newest_first(parts, out),
        ReplyPolicy::ByTime => latency::history(&all_raw(parts), out).is_some(),
        ReplyPolicy::LatestPerEvent => latency::latest(&all_raw(parts), out).is_some(),
        ReplyPolicy::Histograms => latency::histograms(&all_raw(parts), out).is_some(),
        ReplyPolicy::Busiest => busiest(parts, out),
        ReplyPolicy::TextPerNode => text_per_node(parts, out),
        ReplyPolicy::Info => info::merge(parts.raw_replies(), own, out),
        ReplyPolicy::Pass | ReplyPolicy::AllSucceeded | ReplyPolicy::Scan => first(parts, out),
        ReplyPolicy::OneSucceeded | ReplyPolicy::FirstNonNull => one_succeeded(parts, out),
    }
}

fn all_raw(parts: &Parts) -> Vec<&[u8]> {
    parts.raw_replies().collect()
}

fn failures(parts: &Parts) -> impl Iterator<Item = Failure> + '_ {
    parts.replies.iter().filter_map(|part| match part {
        Part::Failed(failure) => Some(*failure),
        _ => None,
    })
}

fn is_error(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'-' | b'!'))
}

/// Envoy: `finished with N error(s)`, N being keys. Fan-outs have no keys and answer the failure itself.
fn failed(parts: &Parts, failure: Failure, out: &mut Vec<u8>) {
    if parts.keys.is_empty() || !failure.is_proxys_own() {
        out.extend_from_slice(failure.reply());
        return;
    }
    let failed = |part: &&u32| matches!(parts.replies.get(**part as usize), Some(Part::Failed(_)));
    let count = parts.keys.iter().filter(failed).count();
    encode::error(out, format!("finished with {count} error(s)").as_bytes());
}

fn first(parts: &Parts, out: &mut Vec<u8>) -> bool {
    parts
        .raw_replies()
        .next()
        .map(|raw| out.extend_from_slice(raw))
        .is_some()
}

fn one_succeeded(parts: &Parts, out: &mut Vec<u8>) -> bool {
    if let Some(good) = parts.raw_replies().find(|raw| !is_error(raw)) {
        out.extend_from_slice(good);
        return true;
    }
    // A node that had nothing to do says less than one that could not do it.
    let idle = |raw: &&[u8]| raw.starts_with(b"-NOTBUSY");
    let telling = parts.raw_replies().find(|raw| !idle(raw));
    match (
        telling.or_else(|| parts.raw_replies().next()),
        failures(parts).next(),
    ) {
        (Some(error), _) => out.extend_from_slice(error),
        (None, Some(failure)) => out.extend_from_slice(failure.reply()),
        (None, None) => out.extend_from_slice(Failure::NoHost.reply()),
    }
    false
}

fn integers(parts: &Parts) -> Option<Vec<i64>> {
    parts.raw_replies().map(reply::integer).collect()
}

fn min(all: &[i64]) -> i64 {
    all.iter().copied().min().unwrap_or_default()
}

/// What all nodes say alike is said once.
fn text_per_node(parts: &Parts, out: &mut Vec<u8>) -> bool {
    let resp3 = parts.raw_replies().any(|raw| raw.starts_with(b"="));
    let texts: Vec<&[u8]> = parts
        .raw_replies()
        .map(|raw| reply::text_payload(raw).unwrap_or_default())
        .collect();
    if let [first, rest @ ..] = texts.as_slice()
        && rest.iter().all(|text| text == first)
    {
        encode::text(out, first, resp3);
        return true;
    }
    let mut all = Vec::new();
    for (node, text) in texts.into_iter().enumerate() {
        let name = parts.nodes.get(node).map_or("", String::as_str);
        all.extend_from_slice(format!("# {name}\r\n").as_bytes());
        all.extend_from_slice(text);
        all.extend_from_slice(b"\r\n");
    }
    encode::text(out, &all, resp3);
    true
}

/// FUNCTION STATS: of a node that runs a script, if there is one; its first value says so.
fn busiest(parts: &Parts, out: &mut Vec<u8>) -> bool {
    let is_busy = |raw: &&[u8]| match value::decode(raw).ok().flatten().map(|(stats, _)| stats) {
        Some(Value::Map(pairs)) => pairs.first().is_some_and(|(_, script)| *script != Value::Null),
        Some(stats) => stats
            .elements()
            .and_then(|elements| elements.get(1))
            .is_some_and(|script| !matches!(script, Value::Bulk(None) | Value::Array(None))),
        None => false,
    };
    let busy = parts.raw_replies().find(is_busy);
    match busy.or_else(|| parts.raw_replies().next()) {
        Some(raw) => out.extend_from_slice(raw),
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::Answer;

    fn parts(name: &str, keys: &[u32], replies: &[&[u8]]) -> Parts {
        let command = match name.split_once('|') {
            None => redplane_command::lookup(name.as_bytes()).unwrap(),
            Some((container, sub)) => {
                let container = redplane_command::lookup(container.as_bytes()).unwrap();
                redplane_command::lookup_sub(container, sub.as_bytes()).unwrap()
            }
        };
        let mut parts = Parts::new(command, replies.len(), keys.to_vec());
        for (part, raw) in replies.iter().enumerate() {
            let answer = if raw.is_empty() {
                Answer::Failed(Failure::Upstream)
            } else {
                Answer::Raw(raw)
            };
            assert_eq!(parts.take(part as u32, answer), part + 1 == replies.len());
        }
        parts
    }

    fn merged(name: &str, keys: &[u32], replies: &[&[u8]]) -> String {
        let mut out = Vec::new();
        merge(&parts(name, keys, replies), &Own::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_become_one() {
        type Case<'a> = (&'a str, &'a [u32], &'a [&'a [u8]], &'a str);
        let cases: [Case<'_>; 10] = [
            ("del", &[0, 1, 0], &[b":2\r\n", b":1\r\n"], ":3\r\n"),
            ("mset", &[0, 1], &[b"+OK\r\n", b"+OK\r\n"], "+OK\r\n"),
            (
                "mget",
                &[1, 0, 1],
                &[b"*1\r\n$1\r\nb\r\n", b"*2\r\n$1\r\na\r\n$-1\r\n"],
                "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n",
            ),
            (
                "keys",
                &[],
                &[b"*1\r\n$1\r\na\r\n", b"*0\r\n"],
                "*1\r\n$1\r\na\r\n",
            ),
            ("dbsize", &[], &[b":2\r\n", b":3\r\n"], ":5\r\n"),
            (
                "script|exists",
                &[],
                &[b"*2\r\n:1\r\n:0\r\n", b"*2\r\n:1\r\n:1\r\n"],
                "*2\r\n:1\r\n:0\r\n",
            ),
            (
                "del",
                &[0, 1, 1],
                &[b":1\r\n", b""],
                "-finished with 2 error(s)\r\n",
            ),
            (
                "mget",
                &[0, 1],
                &[b"*1\r\n$1\r\na\r\n", b""],
                "*2\r\n$1\r\na\r\n-upstream failure\r\n",
            ),
            ("keys", &[], &[b"*0\r\n", b"-LOADING x\r\n"], "-LOADING x\r\n"),
            (
                "keys",
                &[],
                &[b"*0\r\n", b":1\r\n"],
                "-upstream protocol error\r\n",
            ),
        ];
        for (name, keys, replies, expected) in cases {
            assert_eq!(merged(name, keys, replies), expected, "{name}");
        }
    }

    #[test]
    fn slow_entries_newest_first() {
        let entry = |id: u8, time: u8| format!("*3\r\n:{id}\r\n:{time}\r\n*1\r\n$1\r\nx\r\n");
        let one = format!("*2\r\n{}{}", entry(1, 5), entry(0, 1));
        let two = format!("*1\r\n{}", entry(7, 3));
        let parts = parts("slowlog|get", &[], &[one.as_bytes(), two.as_bytes()]).with_limit(Some(2));
        let mut out = Vec::new();
        assert!(merge(&parts, &Own::default(), &mut out));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("*2\r\n{}{}", entry(1, 5), entry(7, 3))
        );
    }
}
