//! JSON Web Key Sets (RFC 7517, 8037): keys read to bytes, not yet used.
//!
//! Keys that are malformed are left out, as in Envoy, as long as one is left. So are those that no library here can use
//! (P-521, RSA below 2,048 bits): tokens that they signed are refused, and the key is named.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde_json::{Map, Value};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Smallest modulus of an RSA key, in bytes.
const RSA_BYTES: usize = 256;

/// Keys that tokens may be signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    /// In the set's order.
    pub keys: Vec<Key>,
    /// Keys that are of no use here: which, and why.
    pub unsupported: Vec<String>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `kid`; a key without one is tried for every token.
    pub id: Option<String>,
    /// `alg`; a key without one is good for all algorithms of its kind.
    pub algorithm: Option<String>,
    /// The key itself.
    pub material: KeyMaterial,
}

/// What a key is made of.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// Modulus and exponent, big-endian, without zeros in front.
    Rsa {
        /// `n`.
        modulus: Vec<u8>,
        /// `e`.
        exponent: Vec<u8>,
    },
    /// A point, uncompressed (`04 || x || y`).
    Ec {
        /// On which curve.
        curve: Curve,
        /// The point.
        point: Vec<u8>,
    },
    /// Ed25519.
    Ed25519(Vec<u8>),
    /// A shared secret.
    Hmac(Vec<u8>),
}

/// A curve of ECDSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// For ES256.
    P256,
    /// For ES384.
    P384,
}

/// A shared secret stays one.
impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "Rsa",
            Self::Ec { .. } => "Ec",
            Self::Ed25519(_) => "Ed25519",
            Self::Hmac(_) => "Hmac",
        })
    }
}

/// Why a key is left out.
enum Unusable {
    /// Envoy would leave it out as well.
    Malformed(&'static str),
    /// Only redplane cannot use it.
    Unsupported(&'static str),
}

use Unusable::{Malformed, Unsupported};

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    ///
    /// Envoy's words for what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let set: Map<String, Value> = serde_json::from_str(text).map_err(|_| "Jwks is an invalid JSON")?;
        let keys = set.get("keys").ok_or("Jwks does not have [keys] field")?;
        let keys = keys.as_array().ok_or("[keys] in Jwks is not an array")?;
        let mut this = Self::default();
        let mut fault = "Jwks doesn't have any valid public key";
        for (i, key) in keys.iter().enumerate() {
            let Some(object) = key.as_object() else { continue };
            match Key::parse(object) {
                Ok(key) => this.keys.push(key),
                Err(Malformed(reason)) => fault = reason,
                Err(Unsupported(reason)) => this.unsupported.push(format!("keys[{i}]: {reason}")),
            }
        }
        if this.keys.is_empty() && this.unsupported.is_empty() {
            return Err(fault);
        }
        Ok(this)
    }
}

impl Key {
    fn parse(key: &Map<String, Value>) -> Result<Self, Unusable> {
        let kind = key.get("kty").ok_or(Malformed("[kty] is missing in [keys]"))?;
        let kind = kind.as_str().ok_or(Malformed("[kty] is bad in [keys]"))?;
        let optional = |name| {
            key.get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let algorithm = optional("alg");
        let material = match kind {
            "RSA" => rsa(key, algorithm)?,
            "EC" => ec(key, algorithm)?,
            "OKP" => okp(key, algorithm)?,
            "oct" => hmac(key, algorithm)?,
            _ => return Err(Malformed("[kty] is not supported in [keys]")),
        };
        Ok(Self {
            id: optional("kid").map(str::to_owned),
            algorithm: algorithm.map(str::to_owned),
            material,
        })
    }
}

/// The algorithm must be one of the key's kind, if it is named.
fn check(algorithm: Option<&str>, prefixes: &[&str], reason: &'static str) -> Result<(), Unusable> {
    let fits = |algorithm: &str| prefixes.iter().any(|prefix| algorithm.starts_with(prefix));
    if algorithm.is_none_or(fits) {
        return Ok(());
    }
    Err(Malformed(reason))
}

fn bytes(
    key: &Map<String, Value>,
    name: &str,
    missing: &'static str,
    malformed: &'static str,
) -> Result<Vec<u8>, Unusable> {
    let text = key.get(name).and_then(Value::as_str).ok_or(Malformed(missing))?;
    BASE64.decode(text).map_err(|_| Malformed(malformed))
}

fn rsa(key: &Map<String, Value>, algorithm: Option<&str>) -> Result<KeyMaterial, Unusable> {
    check(
        algorithm,
        &["RS", "PS"],
        "[alg] is not started with [RS] or [PS] for an RSA key",
    )?;
    let fault = "Jwks RSA [n] or [e] field is missing or has a parse error";
    let number = |name, missing| -> Result<Vec<u8>, Unusable> {
        let bytes = bytes(key, name, missing, fault)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(bytes[zeros..].to_vec())
    };
    let modulus = number("n", "[n] field is missing for a RSA key")?;
    let exponent = number("e", "[e] field is missing for a RSA key")?;
    match exponent.as_slice() {
        [1, 0, 1] => {}
        [3] => return Err(Unsupported("RSA with the exponent 3 is not supported")),
        _ => return Err(Malformed(fault)),
    }
    // A first byte below 128 makes it less than a whole number of bytes.
    if modulus.len() < RSA_BYTES || (modulus.len() == RSA_BYTES && modulus[0] < 0x80) {
        return Err(Unsupported("RSA below 2,048 bits is not supported"));
    }
    Ok(KeyMaterial::Rsa { modulus, exponent })
}

fn ec(key: &Map<String, Value>, algorithm: Option<&str>) -> Result<KeyMaterial, Unusable> {
    check(algorithm, &["ES"], "[alg] is not started with [ES] for an EC key")?;
    let curve = key.get("crv").map_or(Some(""), Value::as_str);
    let curve = curve.ok_or(Malformed("[crv] field is not string for an EC key"))?;
    let (curve, size) = match (algorithm, curve) {
        (None, "") | (None | Some("ES256"), "P-256") | (Some("ES256"), "") => (Curve::P256, 32_usize),
        (None | Some("ES384"), "P-384") | (Some("ES384"), "") => (Curve::P384, 48),
        (None | Some("ES512"), "P-521") | (Some("ES512"), "") => {
            return Err(Unsupported("P-521 is not supported"));
        }
        (Some("ES256" | "ES384" | "ES512"), "P-256" | "P-384" | "P-521") => {
            return Err(Malformed(
                "[crv] field specified is not compatible with [alg] for an EC key",
            ));
        }
        _ => return Err(Malformed("[crv] or [alg] field is not supported for an EC key")),
    };
    let mut point = vec![4];
    for (name, missing) in [
        ("x", "[x] field is missing for an EC key"),
        ("y", "[y] field is missing for an EC key"),
    ] {
        let part = bytes(
            key,
            name,
            missing,
            "Jwks EC [x] or [y] field is an invalid Base64.",
        )?;
        let padding = size.checked_sub(part.len());
        let padding = padding.ok_or(Malformed("Jwks EC [x] and [y] fields have a parse error."))?;
        point.resize(point.len() + padding, 0);
        point.extend(part);
    }
    Ok(KeyMaterial::Ec { curve, point })
}

fn okp(key: &Map<String, Value>, algorithm: Option<&str>) -> Result<KeyMaterial, Unusable> {
    check(algorithm, &["EdDSA"], "[alg] is not [EdDSA] for an OKP key")?;
    if key.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err(Malformed("[crv] field is not supported for an OKP key"));
    }
    let x = bytes(
        key,
        "x",
        "[x] field is missing for an OKP key",
        "Jwks OKP [x] field is an invalid Base64.",
    )?;
    if x.len() != 32 {
        return Err(Malformed("Jwks OKP [x] field is wrong length."));
    }
    Ok(KeyMaterial::Ed25519(x))
}

fn hmac(key: &Map<String, Value>, algorithm: Option<&str>) -> Result<KeyMaterial, Unusable> {
    check(
        algorithm,
        &["HS256", "HS384", "HS512"],
        "[alg] does not start with [HS] for an HMAC key",
    )?;
    let fault = "Jwks Oct key is an invalid Base64";
    let secret = bytes(key, "k", "[k] field is missing for an HMAC key", fault)?;
    if secret.is_empty() {
        return Err(Malformed(fault));
    }
    Ok(KeyMaterial::Hmac(secret))
}
