//! Several replies made into one, by the table's reply policy. Pure: parts in, bytes out.
//!
//! A server's error is the whole command's error. Where a server gave no reply at all, split commands answer as
//! Envoy does: MGET with the error in the key's place, the others with the number of keys that failed.

mod latency;

use redplane_command::ReplyPolicy;
use redplane_resp::value::Value;
use redplane_resp::{encode, reply, value};

use crate::failure::Failure;
use crate::info::{self, Own};
use crate::split::{PartReply, Split};

/// Appends the merged reply; `own` is what INFO says of the proxy; false when it is an error.
pub(crate) fn merge(split: &Split, own: &Own, out: &mut Vec<u8>) -> bool {
    let policy = split.command.reply;
    if matches!(policy, ReplyPolicy::OneSucceeded | ReplyPolicy::FirstNonNull) {
        return one_succeeded(split, out);
    }
    if let Some(error) = raw_replies(split).find(|raw| is_error(raw)) {
        out.extend_from_slice(error);
        return false;
    }
    // INFO is a report on what is there, and clients wait for it when they connect.
    let lenient = policy == ReplyPolicy::Info && raw_replies(split).next().is_some();
    if let Some(failure) = failures(split).next().filter(|_| !lenient) {
        if policy == ReplyPolicy::InKeyOrder {
            in_key_order(split, out);
            return false;
        }
        failed(split, failure, out);
        return false;
    }
    let merged = by_policy(split, own, out);
    if !merged {
        out.clear();
        out.extend_from_slice(b"-upstream protocol error\r\n");
    }
    merged
}

fn by_policy(split: &Split, own: &Own, out: &mut Vec<u8>) -> bool {
    match split.command.reply {
        ReplyPolicy::Sum => integers(split)
            .map(|all| encode::integer(out, sum(&all)))
            .is_some(),
        ReplyPolicy::Min => integers(split)
            .map(|all| encode::integer(out, min(&all)))
            .is_some(),
        ReplyPolicy::MinPerElement => per_element(split, out, |_, column| min(column)),
        ReplyPolicy::LogicalAnd => {
            let held = |at: usize| split.held.get(at) == Some(&true);
            per_element(split, out, |at, column| {
                i64::from(held(at) || column.iter().all(|n| *n == 1))
            })
        }
        ReplyPolicy::InKeyOrder => in_key_order(split, out),
        ReplyPolicy::Concatenate => concatenate(split, out),
        ReplyPolicy::Union => union(split, out),
        ReplyPolicy::SumPairs => sum_pairs(split, out),
        ReplyPolicy::NewestFirst => newest_first(split, out),
        ReplyPolicy::ByTime => latency::history(&all_raw(split), out).is_some(),
        ReplyPolicy::LatestPerEvent => latency::latest(&all_raw(split), out).is_some(),
        ReplyPolicy::Histograms => latency::histograms(&all_raw(split), out).is_some(),
        ReplyPolicy::Busiest => busiest(split, out),
        ReplyPolicy::TextPerNode => text_per_node(split, out),
        ReplyPolicy::Info => info::merge(raw_replies(split), own, out),
        ReplyPolicy::Pass | ReplyPolicy::AllSucceeded | ReplyPolicy::Scan => first(split, out),
        ReplyPolicy::OneSucceeded | ReplyPolicy::FirstNonNull => one_succeeded(split, out),
    }
}

fn raw_replies(split: &Split) -> impl Iterator<Item = &[u8]> + Clone {
    split.parts.iter().filter_map(|part| split.raw(part))
}

fn all_raw(split: &Split) -> Vec<&[u8]> {
    raw_replies(split).collect()
}

fn failures(split: &Split) -> impl Iterator<Item = Failure> + '_ {
    split.parts.iter().filter_map(|part| match part {
        PartReply::Failed(failure) => Some(*failure),
        _ => None,
    })
}

fn is_error(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'-' | b'!'))
}

/// Envoy: `finished with N error(s)`, N being keys. Fan-outs have no keys and answer the failure itself.
fn failed(split: &Split, failure: Failure, out: &mut Vec<u8>) {
    if split.keys.is_empty() || !failure.is_proxys_own() {
        out.extend_from_slice(failure.reply());
        return;
    }
    let failed = |part: &&u32| matches!(split.parts.get(**part as usize), Some(PartReply::Failed(_)));
    let count = split.keys.iter().filter(failed).count();
    encode::error(out, format!("finished with {count} error(s)").as_bytes());
}

fn first(split: &Split, out: &mut Vec<u8>) -> bool {
    raw_replies(split)
        .next()
        .map(|raw| out.extend_from_slice(raw))
        .is_some()
}

fn one_succeeded(split: &Split, out: &mut Vec<u8>) -> bool {
    if let Some(good) = raw_replies(split).find(|raw| !is_error(raw)) {
        out.extend_from_slice(good);
        return true;
    }
    // A node that had nothing to do says less than one that could not do it.
    let idle = |raw: &&[u8]| raw.starts_with(b"-NOTBUSY");
    let telling = raw_replies(split).find(|raw| !idle(raw));
    match (
        telling.or_else(|| raw_replies(split).next()),
        failures(split).next(),
    ) {
        (Some(error), _) => out.extend_from_slice(error),
        (None, Some(failure)) => out.extend_from_slice(failure.reply()),
        (None, None) => out.extend_from_slice(Failure::NoHost.reply()),
    }
    false
}

fn integers(split: &Split) -> Option<Vec<i64>> {
    raw_replies(split).map(reply::integer).collect()
}

/// What servers say may be more than a sum can hold.
fn sum(all: &[i64]) -> i64 {
    all.iter().fold(0, |sum, n| sum.saturating_add(*n))
}

fn min(all: &[i64]) -> i64 {
    all.iter().copied().min().unwrap_or_default()
}

/// The raw elements of an array reply.
fn elements(raw: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut at) = reply::array_header(raw)?;
    let mut elements = Vec::new();
    for _ in 0..count {
        match reply::Scanner::default().scan(raw.get(at..)?) {
            Ok(reply::Scan::Whole(len)) => elements.push(raw.get(at..at + len)?),
            _ => return None,
        }
        at += elements.last().map_or(0, |element| element.len());
    }
    Some(elements)
}

fn all_elements(split: &Split) -> Option<Vec<Vec<&[u8]>>> {
    raw_replies(split).map(elements).collect()
}

fn per_element(split: &Split, out: &mut Vec<u8>, fold: impl Fn(usize, &[i64]) -> i64) -> bool {
    let Some(rows) = all_elements(split) else {
        return false;
    };
    let numbers: Option<Vec<Vec<i64>>> = rows
        .iter()
        .map(|row| row.iter().map(|raw| reply::integer(raw)).collect())
        .collect();
    let Some(numbers) = numbers else {
        return false;
    };
    let width = numbers.iter().map(Vec::len).min().unwrap_or_default();
    encode::array(out, width);
    for at in 0..width {
        let column: Vec<i64> = numbers.iter().filter_map(|row| row.get(at)).copied().collect();
        encode::integer(out, fold(at, &column));
    }
    true
}

/// MGET: each part's elements go to the places of its keys.
fn in_key_order(split: &Split, out: &mut Vec<u8>) -> bool {
    // What is left of each part's reply; `None` where it is no array.
    let mut left: Vec<Option<&[u8]>> = split
        .parts
        .iter()
        .map(|part| split.raw(part))
        .map(|raw| raw.and_then(|raw| raw.get(reply::array_header(raw)?.1..)))
        .collect();
    encode::array(out, split.keys.len());
    for &part in &split.keys {
        let part = part as usize;
        match (left.get_mut(part).and_then(next_element), split.parts.get(part)) {
            (Some(element), _) => out.extend_from_slice(element),
            (None, Some(PartReply::Failed(failure))) => out.extend_from_slice(failure.reply()),
            (None, _) => encode::error(out, b"upstream protocol error"),
        }
    }
    true
}

/// Takes the next element off what is left of an array.
fn next_element<'a>(left: &mut Option<&'a [u8]>) -> Option<&'a [u8]> {
    let rest = (*left)?;
    let Ok(reply::Scan::Whole(len)) = reply::Scanner::default().scan(rest) else {
        return None;
    };
    let (element, rest) = rest.split_at_checked(len)?;
    *left = Some(rest);
    Some(element)
}

fn concatenate(split: &Split, out: &mut Vec<u8>) -> bool {
    let Some(headers) = raw_replies(split)
        .map(reply::array_header)
        .collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    encode::array(out, headers.iter().map(|(count, _)| *count as usize).sum());
    for (raw, (_, start)) in raw_replies(split).zip(headers) {
        out.extend_from_slice(&raw[start..]);
    }
    true
}

fn union(split: &Split, out: &mut Vec<u8>) -> bool {
    let Some(rows) = all_elements(split) else {
        return false;
    };
    let mut seen: Vec<&[u8]> = rows.into_iter().flatten().collect();
    seen.sort_unstable();
    seen.dedup();
    encode::array(out, seen.len());
    seen.into_iter()
        .for_each(|element| out.extend_from_slice(element));
    true
}

/// PUBSUB NUMSUB: every server answers the same names in the same order, also a name that was asked for twice.
fn sum_pairs(split: &Split, out: &mut Vec<u8>) -> bool {
    let Some(rows) = all_elements(split) else {
        return false;
    };
    let names = rows.first().map_or(0, Vec::len) / 2;
    encode::array(out, names * 2);
    for at in 0..names {
        out.extend_from_slice(rows[0][2 * at]);
        let counts = rows.iter().map(|row| reply::integer(row.get(2 * at + 1)?));
        let Some(counts) = counts.collect::<Option<Vec<i64>>>() else {
            return false;
        };
        encode::integer(out, sum(&counts));
    }
    true
}

/// SLOWLOG GET: all entries by their time, which is the second element of each.
fn newest_first(split: &Split, out: &mut Vec<u8>) -> bool {
    let Some(rows) = all_elements(split) else {
        return false;
    };
    let mut entries: Vec<&[u8]> = rows.into_iter().flatten().collect();
    let time = |raw: &&[u8]| {
        let entry = value::decode(raw).ok().flatten().map(|(entry, _)| entry);
        entry
            .as_ref()
            .and_then(Value::elements)
            .and_then(|e| e.get(1))
            .and_then(Value::integer)
            .unwrap_or_default()
    };
    entries.sort_by_key(|raw| std::cmp::Reverse(time(raw)));
    match split.limit.unwrap_or(10) {
        -1 => {}
        limit => entries.truncate(usize::try_from(limit).unwrap_or_default()),
    }
    encode::array(out, entries.len());
    entries.into_iter().for_each(|entry| out.extend_from_slice(entry));
    true
}

/// What all nodes say alike is said once.
fn text_per_node(split: &Split, out: &mut Vec<u8>) -> bool {
    let resp3 = raw_replies(split).any(|raw| raw.starts_with(b"="));
    let texts: Vec<&[u8]> = raw_replies(split)
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
        let name = split.nodes.get(node).map_or("", String::as_str);
        all.extend_from_slice(format!("# {name}\r\n").as_bytes());
        all.extend_from_slice(text);
        all.extend_from_slice(b"\r\n");
    }
    encode::text(out, &all, resp3);
    true
}

/// FUNCTION STATS: of a node that runs a script, if there is one; its first value says so.
fn busiest(split: &Split, out: &mut Vec<u8>) -> bool {
    let is_busy = |raw: &&[u8]| match value::decode(raw).ok().flatten().map(|(stats, _)| stats) {
        Some(Value::Map(pairs)) => pairs.first().is_some_and(|(_, script)| *script != Value::Null),
        Some(stats) => stats
            .elements()
            .and_then(|elements| elements.get(1))
            .is_some_and(|script| !matches!(script, Value::Bulk(None) | Value::Array(None))),
        None => false,
    };
    let busy = raw_replies(split).find(is_busy);
    match busy.or_else(|| raw_replies(split).next()) {
        Some(raw) => out.extend_from_slice(raw),
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settle::Answer;

    fn split(name: &str, keys: &[u32], replies: &[&[u8]]) -> Split {
        let command = match name.split_once('|') {
            None => redplane_command::lookup(name.as_bytes()).unwrap(),
            Some((container, sub)) => {
                let container = redplane_command::lookup(container.as_bytes()).unwrap();
                redplane_command::lookup_sub(container, sub.as_bytes()).unwrap()
            }
        };
        let mut split = Split::new(command, 0, replies.len(), keys.to_vec());
        for (part, raw) in replies.iter().enumerate() {
            let answer = if raw.is_empty() {
                Answer::Failed(Failure::Upstream)
            } else {
                Answer::Raw(raw)
            };
            assert_eq!(split.take(part as u32, answer), part + 1 == replies.len());
        }
        split
    }

    fn merged(name: &str, keys: &[u32], replies: &[&[u8]]) -> String {
        let mut out = Vec::new();
        merge(&split(name, keys, replies), &Own::default(), &mut out);
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
        let mut split = split("slowlog|get", &[], &[one.as_bytes(), two.as_bytes()]);
        split.limit = Some(2);
        let mut out = Vec::new();
        assert!(merge(&split, &Own::default(), &mut out));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("*2\r\n{}{}", entry(1, 5), entry(7, 3))
        );
    }
}
