//! AWS IAM for Redis: where credentials come from, and the signed tokens that ElastiCache and MemoryDB take as passwords.
//!
//! Signing ([`presign`], [`token`]) is pure: credentials, a time and text in, text out. [`Source`]s read the environment,
//! files and metadata services, on the control thread only. Secrets have no `Debug` and are never logged; what is logged
//! about a failure is which source was asked and why it did not answer.
//!
//! Envoy: `source/extensions/common/aws`, and `aws_iam_authenticator_impl.cc` for the token.

mod clock;
mod credentials;
mod environment;
mod http;
mod profile;
mod region;
mod sign;
mod source;
mod token;

pub use credentials::Credentials;
pub use environment::Environment;
pub use region::region;
pub use sign::{Presign, presign};
pub use source::{Source, Unavailable, sources};
pub use token::token;
