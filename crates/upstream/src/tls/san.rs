//! Subject alternative names: read from a certificate, matched as Envoy matches them.
//!
//! Envoy: `DefaultCertValidator::matchSubjectAltName`.

use std::net::IpAddr;

pub use redplane_config::tls::dns_match;
use redplane_config::tls::{SanKind, SanMatcher};
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
pub struct SanMatchers(Vec<SanMatcher>);

impl SanMatchers {
    /// Prepares matchers.
    #[must_use]
    pub fn new(matchers: &[SanMatcher]) -> Self {
        Self(matchers.to_vec())
    }

    /// No matchers: everything is welcome.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any name matches any matcher.
    pub fn accept(&self, names: &[San]) -> bool {
        self.0
            .iter()
            .any(|matcher| names.iter().any(|name| matcher.fits(name.kind, &name.text)))
    }
}

#[cfg(test)]
mod tests {
    use redplane_config::matcher::{FullRegex, StringMatcher};

    use super::*;

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
        let regex = |text: &str| StringMatcher::Regex(FullRegex::new(text).unwrap());
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
            }]);
            assert_eq!(matchers.accept(&names), expected, "{kind:?} {text:?}");
        }
        assert!(!SanMatchers::default().accept(&names));
    }
}
