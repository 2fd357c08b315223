//! What verified tokens change in a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redplane_config::jwt::{JwtAuthn, Provider};
use serde_json::{Map, Value};

use crate::extract::{Found, TokenLocation, without_parameter};
use crate::token::Token;

/// Changes to a request, in this order: headers out, headers in, the path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Headers to be removed: those that only the filter may set, and those that held a token that goes no further. Lower
    /// case; a name may stand twice.
    pub remove: Vec<String>,
    /// Headers to be added beside what is there.
    pub add: Vec<(String, String)>,
    /// The path without its token.
    pub path: Option<String>,
    /// What goes into the metadata under [`crate::METADATA`].
    pub metadata: Map<String, Value>,
    /// The route is to be looked for again.
    pub clear_route_cache: bool,
    parameters: Vec<String>,
}

impl Changes {
    /// What happens to every request: headers that only the filter may set are the client's no more.
    pub(crate) fn cleaned(config: &JwtAuthn) -> Self {
        let mut this = Self::default();
        for provider in &config.providers {
            let claims = provider.claim_to_headers.iter().map(|claim| claim.header.clone());
            let payload = Some(provider.forward_payload_header.clone());
            this.remove
                .extend(payload.filter(|name| !name.is_empty()).into_iter().chain(claims));
        }
        this
    }

    /// Whether nothing is left at a place of the request.
    pub(crate) fn empties(&self, place: &TokenLocation) -> bool {
        match place {
            TokenLocation::Header(name, _) => self.remove.contains(name),
            TokenLocation::Parameter(name) => self.parameters.contains(name),
            TokenLocation::Cookie(_) => false,
        }
    }

    /// A token of this provider was verified.
    pub(crate) fn verified(&mut self, provider: &Provider, found: &Found, token: Token<'_>, path: &str) {
        if !provider.forward_payload_header.is_empty() {
            let mut payload = token.payload_text.to_owned();
            while provider.pad_forward_payload_header && !payload.len().is_multiple_of(4) {
                payload.push('=');
            }
            self.add.push((provider.forward_payload_header.clone(), payload));
        }
        let before = self.add.len();
        for claim in &provider.claim_to_headers {
            if let Some(text) = claim_text(&token.payload, &claim.path) {
                self.add.push((claim.header.clone(), text));
            }
        }
        let adds_claims = self.add.len() > before;
        if !provider.forward {
            self.take_out(&found.place, path);
        }
        if !provider.header_in_metadata.is_empty() {
            let header = Value::Object(token.header);
            self.metadata.insert(provider.header_in_metadata.clone(), header);
        }
        if !provider.payload_in_metadata.is_empty() {
            let payload = Value::Object(normalized(token.payload, &provider.space_delimited_claims));
            self.metadata
                .insert(provider.payload_in_metadata.clone(), payload);
        }
        self.clear_route_cache |=
            provider.clear_route_cache && (adds_claims || !provider.payload_in_metadata.is_empty());
    }

    fn take_out(&mut self, place: &TokenLocation, path: &str) {
        match place {
            TokenLocation::Header(name, _) => self.remove.push(name.clone()),
            TokenLocation::Parameter(name) => {
                let path = self.path.as_deref().unwrap_or(path);
                self.path = Some(without_parameter(path, name));
                self.parameters.push(name.clone());
            }
            // Envoy leaves cookies as they are.
            TokenLocation::Cookie(_) => {}
        }
    }
}

/// A claim as a header's value; none for what is absent, null or empty.
fn claim_text(payload: &Map<String, Value>, path: &[String]) -> Option<String> {
    let (last, outer) = path.split_last()?;
    let mut object = payload;
    for key in outer {
        object = object.get(key)?.as_object()?;
    }
    let text = match object.get(last)? {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number_text(number.as_f64()?),
        list_or_object @ (Value::Array(_) | Value::Object(_)) => STANDARD.encode(list_or_object.to_string()),
        Value::Null => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// A whole number above zero as such, all else with six digits, as in Envoy.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be inside the range"
)]
fn number_text(number: f64) -> String {
    if number.fract() == 0.0 && (0.0..18_446_744_073_709_551_615.0).contains(&number) {
        return (number as u64).to_string();
    }
    format!("{number:.6}")
}

/// The payload with some claims split at spaces.
fn normalized(mut payload: Map<String, Value>, split: &[String]) -> Map<String, Value> {
    for name in split {
        if let Some(claim) = payload.get_mut(name)
            && let Value::String(text) = claim
        {
            *claim = text.split_ascii_whitespace().map(Value::from).collect();
        }
    }
    payload
}
