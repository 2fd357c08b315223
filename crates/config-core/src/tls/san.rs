//! Subject alternative names, and which of them a matcher accepts.
//!
//! Envoy: `DefaultCertValidator::matchSubjectAltName` and `Utility::dnsNameMatch`.

use super::{SanKind, SanMatcher, StringMatcher};

impl SanMatcher {
    /// Whether a name of this kind is accepted.
    #[must_use]
    pub fn fits(&self, kind: SanKind, name: &str) -> bool {
        if self.kind != SanKind::Any && self.kind != kind {
            return false;
        }
        match &self.text {
            // The certificate's wildcard counts, not one in the matcher.
            StringMatcher::Exact(wanted) if kind == SanKind::Dns => dns_match(wanted, name),
            text => text.matches(name.as_bytes()),
        }
    }
}

/// Whether a DNS name fits one of a certificate, whose first label may hold one `*` that stands for part of a label.
#[must_use]
pub fn dns_match(name: &str, pattern: &str) -> bool {
    if name.eq_ignore_ascii_case(pattern) {
        return true;
    }
    let (Some((label, rest)), Some((wild, base))) = (name.split_once('.'), pattern.split_once('.')) else {
        return false;
    };
    let Some((before, after)) = wild.split_once('*') else {
        return false;
    };
    // A wildcard never stands for a whole top level, and not inside an internationalised label.
    if !rest.eq_ignore_ascii_case(base)
        || wild.to_ascii_lowercase().starts_with("xn--")
        || after.contains('*')
    {
        return false;
    }
    let label = label.to_ascii_lowercase();
    label.len() >= before.len() + after.len()
        && label.starts_with(&before.to_ascii_lowercase())
        && label.ends_with(&after.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_one_label() {
        let cases = [
            ("a.example.com", "a.example.com", true),
            ("A.example.com", "a.EXAMPLE.com", true),
            ("a.example.com", "*.example.com", true),
            ("a.b.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            ("foobar.example.com", "foo*.example.com", true),
            ("foobar.example.com", "f*r.example.com", true),
            ("fo.example.com", "foo*o.example.com", false),
            ("xn--a.example.com", "xn--*.example.com", false),
            ("a.example.com", "a.*.com", false),
            ("a", "*", false),
        ];
        for (name, pattern, expected) in cases {
            assert_eq!(dns_match(name, pattern), expected, "{name} {pattern}");
        }
    }
}
