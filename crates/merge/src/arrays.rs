//! Arrays of several servers made into one: element by element, in the order of keys, one behind the other, each once.

use redplane_resp::value::{self, Value};
use redplane_resp::{encode, reply};

use crate::parts::{Part, Parts};

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

fn all_elements(parts: &Parts) -> Option<Vec<Vec<&[u8]>>> {
    parts.raw_replies().map(elements).collect()
}

pub(crate) fn per_element(parts: &Parts, out: &mut Vec<u8>, fold: impl Fn(usize, &[i64]) -> i64) -> bool {
    let Some(rows) = all_elements(parts) else {
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
pub(crate) fn in_key_order(parts: &Parts, out: &mut Vec<u8>) -> bool {
    // What is left of each part's reply; `None` where it is no array.
    let mut left: Vec<Option<&[u8]>> = parts
        .replies
        .iter()
        .map(|part| parts.raw(part))
        .map(|raw| raw.and_then(|raw| raw.get(reply::array_header(raw)?.1..)))
        .collect();
    encode::array(out, parts.keys.len());
    for &part in &parts.keys {
        let part = part as usize;
        match (left.get_mut(part).and_then(next_element), parts.replies.get(part)) {
            (Some(element), _) => out.extend_from_slice(element),
            (None, Some(Part::Failed(failure))) => out.extend_from_slice(failure.reply()),
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

pub(crate) fn concatenate(parts: &Parts, out: &mut Vec<u8>) -> bool {
    let Some(headers) = parts
        .raw_replies()
        .map(reply::array_header)
        .collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    encode::array(out, headers.iter().map(|(count, _)| *count as usize).sum());
    for (raw, (_, start)) in parts.raw_replies().zip(headers) {
        out.extend_from_slice(&raw[start..]);
    }
    true
}

pub(crate) fn union(parts: &Parts, out: &mut Vec<u8>) -> bool {
    let Some(rows) = all_elements(parts) else {
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
pub(crate) fn sum_pairs(parts: &Parts, out: &mut Vec<u8>) -> bool {
    let Some(rows) = all_elements(parts) else {
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
pub(crate) fn newest_first(parts: &Parts, out: &mut Vec<u8>) -> bool {
    let Some(rows) = all_elements(parts) else {
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
    match parts.limit.unwrap_or(10) {
        -1 => {}
        limit => entries.truncate(usize::try_from(limit).unwrap_or_default()),
    }
    encode::array(out, entries.len());
    entries.into_iter().for_each(|entry| out.extend_from_slice(entry));
    true
}

/// What servers say may be more than a sum can hold.
pub(crate) fn sum(all: &[i64]) -> i64 {
    all.iter().fold(0, |sum, n| sum.saturating_add(*n))
}
