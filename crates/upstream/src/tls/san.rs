//! Subject alternative names: read from a certificate, matched as Envoy matches them.
//!
//! Envoy: `DefaultCertValidator::matchSubjectAltName` and `Utility::dnsNameMatch`.

use std::net::IpAddr;

use redplane_config::tls::{SanKind, SanMatcher, StringMatcher};
use regex::Regex;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// One name of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct San {
    /// Its kind; never [`SanKind::Any`].
    pub kind: SanKind,
    /// As text; an IP address in its usual form.
    pub text: String,
}

/// The names of a certificate; other kinds are left out.
///
/// # Errors
///
/// The certificate cannot be parsed.
pub fn names(certificate: &[u8]) -> Result<Vec<San>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let extension = parsed
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = extension.map(|extension| &extension.value.general_names);
    Ok(names.into_iter().flatten().filter_map(name).collect())
}

/// The subject of a certificate as RFC 2253 writes it: the last part first.
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut parts: Vec<String> = Vec::new();
    for attribute in parsed.subject().iter().flat_map(|part| part.iter()) {
        let value = attribute.as_str().ok()?;
        let name = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "0.9.2342.19200300.100.1.25" => "DC",
            other => return Some(format!("{other}={value}")),
        };
        parts.push(format!("{name}={}", escaped(value)));
    }
    parts.reverse();
    Some(parts.join(","))
}

/// RFC 2253, section 2.4.
fn escaped(value: &str) -> String {
    let special = |next: char| matches!(next, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
    value.chars().fold(String::new(), |mut out, next| {
        if special(next) {
            out.push('\\');
        }
        out.push(next);
        out
    })
}

fn name(name: &GeneralName<'_>) -> Option<San> {
    let (kind, text) = match name {
        GeneralName::DNSName(text) => (SanKind::Dns, (*text).to_owned()),
        GeneralName::URI(text) => (SanKind::Uri, (*text).to_owned()),
        GeneralName::RFC822Name(text) => (SanKind::Email, (*text).to_owned()),
        GeneralName::IPAddress(bytes) => (SanKind::IpAddress, address(bytes)?.to_string()),
        _ => return None,
    };
    Some(San { kind, text })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// Matchers, ready to run.
#[derive(Debug, Default)]
pub struct SanMatchers(Vec<(SanKind, Test)>);

#[derive(Debug)]
enum Test {
    Plain(StringMatcher),
    /// Anchored on both sides.
    Regex(Regex),
}

impl SanMatchers {
    /// Prepares matchers.
    ///
    /// # Errors
    ///
    /// A regular expression that cannot be anchored.
    pub fn new(matchers: &[SanMatcher]) -> Result<Self, String> {
        let prepare = |matcher: &SanMatcher| {
            let test = match &matcher.text {
                StringMatcher::Regex(regex) => {
                    let whole = format!("^(?:{})$", regex.as_str());
                    Test::Regex(Regex::new(&whole).map_err(|error| error.to_string())?)
                }
                text => Test::Plain(text.clone()),
            };
            Ok((matcher.kind, test))
        };
        matchers.iter().map(prepare).collect::<Result<_, _>>().map(Self)
    }

    /// No matchers: everything is welcome.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any name matches any matcher.
    pub fn accept(&self, names: &[San]) -> bool {
        self.0
            .iter()
            .any(|(kind, test)| names.iter().any(|name| fits(*kind, test, name)))
    }
}

fn fits(kind: SanKind, test: &Test, name: &San) -> bool {
    if kind != SanKind::Any && kind != name.kind {
        return false;
    }
    match test {
        Test::Regex(regex) => regex.is_match(&name.text),
        // The certificate's wildcard counts, not one in the matcher.
        Test::Plain(StringMatcher::Exact(wanted)) if name.kind == SanKind::Dns => {
            dns_match(wanted, &name.text)
        }
        Test::Plain(matcher) => text_fits(matcher, &name.text),
    }
}

fn text_fits(matcher: &StringMatcher, text: &str) -> bool {
    match matcher {
        StringMatcher::Exact(wanted) => text == wanted,
        StringMatcher::Prefix(wanted) => text.starts_with(wanted.as_str()),
        StringMatcher::Suffix(wanted) => text.ends_with(wanted.as_str()),
        StringMatcher::Contains(wanted) => text.contains(wanted.as_str()),
        StringMatcher::Regex(regex) => regex.find(text).is_some_and(|found| found.len() == text.len()),
        StringMatcher::IgnoreCase(inner) => text_fits(&lower(inner), &text.to_ascii_lowercase()),
    }
}

fn lower(matcher: &StringMatcher) -> StringMatcher {
    match matcher {
        StringMatcher::Exact(text) => StringMatcher::Exact(text.to_ascii_lowercase()),
        StringMatcher::Prefix(text) => StringMatcher::Prefix(text.to_ascii_lowercase()),
        StringMatcher::Suffix(text) => StringMatcher::Suffix(text.to_ascii_lowercase()),
        StringMatcher::Contains(text) => StringMatcher::Contains(text.to_ascii_lowercase()),
        StringMatcher::IgnoreCase(inner) => lower(inner),
        StringMatcher::Regex(regex) => StringMatcher::Regex(regex.clone()),
    }
}

/// Whether a DNS name fits one of a certificate, whose first label may hold one `*` that stands for part of a label.
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

    #[test]
    fn kinds_and_texts_are_matched() {
        let san = |kind, text: &str| San {
            kind,
            text: text.to_owned(),
        };
        let names = [
            san(SanKind::Dns, "*.redis.svc"),
            san(SanKind::Uri, "spiffe://cluster.local/ns/a/sa/b"),
            san(SanKind::IpAddress, "10.0.0.1"),
        ];
        let exact = |text: &str| StringMatcher::Exact(text.to_owned());
        let regex = |text: &str| StringMatcher::Regex(Regex::new(text).unwrap());
        let cases = [
            (SanKind::Dns, exact("x.redis.svc"), true),
            (SanKind::Dns, StringMatcher::Suffix(".svc".into()), true),
            (SanKind::Uri, exact("x.redis.svc"), false),
            (SanKind::Any, exact("10.0.0.1"), true),
            (SanKind::Uri, exact("spiffe://cluster.local/ns/a/sa/b"), true),
            (
                SanKind::Uri,
                StringMatcher::Prefix("spiffe://cluster.local/".into()),
                true,
            ),
            (SanKind::Uri, regex("spiffe://[^/]+/ns/a/sa/.*"), true),
            (SanKind::Uri, regex("spiffe|spiffe://.*"), true),
            (SanKind::Uri, regex("cluster"), false),
            (
                SanKind::Uri,
                StringMatcher::IgnoreCase(Box::new(StringMatcher::Contains("NS/A".into()))),
                true,
            ),
            (SanKind::Email, StringMatcher::Contains(String::new()), false),
        ];
        for (kind, text, expected) in cases {
            let matchers = SanMatchers::new(&[SanMatcher {
                kind,
                text: text.clone(),
            }])
            .unwrap();
            assert_eq!(matchers.accept(&names), expected, "{kind:?} {text:?}");
        }
        assert!(!SanMatchers::default().accept(&names));
    }
}
