//! The subject of a certificate as text: RFC 2253, as OpenSSL prints it and as access rules and logs know it.

use std::fmt::Write as _;

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

/// Names of attributes (RFC 2253, 4519); others are printed as numbers.
const NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The subject of a certificate (DER): the last name first, special characters escaped. `None` if it cannot be read.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names: Vec<_> = parsed.subject().iter().collect();
    let name = |name: &&x509_parser::x509::RelativeDistinguishedName<'_>| {
        let parts: Vec<_> = name.iter().map(attribute).collect();
        parts.join("+")
    };
    Some(names.iter().rev().map(name).collect::<Vec<_>>().join(","))
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    let known = NAMES.iter().find(|(known, _)| *known == number);
    let value = attribute.as_slice();
    match (known, attribute.as_str()) {
        (Some((_, name)), Ok(text)) => format!("{name}={}", escaped(text)),
        _ => {
            let hex = value.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02X}");
                hex
            });
            let name = known.map_or(number.as_str(), |(_, name)| name);
            format!("{name}=#{hex}")
        }
    }
}

fn escaped(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let is_edge = byte == b' ' && (at == 0 || at == last) || byte == b'#' && at == 0;
        if is_edge || b",+\"\\<>;".contains(&byte) {
            out.push('\\');
            out.push(char::from(byte));
        } else if !(b' '..0x7f).contains(&byte) {
            let _ = write!(out, "\\{byte:02X}");
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        let cases = [
            ("app", "app"),
            ("we;b", "we\\;b"),
            ("q\"x,y", "q\\\"x\\,y"),
            (" a b ", "\\ a b\\ "),
            ("#1#", "\\#1#"),
            ("\u{e9}\n", "\\C3\\A9\\0A"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
        }
    }
}
