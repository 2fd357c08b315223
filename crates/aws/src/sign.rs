//! Signature version 4 in the query string: a URL that proves which identity made it, until it expires.
//!
//! AWS: "Create a signed AWS API request", and "Authenticating Requests: Using Query Parameters".

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};

use crate::clock::stamp;
use crate::credentials::Credentials;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A GET request without a body that is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Presign<'a> {
    /// Value of the header `host`.
    pub host: &'a str,
    /// An absolute path that needs no encoding.
    pub path: &'a str,
    /// Names and values, neither of them encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Where.
    pub region: &'a str,
    /// What for: `elasticache`, `memorydb`, `sts`.
    pub service: &'a str,
    /// When it is signed.
    pub time: SystemTime,
    /// How long it is valid.
    pub expires: Duration,
}

/// The query string with its signature, in the order of its names but for the signature, which stands last.
pub fn presign(credentials: &Credentials, request: &Presign<'_>) -> String {
    let stamp = stamp(request.time);
    let day = &stamp[..8];
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let credential = format!("{}/{scope}", credentials.access_key_id);
    let expires = request.expires.as_secs().to_string();
    let mut query: Vec<(&str, &str)> = request.query.to_vec();
    query.extend([
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &stamp),
        ("X-Amz-Expires", &expires),
        ("X-Amz-SignedHeaders", "host"),
    ]);
    if let Some(token) = &credentials.session_token {
        query.push(("X-Amz-Security-Token", token));
    }
    let query = canonical(&query);
    let canonical = format!(
        "GET\n{}\n{query}\nhost:{}\n\nhost\n{}",
        request.path,
        request.host,
        sha256("")
    );
    let to_sign = format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", sha256(&canonical));
    let key = signing_key(&credentials.secret_access_key, day, request);
    let signature = HEXLOWER.encode(mac(key.as_ref(), &to_sign).as_ref());
    format!("{query}&X-Amz-Signature={signature}")
}

/// Names and values encoded, then sorted.
fn canonical(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    // By name, then by value: `=` sorts after every character that an encoded name may have but letters and `_`, `~`.
    pairs.sort_by(|a, b| a.split('=').cmp(b.split('=')));
    pairs.join("&")
}

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Percent-encodes what is not unreserved.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn signing_key(secret: &str, day: &str, request: &Presign<'_>) -> hmac::Tag {
    let first = mac(format!("AWS4{secret}").as_bytes(), day);
    let parts = [request.region, request.service, "aws4_request"];
    parts.iter().fold(first, |key, part| mac(key.as_ref(), part))
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn sha256(text: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// The credentials and the moment of AWS's own test suite.
    pub(crate) fn suite(session_token: Option<&str>) -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: session_token.map(str::to_owned),
            expires: None,
        }
    }

    fn signature(query: &[(&str, &str)], session_token: Option<&str>) -> String {
        let request = Presign {
            host: "example.amazonaws.com",
            path: "/",
            query,
            region: "us-east-1",
            service: "service",
            time: UNIX_EPOCH + Duration::from_secs(1_440_938_160),
            expires: Duration::from_secs(3600),
        };
        let signed = presign(&suite(session_token), &request);
        signed.rsplit_once('=').unwrap().1.to_owned()
    }

    /// aws-signing-test-suite, v4, `query-signed-request.txt` of the case in the name.
    #[test]
    fn the_published_vectors() {
        let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        assert_eq!(
            signature(&[(unreserved, unreserved)], None),
            "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf",
            "get-vanilla-query-unreserved"
        );
        let encoded = [("Param-3", "Value3"), ("Param", "Value2"), ("\u{1234}", "Value1")];
        assert_eq!(
            signature(&encoded, None),
            "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787",
            "get-vanilla-query-order-encoded"
        );
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        assert_eq!(
            signature(&[], Some(token)),
            "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c",
            "get-vanilla-with-session-token"
        );
    }
}
