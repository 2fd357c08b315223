//! Certificates for tests: one authority per value, and identities signed by it, as PEM files in a folder that
//! lives as long as the authority.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A certificate authority.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

/// The PEM files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority's certificate.
    pub ca: PathBuf,
}

impl Authority {
    /// A new authority with its certificate written to a file.
    ///
    /// # Panics
    /// When the certificate cannot be made or written.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "redplane test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).expect("the authority signs itself");
        let ca = folder.path().join("ca.pem");
        write(&ca, &cert.pem());
        Self {
            folder,
            issuer: Issuer::new(params, key),
            ca,
        }
    }

    /// Issues an identity that is good for both sides of a connection.
    ///
    /// `names` are DNS names, IP addresses or URIs of the subject alternative name.
    ///
    /// # Panics
    /// When a name is none of these, or the files cannot be written.
    #[must_use]
    pub fn issue(&self, file_stem: &str, names: &[&str]) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        params.distinguished_name.push(DnType::CommonName, file_stem);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let signed = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let path = |suffix: &str| self.folder.path().join(format!("{file_stem}{suffix}"));
        let identity = Identity {
            cert: path(".pem"),
            key: path(".key"),
            ca: self.ca.clone(),
        };
        write(&identity.cert, &signed.pem());
        write(&identity.key, &key.serialize_pem());
        identity
    }

    /// The file of the authority's own certificate.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn san(name: &str) -> rcgen::SanType {
    if let Ok(ip) = name.parse() {
        return rcgen::SanType::IpAddress(ip);
    }
    let text = name.try_into().expect("names are ASCII");
    if name.contains("://") {
        rcgen::SanType::URI(text)
    } else {
        rcgen::SanType::DnsName(text)
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the temporary folder can be written");
}
