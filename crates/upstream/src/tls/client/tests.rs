//! The verifier against certificates made here: every rule, and what is not checked.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use redplane_config::tls::{SanKind, SanMatcher, StringMatcher, Trust, Validation, Versions};

use super::*;
use crate::tls::peer::sha256;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        pem,
        issuer: Issuer::new(params, key),
    }
}

fn leaf(authority: &Authority) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec!["*.redis.svc".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(
        "spiffe://cluster.local/ns/a/sa/b".try_into().unwrap(),
    ));
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &authority.issuer).unwrap().der().clone()
}

fn validation(roots: &str) -> Validation {
    Validation {
        roots: roots.as_bytes().to_vec(),
        source: String::new(),
        system_roots: false,
        crl: Vec::new(),
        sans: Vec::new(),
        certificate_hashes: Vec::new(),
        spki_hashes: Vec::new(),
        accept_untrusted: false,
    }
}

fn context(validation: Option<Validation>) -> ClientTls {
    ClientTls {
        certificates: Vec::new(),
        validation: validation.map(|own| Trust::from(Arc::new(own))),
        sni: String::new(),
        auto_host_sni: false,
        auto_sni_san_validation: false,
        alpn: vec!["redis".into()],
        versions: Versions {
            tls12: true,
            tls13: true,
        },
    }
}

fn verdict(tls: &ClientTls, leaf: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let anchors = tls.validation.as_ref().map(|trust| Anchors::new(&trust.own));
    let check = ServerCheck::new(anchors.transpose()?.as_deref(), tls.auto_sni_san_validation)?;
    check
        .verify_server_cert(leaf, &[], &name, &[], UnixTime::now())
        .map(drop)
        .map_err(|error| error.to_string())
}

#[test]
fn the_chain_counts_and_the_name_does_not() {
    let (good, other) = (authority("good"), authority("other"));
    let leaf = leaf(&good);
    assert!(verdict(&context(Some(validation(&good.pem))), &leaf, "elsewhere.example").is_ok());
    let error = verdict(&context(Some(validation(&other.pem))), &leaf, "a.redis.svc").unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = verdict(&context(Some(validation(&other.pem))), &leaf, "elsewhere.example").unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert!(verdict(&context(None), &leaf, "elsewhere.example").is_ok());
    let untrusted = Validation {
        accept_untrusted: true,
        ..validation(&other.pem)
    };
    assert!(verdict(&context(Some(untrusted)), &leaf, "elsewhere.example").is_ok());
}

#[test]
fn matchers_hashes_and_the_sni_are_checked() {
    let good = authority("good");
    let leaf = leaf(&good);
    let with_san = |text: &str| {
        let text = StringMatcher::Exact(text.to_owned());
        let sans = vec![SanMatcher {
            kind: SanKind::Uri,
            text,
        }];
        context(Some(Validation {
            sans,
            ..validation(&good.pem)
        }))
    };
    assert!(verdict(&with_san("spiffe://cluster.local/ns/a/sa/b"), &leaf, "x.y").is_ok());
    assert!(
        verdict(&with_san("spiffe://cluster.local/ns/a/sa/c"), &leaf, "x.y")
            .unwrap_err()
            .contains("sa/b")
    );
    let pinned = |hash| {
        context(Some(Validation {
            certificate_hashes: vec![hash],
            ..validation("")
        }))
    };
    assert!(verdict(&pinned(sha256(&leaf)), &leaf, "x.y").is_ok());
    assert!(verdict(&pinned([0; 32]), &leaf, "x.y").is_err());
    let named = ClientTls {
        auto_sni_san_validation: true,
        ..context(Some(validation(&good.pem)))
    };
    assert!(verdict(&named, &leaf, "a.redis.svc").is_ok());
    assert!(verdict(&named, &leaf, "a.b.redis.svc").is_err());
    assert!(
        verdict(&named, &leaf, "10.0.0.1").is_ok(),
        "without an SNI there is nothing to compare"
    );
}

#[test]
fn the_name_of_a_host_follows_the_settings() {
    let name = |sni: &str, auto: bool, hostname: &str| {
        let tls = ClientTls {
            sni: sni.into(),
            auto_host_sni: auto,
            ..context(None)
        };
        let address = Some("10.0.0.7:6379".parse().unwrap());
        let client = TlsClient::new(&tls, &Secrets::default()).unwrap();
        client.server_name(address, hostname).to_str().into_owned()
    };
    assert_eq!(
        name("outbound_.6379_._.redis.svc", false, "node"),
        "outbound_.6379_._.redis.svc"
    );
    assert_eq!(name("fixed", true, "node-1.redis"), "node-1.redis");
    assert_eq!(name("fixed", true, ""), "fixed");
    assert_eq!(name("", false, "node"), "10.0.0.7");
    assert!(
        TlsClient::new(
            &ClientTls {
                sni: "not a name".into(),
                ..context(None)
            },
            &Secrets::default()
        )
        .is_err()
    );
}
