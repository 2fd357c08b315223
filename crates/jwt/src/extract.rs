//! Tokens at the places that providers name.
//!
//! Envoy: `source/extensions/filters/http/jwt_authn/extractor.cc`. All places are read; a prefix may stand anywhere in a
//! header's value and is case-sensitive.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use redplane_config::jwt::Provider;

use crate::Headers;

/// A token in the request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) place: TokenLocation,
    /// Issuers whose tokens may stand there; an empty one stands for all.
    issuers: Vec<String>,
}

/// Where it stood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TokenLocation {
    /// A header and what stands in front of the token.
    Header(String, String),
    Parameter(String),
    Cookie(String),
}

impl Found {
    /// Whether a token of this issuer may stand there.
    pub(crate) fn admits(&self, issuer: &str) -> bool {
        self.issuers
            .iter()
            .any(|known| known.is_empty() || known == issuer)
    }
}

/// The tokens at the places of these providers: headers, parameters, cookies; not at those that are `gone`.
pub(crate) fn tokens<'p>(
    providers: impl Iterator<Item = &'p Provider>,
    headers: &Headers<'_>,
    path: &str,
    gone: impl Fn(&TokenLocation) -> bool,
) -> Vec<Found> {
    let mut found = Vec::new();
    for (place, issuers) in places(providers).into_iter().filter(|(place, _)| !gone(place)) {
        let mut note = |text: &str| {
            found.push(Found {
                text: text.to_owned(),
                place: place.clone(),
                issuers: issuers.clone(),
            });
        };
        match &place {
            TokenLocation::Header(name, prefix) => {
                for value in values(headers, name) {
                    if let Some(token) = behind(&value, prefix) {
                        note(token);
                    }
                }
            }
            TokenLocation::Parameter(name) => {
                let first = parameters(path).find(|(key, _)| *key == *name);
                if let Some((_, value)) = first {
                    note(&value);
                }
            }
            TokenLocation::Cookie(name) => {
                if let Some(value) = cookie(headers, name) {
                    note(&value);
                }
            }
        }
    }
    found
}

/// All places, and for each the issuers that may use it.
fn places<'p>(providers: impl Iterator<Item = &'p Provider>) -> BTreeMap<TokenLocation, Vec<String>> {
    let mut places = BTreeMap::<_, Vec<String>>::new();
    for provider in providers {
        let headers = provider
            .from_headers
            .iter()
            .map(|place| TokenLocation::Header(place.name.clone(), place.prefix.clone()));
        let parameters = provider.from_params.iter().cloned().map(TokenLocation::Parameter);
        let cookies = provider.from_cookies.iter().cloned().map(TokenLocation::Cookie);
        for place in headers.chain(parameters).chain(cookies) {
            places.entry(place).or_default().push(provider.issuer.clone());
        }
    }
    places
}

/// The lines of a header. Lines of `authorization` are one value, as in Envoy: a second one cannot hide.
fn values(headers: &Headers<'_>, name: &str) -> Vec<String> {
    let mut values = Vec::new();
    headers(name, &mut |value| {
        values.push(String::from_utf8_lossy(value).into_owned());
    });
    if name == "authorization" && values.len() > 1 {
        return vec![values.join(",")];
    }
    values
}

/// What stands behind the prefix, from the first character that a token can have on.
fn behind<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let rest = &value[value.find(prefix)? + prefix.len()..];
    let is_legal = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    Some(rest.find(is_legal).map_or(value, |start| &rest[start..]))
}

/// The query's parameters, decoded.
pub(crate) fn parameters(path: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

/// The path without a parameter; the rest of the query stays as it came.
pub(crate) fn without_parameter(path: &str, name: &str) -> String {
    let Some((front, query)) = path.split_once('?') else {
        return path.to_owned();
    };
    let keeps = |part: &&str| decoded(part.split('=').next().unwrap_or_default()) != name;
    let kept: Vec<_> = query.split('&').filter(keeps).collect();
    if kept.is_empty() {
        return front.to_owned();
    }
    format!("{front}?{}", kept.join("&"))
}

/// Percent-decoded; what is no escape stays as it is.
fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// The first cookie of that name, without quotes.
fn cookie(headers: &Headers<'_>, name: &str) -> Option<String> {
    let mut found = None;
    headers("cookie", &mut |line| {
        let line = String::from_utf8_lossy(line);
        let pairs = line.split(';').filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
        if let (None, Some(value)) = (&found, values.next()) {
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            found = Some(bare.unwrap_or(value).to_owned());
        }
    });
    found
}

/// The first value of a header; empty without one.
pub(crate) fn first(headers: &Headers<'_>, name: &str) -> String {
    let mut found = None;
    headers(name, &mut |value| {
        found.get_or_insert_with(|| String::from_utf8_lossy(value).into_owned());
    });
    found.unwrap_or_default()
}
