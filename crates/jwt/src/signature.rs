//! Signatures, by ring.
//!
//! The algorithm that a token names is believed only if the key is of its kind: a public RSA key is never a shared
//! secret.

use redplane_config::jwt::{Curve, Key, KeyMaterial, KeySet};
use ring::{hmac, signature as ring_signature};

use crate::Status;
use crate::token::Token;

/// Whether a key of the set signed the token.
pub(crate) fn check(token: &Token<'_>, keys: &KeySet) -> Status {
    let fits = |key: &&Key| {
        let id = key.id.as_deref().unwrap_or_default();
        let same_id = token.key_id.is_empty() || id.is_empty() || id == token.key_id;
        same_id
            && key
                .algorithm
                .as_ref()
                .is_none_or(|algorithm| *algorithm == token.algorithm)
    };
    let mut status = Status::KidAlgMismatch;
    for key in keys.keys.iter().filter(fits) {
        match check_one(token, &key.material) {
            Status::VerificationFail => status = Status::VerificationFail,
            end => return end,
        }
    }
    status
}

fn check_one(token: &Token<'_>, key: &KeyMaterial) -> Status {
    let is_good = match key {
        KeyMaterial::Rsa { modulus, exponent } => {
            let key = ring_signature::RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            };
            let verify = |parameters| {
                key.verify(parameters, token.signed.as_bytes(), &token.signature)
                    .is_ok()
            };
            rsa(&token.algorithm).is_some_and(verify)
        }
        KeyMaterial::Ec { curve, point } => match (token.algorithm.as_str(), curve) {
            ("ES256", Curve::P256) => verify(&ring_signature::ECDSA_P256_SHA256_FIXED, point, token),
            ("ES384", Curve::P384) => verify(&ring_signature::ECDSA_P384_SHA384_FIXED, point, token),
            _ => false,
        },
        KeyMaterial::Ed25519(_) if token.algorithm != "EdDSA" => false,
        KeyMaterial::Ed25519(_) if token.signature.len() != ring_signature::ED25519_PUBLIC_KEY_LEN * 2 => {
            return Status::Ed25519WrongLength;
        }
        KeyMaterial::Ed25519(key) => verify(&ring_signature::ED25519, key, token),
        KeyMaterial::Hmac(secret) => hmac_algorithm(&token.algorithm).is_some_and(|algorithm| {
            let key = hmac::Key::new(algorithm, secret);
            hmac::verify(&key, token.signed.as_bytes(), &token.signature).is_ok()
        }),
    };
    if is_good {
        Status::Ok
    } else {
        Status::VerificationFail
    }
}

fn verify(
    algorithm: &'static dyn ring_signature::VerificationAlgorithm,
    key: &[u8],
    token: &Token<'_>,
) -> bool {
    ring_signature::UnparsedPublicKey::new(algorithm, key)
        .verify(token.signed.as_bytes(), &token.signature)
        .is_ok()
}

fn rsa(algorithm: &str) -> Option<&'static ring_signature::RsaParameters> {
    Some(match algorithm {
        "RS256" => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &ring_signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &ring_signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &ring_signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn hmac_algorithm(algorithm: &str) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return None,
    })
}
