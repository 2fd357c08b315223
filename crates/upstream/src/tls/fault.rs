//! How handshakes end, as the counters under `….ssl.` tell it apart. Used by both sides.
//!
//! Envoy: `SslSocket` and `DefaultCertValidator`: a failed check has its own counter, everything else is
//! `connection_error`; a timeout is neither.

use std::{fmt, io};

use redplane_telemetry::Cells;
use redplane_telemetry::stats::ssl as names;
use rustls::{CertificateError, CommonState, Error, HandshakeKind, OtherError};

/// What was wrong with a peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None was given.
    NoCertificate,
    /// The chain does not lead to a root.
    Chain,
    /// No SAN is accepted.
    Name,
    /// Not pinned.
    Hash,
}

impl Fault {
    /// Reads it out of a failed handshake; other failures are none of these.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::NoCertificatesPresented => Some(Self::NoCertificate),
            Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => Some(
                inner
                    .downcast_ref::<Refusal>()
                    .map_or(Self::Chain, |refusal| refusal.fault),
            ),
            Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => Some(Self::Chain),
            _ => None,
        }
    }

    /// The error that ends a handshake for this fault.
    pub fn refuse(self, reason: impl Into<String>) -> Error {
        let reason = reason.into();
        let refusal = std::sync::Arc::new(Refusal { fault: self, reason });
        Error::InvalidCertificate(CertificateError::Other(OtherError(refusal)))
    }
}

/// A fault with its reason.
#[derive(Debug)]
struct Refusal {
    fault: Fault,
    reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

/// Counts a handshake that was done.
pub fn count(session: &CommonState, stats: &Cells) {
    stats.inc(names::HANDSHAKE);
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        stats.inc(names::SESSION_REUSED);
    }
    if session.peer_certificates().is_none_or(<[_]>::is_empty) {
        stats.inc(names::NO_CERTIFICATE);
    }
}

/// Counts one that failed.
pub fn count_failure(error: &io::Error, stats: &Cells) {
    if error.kind() == io::ErrorKind::TimedOut {
        return;
    }
    let fault = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref())
        .and_then(Fault::of);
    stats.inc(match fault {
        Some(Fault::NoCertificate) => names::FAIL_VERIFY_NO_CERT,
        Some(Fault::Chain) => names::FAIL_VERIFY_ERROR,
        Some(Fault::Name) => names::FAIL_VERIFY_SAN,
        Some(Fault::Hash) => names::FAIL_VERIFY_CERT_HASH,
        None => names::CONNECTION_ERROR,
    });
}
