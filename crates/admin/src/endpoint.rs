//! What an endpoint is: path, help, parameters, method, page; and the list of endpoints as text.

use std::fmt::Write;

use crate::Sources;
use crate::reply::Reply;
use crate::request::Request;

/// One endpoint.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    pub(crate) help: &'static str,
    /// It changes something: GET is refused.
    pub(crate) mutates: bool,
    pub(crate) params: &'static [Param],
    pub(crate) page: fn(&Sources, &Request) -> Reply,
}

/// One query parameter.
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: ParamKind,
}

/// How a parameter is entered on the home page.
pub(crate) enum ParamKind {
    Flag,
    Text,
    OneOf(&'static [&'static str]),
}

pub(super) const fn flag(name: &'static str, help: &'static str) -> Param {
    Param {
        name,
        help,
        kind: ParamKind::Flag,
    }
}

pub(super) const fn text(name: &'static str, help: &'static str) -> Param {
    Param {
        name,
        help,
        kind: ParamKind::Text,
    }
}

pub(super) const fn one_of(name: &'static str, help: &'static str, words: &'static [&'static str]) -> Param {
    Param {
        name,
        help,
        kind: ParamKind::OneOf(words),
    }
}

pub(super) const fn get(
    path: &'static str,
    help: &'static str,
    params: &'static [Param],
    page: fn(&Sources, &Request) -> Reply,
) -> Endpoint {
    Endpoint {
        path,
        help,
        mutates: false,
        params,
        page,
    }
}

pub(super) const fn post(
    path: &'static str,
    help: &'static str,
    params: &'static [Param],
    page: fn(&Sources, &Request) -> Reply,
) -> Endpoint {
    Endpoint {
        path,
        help,
        mutates: true,
        params,
        page,
    }
}

/// The list of endpoints in Envoy's layout.
pub(crate) fn help(head: &str, endpoints: &[Endpoint]) -> String {
    let mut help = head.to_owned();
    for endpoint in endpoints {
        let method = if endpoint.mutates { " (POST)" } else { "" };
        // Writing into a String cannot fail.
        let _ = writeln!(help, "  {}{method}: {}", endpoint.path, endpoint.help);
        for param in endpoint.params {
            let words = match param.kind {
                ParamKind::OneOf(words) => format!("; One of ({})", words.join(", ")),
                ParamKind::Flag | ParamKind::Text => String::new(),
            };
            let _ = writeln!(help, "      {}: {}{words}", param.name, param.help);
        }
    }
    help
}
