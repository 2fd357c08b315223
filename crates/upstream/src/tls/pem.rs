//! PEM to rustls's types.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Certificates in their order; at least one.
///
/// # Errors
///
/// Text that is no PEM, or without a certificate.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("holds no certificate".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// The first private key.
///
/// # Errors
///
/// Text that is no PEM, or without a key that can be used (encrypted keys cannot).
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

/// Revocation lists, possibly none.
///
/// # Errors
///
/// Text that is no PEM.
pub fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// A store of the roots in PEM; at least one.
///
/// # Errors
///
/// As [`certificates`], or a root that cannot be parsed.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in certificates(pem)? {
        store.add(root).map_err(|error| error.to_string())?;
    }
    Ok(store)
}

/// The machine's roots: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else where its distribution keeps them. Roots that cannot be
/// parsed are left out.
///
/// # Errors
///
/// There is none that can be used.
pub fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let reasons = found.errors.iter().map(|error| format!(": {error}"));
        return Err(format!(
            "this machine has no root certificates that can be used{}",
            reasons.collect::<String>()
        ));
    }
    Ok(store)
}
