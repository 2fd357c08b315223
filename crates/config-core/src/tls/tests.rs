//! TLS contexts with real keys: what is read, what waits for SDS, what is refused.

use rcgen::{CertifiedKey, KeyPair};

use super::*;
use crate::config_source::{ConfigSource, GrpcSource, Source};
use crate::sample::{message, refusal};

/// A certificate and its key as PEM.
fn pem() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["redis.ns".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn certificate(chain: &str, key: &str) -> String {
    let inline = |text: &str| format!("{{inline_string: {}}}", quoted(text));
    format!(
        "{{certificate_chain: {}, private_key: {}}}",
        inline(chain),
        inline(key)
    )
}

fn server(common: &str) -> Result<Usable<ServerTls>, Invalid> {
    ServerTls::from_proto(
        &message(&format!("common_tls_context: {{{common}}}")),
        &mut Ignored::default(),
    )
}

fn client(common: &str) -> Result<Usable<ClientTls>, Invalid> {
    ClientTls::from_proto(
        &message(&format!("common_tls_context: {{{common}}}")),
        &mut Ignored::default(),
    )
}

fn ready<T>(usable: Result<Usable<T>, Invalid>) -> T {
    match usable.unwrap() {
        Usable::Ready(value) => value,
        Usable::Inert(reason) => panic!("is inert: {reason}"),
    }
}

fn here(secret: &Secret<Arc<Certificate>>) -> &Certificate {
    match secret {
        Secret::Here(certificate) => certificate,
        Secret::Named(name) => panic!("comes by name: {name:?}"),
    }
}

fn validation(fields: &str) -> Result<Validation, Invalid> {
    let context = client(&format!("validation_context: {{{fields}}}"))?;
    Ok(Validation::clone(&ready(Ok(context)).validation.unwrap().own))
}

#[test]
fn a_server_with_a_certificate() {
    let (chain, key) = pem();
    let common = format!(
        "tls_certificates: [{}], alpn_protocols: [istio-peer-exchange, h2, http/1.1], \
         tls_params: {{tls_minimum_protocol_version: TLSv1_3}}",
        certificate(&chain, &key)
    );
    let yaml = format!("require_client_certificate: true\ncommon_tls_context: {{{common}}}");
    let tls = ready(ServerTls::from_proto(&message(&yaml), &mut Ignored::default()));
    let own = here(&tls.certificates[0]);
    assert_eq!(
        (own.chain.as_slice(), own.source.as_str()),
        (chain.as_bytes(), "<inline>")
    );
    assert_eq!(tls.alpn, ["h2", "http/1.1"]);
    assert_eq!(
        tls.versions,
        Versions {
            tls12: false,
            tls13: true
        }
    );
    assert!(tls.require_client_certificate && tls.validation.is_none());
    assert_eq!(
        format!("{:?}", tls.certificates[0]),
        "Here(Certificate(<inline>))"
    );
}

#[test]
fn a_client_from_files() {
    let (chain, key) = pem();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("chain.pem"), &chain).unwrap();
    std::fs::write(path("key.pem"), &key).unwrap();
    let common = format!(
        "tls_certificates: [{{certificate_chain: {{filename: {0}}}, private_key: {{filename: {1}}}}}], \
         alpn_protocols: [istio-peer-exchange, istio], validation_context: {{trusted_ca: {{filename: {0}}}}}",
        path("chain.pem"),
        path("key.pem")
    );
    let yaml = format!(
        "sni: s\nauto_host_sni: true\nauto_sni_san_validation: true\ncommon_tls_context: {{{common}}}"
    );
    let tls = ready(ClientTls::from_proto(&message(&yaml), &mut Ignored::default()));
    assert_eq!(
        (tls.sni.as_str(), tls.auto_host_sni, tls.auto_sni_san_validation),
        ("s", true, true)
    );
    assert_eq!(
        (here(&tls.certificates[0]).source.as_str(), tls.alpn),
        (path("chain.pem").as_str(), vec!["istio".to_owned()])
    );
    let validation = tls.validation.unwrap().own;
    assert_eq!(
        (validation.roots.as_slice(), validation.source.as_str()),
        (chain.as_bytes(), path("chain.pem").as_str())
    );
    assert_eq!(
        tls.versions,
        Versions {
            tls12: true,
            tls13: true
        }
    );
}

#[test]
fn certificates_that_are_refused() {
    let (chain, key) = pem();
    let at = "common_tls_context.tls_certificates[0]";
    let of = |certificate: &str| refusal(server(&format!("tls_certificates: [{certificate}]")));
    assert_eq!(of("{}"), format!("{at}.certificate_chain: value is required"));
    let no_key = of(&format!(
        "{{certificate_chain: {{inline_string: {}}}}}",
        quoted(&chain)
    ));
    assert_eq!(no_key, format!("{at}.private_key: value is required"));
    assert_eq!(
        of(&certificate("x", &key)),
        format!("{at}.certificate_chain: no PEM certificate found")
    );
    let broken = of(&certificate(&chain, "hunter2"));
    assert_eq!(
        broken,
        format!("{at}.private_key: Failed to load private key: no PEM private key found")
    );
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let malformed =
        format!("{at}.private_key: Failed to load private key: the key is malformed or of an unknown type");
    assert_eq!(of(&certificate(&chain, garbage)), malformed);
    let other = KeyPair::generate().unwrap().serialize_pem();
    let foreign =
        format!("{at}.private_key: Failed to load private key: the key is not that of the certificate");
    assert_eq!(of(&certificate(&chain, &other)), foreign);
    let gone = of("{certificate_chain: {filename: /nonexistent/c}}");
    assert!(
        gone.starts_with(&format!(
            "{at}.certificate_chain.filename: Invalid path: /nonexistent/c"
        )),
        "{gone}"
    );
    assert!(of("{pkcs12: {inline_string: x}}").starts_with(&format!("{at}.pkcs12: ")));
    assert!(of("{password: {inline_string: x}}").starts_with(&format!("{at}.password: ")));
}

#[test]
fn secrets_by_sds_are_named_with_their_source() {
    let grpc = "{api_config_source: {api_type: GRPC, transport_api_version: V3, set_node_on_first_message_only: true, \
                grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}, initial_fetch_timeout: 0s}";
    let default = format!("tls_certificate_sds_secret_configs: [{{name: default, sds_config: {grpc}}}]");
    let combined = "combined_validation_context: {default_validation_context: {match_subject_alt_names: \
                    [{prefix: 'spiffe://'}]}, validation_context_sds_secret_config: {name: ROOTCA}}";
    let tls = ready(client(&format!("{default}, {combined}")));
    let source = ConfigSource {
        source: Source::Grpc(Arc::new(GrpcSource {
            delta: false,
            cluster: "sds-grpc".into(),
            node_on_first_message_only: true,
            initial_metadata: Vec::new(),
        })),
        initial_fetch_timeout: None,
    };
    let own = SecretName {
        name: "default".into(),
        source: Some(source),
    };
    let root = SecretName {
        name: "ROOTCA".into(),
        source: None,
    };
    assert_eq!(
        tls.secrets().collect::<Vec<_>>(),
        [(SecretKind::Certificate, &own), (SecretKind::Validation, &root)]
    );
    assert_eq!(tls.validation.unwrap().own.sans.len(), 1);
    assert_eq!(ready(server(&default)).certificates, [Secret::Named(own)]);
    let alone = ready(client("validation_context_sds_secret_config: {name: ROOTCA}"));
    assert_eq!(
        alone.validation.unwrap(),
        Trust {
            own: Arc::default(),
            secret: Some(root)
        }
    );
    // What stands beside the secret is still checked.
    let both = refusal(client(&format!("{default}, tls_certificates: [{{}}]")));
    assert_eq!(
        both,
        "common_tls_context.tls_certificates[0].certificate_chain: value is required"
    );
    let path = "common_tls_context.tls_certificate_sds_secret_configs[0]";
    assert_eq!(
        refusal(client("tls_certificate_sds_secret_configs: [{}]")),
        format!("{path}.name: value length must be at least 1 characters")
    );
    let rest =
        "tls_certificate_sds_secret_configs: [{name: a, sds_config: {api_config_source: {api_type: REST}}}]";
    assert_eq!(
        refusal(client(rest)),
        format!("{path}.sds_config.api_config_source.api_type: must be GRPC or DELTA_GRPC")
    );
    let custom = "validation_context: {custom_validator_config: {name: envoy.tls.cert_validator.spiffe}}";
    let reason = "certificate validator `envoy.tls.cert_validator.spiffe` is not supported".to_owned();
    assert_eq!(client(custom).unwrap(), Usable::Inert(reason));
}

#[test]
fn a_name_without_somebody_who_vouches_for_it_is_refused() {
    let of = |common: &str| {
        let yaml = format!("sni: s\nauto_sni_san_validation: true\ncommon_tls_context: {{{common}}}");
        ClientTls::from_proto(&message(&yaml), &mut Ignored::default())
    };
    let what = "auto_sni_san_validation: 'auto_sni_san_validation' was configured without";
    assert_eq!(refusal(of("")), format!("{what} a validation context"));
    for context in ["", "trust_chain_verification: ACCEPT_UNTRUSTED"] {
        let common = format!("validation_context: {{{context}}}");
        assert_eq!(refusal(of(&common)), format!("{what} configuring a trusted CA"));
    }
    assert!(of("validation_context: {system_root_certs: {}}").is_ok());
    assert!(of("validation_context_sds_secret_config: {name: ROOTCA}").is_ok());
}

#[test]
fn a_secret_is_a_certificate_or_a_validation_context() {
    let (chain, key) = pem();
    let of = |yaml: &str| NamedSecret::from_proto(&message(yaml), &mut Ignored::default());
    let own = of(&format!(
        "name: default\ntls_certificate: {}",
        certificate(&chain, &key)
    ))
    .unwrap();
    assert_eq!(
        (own.name.as_str(), own.value.kind()),
        ("default", SecretKind::Certificate)
    );
    let root = format!(
        "name: ROOTCA\nvalidation_context: {{trusted_ca: {{inline_string: {}}}}}",
        quoted(&chain)
    );
    assert_eq!(of(&root).unwrap().value.kind(), SecretKind::Validation);
    let (_, other) = pem();
    let mixed = refusal(of(&format!(
        "name: default\ntls_certificate: {}",
        certificate(&chain, &other)
    )));
    assert!(
        mixed.starts_with("tls_certificate.private_key: Failed to load private key"),
        "{mixed}"
    );
    assert_eq!(refusal(of("name: x")), "type: value is required");
    assert!(of("name: x\ngeneric_secret: {}").is_err());
    let custom = "name: x\nvalidation_context: {custom_validator_config: {name: v}}";
    assert!(of(custom).unwrap_err().reason.contains("not supported"));
}

#[test]
fn names_old_and_new() {
    let old = "system_root_certs: {}, match_subject_alt_names: [{exact: a}, {suffix: b, ignore_case: true}]";
    let sans = validation(old).unwrap().sans;
    assert_eq!((sans.len(), sans[0].kind), (2, SanKind::Any));
    let new = "match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: 'spiffe://'}}]";
    let sans = validation(&format!("{old}, {new}")).unwrap().sans;
    let expected = SanMatcher {
        kind: SanKind::Uri,
        text: StringMatcher::Prefix("spiffe://".into()),
    };
    assert_eq!(sans, [expected]);
    let at = "common_tls_context.validation_context";
    let untrusted = refusal(validation(new));
    assert!(
        untrusted.starts_with(&format!(
            "{at}.match_typed_subject_alt_names: SAN-based verification"
        )),
        "{untrusted}"
    );
    let kind = refusal(validation(
        "match_typed_subject_alt_names: [{matcher: {exact: a}}]",
    ));
    assert_eq!(
        kind,
        format!("{at}.match_typed_subject_alt_names[0].san_type: value must not be in list [0]")
    );
    let matcher = refusal(validation("match_typed_subject_alt_names: [{san_type: DNS}]"));
    assert_eq!(
        matcher,
        format!("{at}.match_typed_subject_alt_names[0].matcher: value is required")
    );
}

#[test]
fn hashes_and_trust() {
    let hex = "ab".repeat(32);
    let colons = vec!["AB"; 32].join(":");
    let base64 = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
    let all = validation(&format!(
        "verify_certificate_hash: ['{hex}', '{colons}'], verify_certificate_spki: ['{base64}'], \
         trust_chain_verification: ACCEPT_UNTRUSTED"
    ))
    .unwrap();
    assert_eq!(
        (all.certificate_hashes, all.spki_hashes),
        (vec![[0xab; 32]; 2], vec![[0xab; 32]])
    );
    assert!(all.accept_untrusted && !all.system_roots && all.roots.is_empty());
    let at = "common_tls_context.validation_context";
    let bad = refusal(validation("verify_certificate_hash: [xyz]"));
    assert_eq!(
        bad,
        format!("{at}.verify_certificate_hash[0]: Invalid hex-encoded SHA-256 xyz")
    );
    let bad = refusal(validation("verify_certificate_spki: [xyz]"));
    assert_eq!(
        bad,
        format!("{at}.verify_certificate_spki[0]: Invalid base64-encoded SHA-256 xyz")
    );
    let ca = refusal(validation("trusted_ca: {inline_string: x}"));
    assert!(
        ca.starts_with(&format!(
            "{at}.trusted_ca: Failed to load trusted CA certificates from <inline>"
        )),
        "{ca}"
    );
    assert_eq!(
        refusal(validation("crl: {inline_string: x}")),
        format!("{at}.crl: Failed to load CRL from <inline>")
    );
}

#[test]
fn versions() {
    let of = |low: &str, high: &str| {
        let params = format!(
            "tls_params: {{tls_minimum_protocol_version: {low}, tls_maximum_protocol_version: {high}}}"
        );
        client(&params).map(|tls| ready(Ok(tls)).versions)
    };
    assert_eq!(
        of("TLSv1_0", "TLS_AUTO").unwrap(),
        Versions {
            tls12: true,
            tls13: true
        }
    );
    assert_eq!(
        of("TLS_AUTO", "TLSv1_2").unwrap(),
        Versions {
            tls12: true,
            tls13: false
        }
    );
    assert_eq!(
        of("TLSv1_3", "TLSv1_3").unwrap(),
        Versions {
            tls12: false,
            tls13: true
        }
    );
    let path = "common_tls_context.tls_params.tls_maximum_protocol_version";
    assert_eq!(
        refusal(of("TLS_AUTO", "TLSv1_1")),
        format!("{path}: TLSv1_1 leaves no version that is supported")
    );
    assert!(of("TLSv1_3", "TLSv1_2").is_err());
}
