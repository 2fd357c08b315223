//! One token, taken apart. Nothing in it is believed yet.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::{Status, json};

/// As lenient as Envoy's decoder, which the parts of a token go through: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Algorithms that a header may name.
const ALGORITHMS: &[&str] = &[
    "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384",
    "PS512", "EdDSA",
];

/// A token's parts.
pub(crate) struct Token<'a> {
    pub(crate) header: Map<String, Value>,
    pub(crate) payload: Map<String, Value>,
    /// `alg`, one of those that are known.
    pub(crate) algorithm: String,
    /// `kid`, may be empty.
    pub(crate) key_id: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audiences: Vec<String>,
    /// Seconds since 1970; 0 is none.
    pub(crate) not_before: u64,
    /// Seconds since 1970; 0 is none.
    pub(crate) expires: u64,
    /// What is signed: header and payload as they came.
    pub(crate) signed: &'a str,
    /// The payload as it came.
    pub(crate) payload_text: &'a str,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Status> {
        let mut parts = text.split('.');
        let (Some(header_text), Some(payload_text), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Status::BadFormat);
        };
        if header_text.is_empty() || payload_text.is_empty() || signature.is_empty() {
            return Err(Status::BadFormat);
        }
        let header = decode(header_text).ok_or(Status::HeaderBadBase64)?;
        let header = json::object(&header).ok_or(Status::HeaderBadJson)?;
        let algorithm = string(&header, "alg", Status::HeaderBadAlg)?.ok_or(Status::HeaderBadAlg)?;
        if !ALGORITHMS.contains(&algorithm.as_str()) {
            return Err(Status::HeaderNotImplementedAlg);
        }
        let key_id = string(&header, "kid", Status::HeaderBadKid)?.unwrap_or_default();
        let payload = decode(payload_text).ok_or(Status::PayloadBadBase64)?;
        let payload = json::object(&payload).ok_or(Status::PayloadBadJson)?;
        let issuer = string(&payload, "iss", Status::IssNotString)?.unwrap_or_default();
        let subject = string(&payload, "sub", Status::SubNotString)?.unwrap_or_default();
        time(&payload, "iat", Status::IatNotInteger, Status::IatOutOfRange)?;
        let not_before = time(&payload, "nbf", Status::NbfNotInteger, Status::NbfOutOfRange)?;
        let expires = time(&payload, "exp", Status::ExpNotInteger, Status::ExpOutOfRange)?;
        string(&payload, "jti", Status::JtiNotString)?;
        Ok(Self {
            algorithm,
            key_id,
            issuer,
            subject,
            audiences: audiences(&payload)?,
            not_before,
            expires,
            signed: &text[..header_text.len() + 1 + payload_text.len()],
            payload_text,
            signature: decode(signature).ok_or(Status::SignatureBadBase64)?,
            header,
            payload,
        })
    }
}

/// Base64url; white space in it does not count.
fn decode(text: &str) -> Option<Vec<u8>> {
    let is_space = |character: char| character.is_ascii_whitespace();
    let text = if text.contains(is_space) {
        Cow::Owned(text.replace(is_space, ""))
    } else {
        Cow::Borrowed(text)
    };
    BASE64.decode(text.as_bytes()).ok()
}

fn string(object: &Map<String, Value>, name: &str, wrong: Status) -> Result<Option<String>, Status> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be inside the range"
)]
fn time(object: &Map<String, Value>, name: &str, wrong: Status, out_of_range: Status) -> Result<u64, Status> {
    let Some(value) = object.get(name) else {
        return Ok(0);
    };
    let value = value.as_f64().ok_or(wrong)?;
    // The largest double below 2^64.
    if !(0.0..=18_446_744_073_709_549_568.0).contains(&value) {
        return Err(out_of_range);
    }
    Ok(value as u64)
}

fn audiences(payload: &Map<String, Value>) -> Result<Vec<String>, Status> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(Status::AudNotString);
    match payload.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(one) => text(one).map(|one| vec![one]),
    }
}
