//! JSON Web Tokens: what a request carries, checked against what it must carry. Pure functions: keys and the time come
//! in, what is to be changed in the request comes out.
//!
//! Signatures are checked by ring; everything else (places, claims, skew, words of refusals) follows Envoy's jwt_authn
//! filter and its jwt_verify_lib, to which applications are used.

mod changes;
mod check;
mod extract;
mod json;
mod refusal;
mod rule;
mod signature;
mod status;
#[cfg(test)]
mod tests;
mod token;

pub use changes::Changes;
pub use check::{Fetched, METADATA, Verdict, check, is_preflight};
pub use refusal::Refusal;
pub use status::Status;

/// The values of a header, one by one: calls what it is given for each line. Names are lower case; `:method`,
/// `:authority`, `:scheme` and `:path` are headers too.
pub type Headers<'a> = dyn Fn(&str, &mut dyn FnMut(&[u8])) + 'a;
