//! PEM to rustls's types.

use std::path::PathBuf;

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

/// Where systems keep their roots, most common first.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The machine's roots: `SSL_CERT_FILE`, else the first bundle that exists. Roots that cannot be parsed are left out.
///
/// # Errors
///
/// There is no bundle, or nothing in it can be used.
pub fn system_roots() -> Result<RootCertStore, String> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut places = named.into_iter().chain(SYSTEM_BUNDLES.iter().map(PathBuf::from));
    let path = places
        .find(|path| path.is_file())
        .ok_or("this machine has no root certificates")?;
    let pem = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if added == 0 {
        return Err(format!("{}: no usable root certificate", path.display()));
    }
    Ok(store)
}
