//! Which virtual host a Host header belongs to.
//!
//! Envoy: `RouteMatcher::findVirtualHost`: the exact name, else the longest `*.x` that fits, else the longest `x.*`,
//! else `*`. What a star stands for is never empty. Case does not count.

use std::borrow::Cow;

use redplane_config::http::route::{Domain, VirtualHost};
use rustc_hash::FxHashMap;

/// Virtual hosts by their domains.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    exact: FxHashMap<String, usize>,
    /// Longest first.
    suffixes: Vec<(usize, FxHashMap<String, usize>)>,
    /// Longest first.
    prefixes: Vec<(usize, FxHashMap<String, usize>)>,
    any: Option<usize>,
}

impl Hosts {
    pub(crate) fn new(hosts: &[VirtualHost]) -> Self {
        let mut this = Self::default();
        for (at, host) in hosts.iter().enumerate() {
            for domain in &host.domains {
                match domain {
                    Domain::Exact(name) => {
                        this.exact.insert(name.clone(), at);
                    }
                    Domain::Suffix(text) => insert(&mut this.suffixes, text, at),
                    Domain::Prefix(text) => insert(&mut this.prefixes, text, at),
                    Domain::Any => this.any = Some(at),
                }
            }
        }
        this.suffixes
            .sort_unstable_by_key(|(length, _)| std::cmp::Reverse(*length));
        this.prefixes
            .sort_unstable_by_key(|(length, _)| std::cmp::Reverse(*length));
        this
    }

    pub(crate) fn find(&self, authority: &str, ignore_port: bool) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any;
        }
        let name = if ignore_port {
            without_port(authority)
        } else {
            authority
        };
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let name = name.as_ref();
        if let Some(at) = self.exact.get(name) {
            return Some(*at);
        }
        let longer = |length: &usize| name.len() > *length;
        let mut suffixes = self.suffixes.iter().filter(|(length, _)| longer(length));
        let by_suffix = suffixes.find_map(|(length, known)| known.get(name.get(name.len() - length..)?));
        let by_prefix = || {
            let mut prefixes = self.prefixes.iter().filter(|(length, _)| longer(length));
            prefixes.find_map(|(length, known)| known.get(name.get(..*length)?))
        };
        by_suffix.or_else(by_prefix).copied().or(self.any)
    }
}

fn insert(list: &mut Vec<(usize, FxHashMap<String, usize>)>, text: &str, at: usize) {
    let found = list.iter().position(|(length, _)| *length == text.len());
    let place = found.unwrap_or_else(|| {
        list.push((text.len(), FxHashMap::default()));
        list.len() - 1
    });
    list[place].1.insert(text.to_owned(), at);
}

/// Cuts a port off. The colons of an IPv6 address are no port's.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if authority[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => {
            let host = &authority[..at];
            let is_bare_v6 = host.contains(':') && !host.ends_with(']');
            if is_bare_v6 { authority } else { host }
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let table = [
            ("a:80", "a"),
            ("a", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("a:b", "a:b"),
            ("a:", "a"),
        ];
        for (text, host) in table {
            assert_eq!(without_port(text), host, "{text}");
        }
    }
}
