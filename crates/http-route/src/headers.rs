//! Header changes of routes, made on the headers of a request or a response.
//!
//! Envoy: `HeaderParser::evaluateHeaders`. An operator without a value prints nothing; a header whose whole value is
//! empty is left out unless `keep_empty_value` is set.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue};
use redplane_config::http::template::{Fact, HeaderRef, Operator, Piece};
use redplane_config::http::{AppendAction, HeaderAdd, HeaderChanges};

use crate::request::Head;

/// What operators are filled with.
pub trait Facts {
    /// Writes a fact; nothing where it is not known.
    fn write(&self, fact: Fact, out: &mut String);
}

/// Whose headers are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The request's: `%REQ()%` is filled from the headers as they are changed.
    Request,
    /// The response's: `%RESP()%` is.
    Response,
}

/// Makes changes: removals first, then additions. `head` is the request's head; of a request that is being changed its
/// headers do not count.
pub fn change(
    headers: &mut HeaderMap,
    changes: &HeaderChanges,
    facts: &impl Facts,
    head: Option<&Head<'_>>,
    side: Side,
) {
    for name in &changes.remove {
        headers.remove(name);
    }
    add(headers, &changes.add, facts, head, side);
}

/// Adds headers.
pub fn add(
    headers: &mut HeaderMap,
    list: &[HeaderAdd],
    facts: &impl Facts,
    head: Option<&Head<'_>>,
    side: Side,
) {
    for add in list {
        let value = match &add.constant {
            Some(value) => value.clone(),
            None => match HeaderValue::from_str(&fill(add, facts, head, headers, side)) {
                Ok(value) => value,
                // What a client sent may hold bytes that no header may: such a value is not passed on.
                Err(_) => continue,
            },
        };
        if value.is_empty() && !add.keep_empty {
            continue;
        }
        let is_there = headers.contains_key(&add.name);
        match add.action {
            AppendAction::Append => {
                headers.append(&add.name, value);
            }
            AppendAction::AddIfAbsent if is_there => {}
            AppendAction::OverwriteIfExists if !is_there => {}
            AppendAction::AddIfAbsent | AppendAction::Overwrite | AppendAction::OverwriteIfExists => {
                headers.insert(&add.name, value);
            }
        }
    }
}

fn fill(
    add: &HeaderAdd,
    facts: &impl Facts,
    head: Option<&Head<'_>>,
    headers: &HeaderMap,
    side: Side,
) -> String {
    let head = head.map(|head| match side {
        Side::Request => Head { headers, ..*head },
        Side::Response => *head,
    });
    let response = (side == Side::Response).then_some(headers);
    let mut out = String::new();
    for piece in add.value.pieces() {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Operator(Operator::Fact(fact)) => facts.write(*fact, &mut out),
            Piece::Operator(Operator::Request(wanted)) => {
                let of = |name: &str| {
                    let mut found = None;
                    head?.values(name, &mut |value| {
                        found.get_or_insert_with(|| String::from_utf8_lossy(value).into_owned());
                    });
                    found
                };
                write_header(wanted, of, &mut out);
            }
            Piece::Operator(Operator::Response(wanted)) => {
                let of = |name: &str| {
                    let value = response?.get(name)?;
                    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
                };
                write_header(wanted, of, &mut out);
            }
        }
    }
    out
}

fn write_header(wanted: &HeaderRef, of: impl Fn(&str) -> Option<String>, out: &mut String) {
    let value = of(&wanted.name).or_else(|| of(wanted.other.as_deref()?));
    let Some(value) = value else { return };
    let end = match wanted.limit {
        Some(limit) => value.char_indices().nth(limit).map_or(value.len(), |(at, _)| at),
        None => value.len(),
    };
    // Writing to a string cannot fail.
    let _ = out.write_str(&value[..end]);
}
