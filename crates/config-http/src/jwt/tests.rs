//! Token rules read from YAML: the one that Istiod pushes, and each refusal with its path.

use std::time::Duration;

use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, PerRouteConfig,
};

use super::*;
use crate::sample::{message, refusal};

/// As recorded for a RequestAuthentication with one rule.
const PUSHED: &str = r#"
bypass_cors_preflight: true
providers:
  origins-0:
    audiences: [shop]
    claim_to_headers: [{claim_name: sub.x, header_name: X-Sub}]
    forward: true
    forward_payload_header: x-payload
    from_headers: [{name: X-Jwt, value_prefix: "Token "}]
    from_params: [token]
    issuer: issuer@example.com
    local_jwks: {inline_string: '{"keys":[{"kty":"RSA","kid":"k1","e":"AQAB","n":"xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ"}]}'}
    normalize_payload_in_metadata: {space_delimited_claims: [permission, scope]}
    payload_in_metadata: payload
rules:
- match: {prefix: /}
  requires: {requires_any: {requirements: [{provider_name: origins-0}, {allow_missing: {}}]}}
"#;

fn read(yaml: &str) -> Result<(JwtAuthn, Vec<String>), Invalid> {
    let mut ignored = Ignored::default();
    let read = JwtAuthn::from_proto(&message::<JwtAuthentication>(yaml), &mut ignored)?;
    Ok((read, ignored.0))
}

/// The filter with two providers and these further fields.
fn with(fields: &str) -> Result<JwtAuthn, Invalid> {
    read(&format!(
        "{{providers: {{a: {{issuer: ia}}, b: {{issuer: ib}}}}, {fields}}}"
    ))
    .map(|(read, _)| read)
}

fn provider(fields: &str) -> Result<(Provider, Vec<String>), Invalid> {
    let (mut read, ignored) = read(&format!("{{providers: {{p: {{{fields}}}}}}}"))?;
    Ok((read.providers.remove(0), ignored))
}

fn requirement(requires: &str) -> Result<Requirement, Invalid> {
    let mut read = with(&format!(
        "rules: [{{match: {{prefix: /}}, requires: {requires}}}]"
    ))?;
    Ok(read.rules.remove(0).requires)
}

fn of(provider: usize) -> Requirement {
    Requirement::Provider {
        provider,
        audiences: None,
    }
}

#[test]
fn what_istiod_pushes() {
    let (read, ignored) = read(PUSHED).unwrap();
    assert!(ignored.is_empty(), "{ignored:?}");
    assert!(read.bypass_cors_preflight);
    let provider = &read.providers[0];
    assert_eq!(provider.from_headers[0].name, "x-jwt");
    assert_eq!(provider.claim_to_headers[0].header, "x-sub");
    assert_eq!(provider.claim_to_headers[0].path, ["sub", "x"]);
    assert_eq!(provider.clock_skew, Duration::from_secs(60));
    let KeySource::Local(keys) = &provider.keys else {
        panic!("{:?}", provider.keys)
    };
    assert_eq!(keys.keys[0].id.as_deref(), Some("k1"));
    assert!(matches!(&keys.keys[0].material, KeyMaterial::Rsa { modulus, .. } if modulus.len() == 256));
    let expected = Requirement::Any(vec![of(0), Requirement::AllowMissing(vec![0])]);
    assert_eq!(read.rules[0].requires, expected);
}

#[test]
fn places_have_defaults() {
    let (read, _) = provider("issuer: i").unwrap();
    assert_eq!(
        (read.from_headers[0].prefix.as_str(), read.from_params.as_slice()),
        ("Bearer ", &["access_token".to_owned()][..])
    );
    let (read, _) = provider("from_cookies: [c]").unwrap();
    assert!(read.from_headers.is_empty() && read.from_params.is_empty());
}

#[test]
fn requirements_name_providers() {
    assert_eq!(requirement("{}").unwrap(), Requirement::Nothing);
    assert_eq!(requirement("{provider_name: b}").unwrap(), of(1));
    // What allows a token to be missing comes last and is about the providers beside it.
    let any = |list: &str| requirement(&format!("{{requires_any: {{requirements: [{list}]}}}}")).unwrap();
    assert_eq!(
        any("{allow_missing: {}}, {provider_name: b}"),
        Requirement::Any(vec![of(1), Requirement::AllowMissing(vec![1])])
    );
    assert_eq!(
        any("{allow_missing: {}}, {allow_missing_or_failed: {}}, {provider_name: a}"),
        Requirement::Any(vec![of(0), Requirement::AllowMissingOrFailed(vec![0])])
    );
    assert_eq!(
        requirement("{allow_missing: {}}").unwrap(),
        Requirement::AllowMissing(vec![0, 1])
    );
    let audiences = requirement("{provider_and_audiences: {provider_name: a, audiences: [x]}}").unwrap();
    assert_eq!(
        audiences,
        Requirement::Provider {
            provider: 0,
            audiences: Some(vec!["x".into()])
        }
    );
    let named =
        with("requirement_map: {n: {provider_name: a}}, rules: [{match: {path: /x}, requirement_name: n}]")
            .unwrap();
    assert_eq!(named.rules[0].requires, of(0));
}

#[test]
fn refusals_name_the_field() {
    let at = "rules[0]";
    for (rule, expected) in [
        ("{requires: {provider_name: a}}", "match: value is required"),
        (
            "{match: {}, requires: {provider_name: a}}",
            "match.path_specifier: value is required",
        ),
        ("{match: {prefix: /, grpc: {}}}", "match.grpc: is not supported"),
        (
            "{match: {safe_regex: {regex: '('}}}",
            "match.safe_regex.regex: missing closing )",
        ),
        (
            "{match: {prefix: /}, requirement_name: x}",
            "requirement_name: Wrong requirement_name: x",
        ),
        (
            "{match: {prefix: /}, requires: {provider_name: x}}",
            "requires.provider_name: Required provider ['x'] is not configured",
        ),
        (
            "{match: {prefix: /}, requires: {requires_all: {requirements: [{provider_name: a}]}}}",
            "requires.requires_all.requirements: value must contain at least 2 item(s)",
        ),
        (
            "{match: {prefix: /}, requires: {extract_only_without_validation: {}}}",
            "requires.extract_only_without_validation: is not supported: tokens are verified or not used",
        ),
    ] {
        assert_eq!(
            refusal(with(&format!("rules: [{rule}]"))),
            format!("{at}.{expected}")
        );
    }
    assert_eq!(
        refusal(with("filter_state_rules: {name: x}")),
        "filter_state_rules: is not supported"
    );
    for (fields, expected) in [
        (
            "from_headers: [{name: 'a b'}]",
            "from_headers[0].name: value does not match regex pattern",
        ),
        (
            "claim_to_headers: [{header_name: h}]",
            "claim_to_headers[0].claim_name: exactly one of claim_name and claim_path must be set",
        ),
        (
            "local_jwks: {inline_string: '{'}",
            "local_jwks: invalid local jwks: Jwks is an invalid JSON",
        ),
        ("remote_jwks: {}", "remote_jwks.http_uri: value is required"),
        (
            "max_lifetime: -1s",
            "max_lifetime: Expected positive duration: seconds: -1 nanos: 0",
        ),
    ] {
        assert_eq!(refusal(provider(fields)), format!("providers[p].{expected}"));
    }
    let route = |yaml| RouteRequirement::from_proto(&message::<PerRouteConfig>(yaml));
    assert_eq!(route("{disabled: true}").unwrap(), RouteRequirement::Disabled);
    assert_eq!(
        route("{requirement_name: n}").unwrap(),
        RouteRequirement::Named("n".into())
    );
    assert_eq!(
        refusal(route("{disabled: false}")),
        "disabled: value must equal true"
    );
    assert_eq!(refusal(route("{}")), "requirement_specifier: value is required");
}

/// Envoy 1.40's words for the same sets.
#[test]
fn key_sets() {
    let set = |keys: &str| KeySet::parse(&format!("{{\"keys\":[{keys}]}}"));
    for (text, expected) in [
        ("{}", "Jwks does not have [keys] field"),
        ("{\"keys\":5}", "[keys] in Jwks is not an array"),
        ("{\"keys\":[]}", "Jwks doesn't have any valid public key"),
        ("{\"keys\":[]} x", "Jwks is an invalid JSON"),
    ] {
        assert_eq!(KeySet::parse(text).unwrap_err(), expected);
    }
    for (key, expected) in [
        (r#"{"kty":"xx"}"#, "[kty] is not supported in [keys]"),
        (r#"{"kid":"a"}"#, "[kty] is missing in [keys]"),
        (
            r#"{"kty":"RSA","n":"x","e":"AQAB"}"#,
            "Jwks RSA [n] or [e] field is missing or has a parse error",
        ),
        (
            r#"{"kty":"RSA","alg":"HS256","n":"AQAB","e":"AQAB"}"#,
            "[alg] is not started with [RS] or [PS] for an RSA key",
        ),
        (
            r#"{"kty":"EC","crv":"P-256","alg":"ES384","x":"AQ","y":"AQ"}"#,
            "[crv] field specified is not compatible with [alg] for an EC key",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"AQ"}"#,
            "Jwks OKP [x] field is wrong length.",
        ),
        (
            r#"{"kty":"OKP","crv":"X25519","x":"AQ"}"#,
            "[crv] field is not supported for an OKP key",
        ),
        (r#"{"kty":"oct","k":"!"}"#, "Jwks Oct key is an invalid Base64"),
        (
            r#"{"kty":"oct","k":"","alg":"RS256"}"#,
            "[alg] does not start with [HS] for an HMAC key",
        ),
    ] {
        assert_eq!(set(key).unwrap_err(), expected, "{key}");
    }
    let good = r#"{"kty":"oct","k":"abcd","kid":"a"}"#;
    assert_eq!(
        set(&format!("\"x\", {good}, {{\"kty\":\"xx\"}}"))
            .unwrap()
            .keys
            .len(),
        1
    );
    for unsupported in [
        r#"{"kty":"EC","crv":"P-521","x":"AQ","y":"AQ"}"#,
        r#"{"kty":"RSA","n":"gAAA","e":"AQAB"}"#,
    ] {
        let set = set(unsupported).unwrap();
        assert!(set.keys.is_empty() && set.unsupported.len() == 1, "{unsupported}");
    }
    let secret = format!("{:?}", set(good).unwrap());
    assert!(!secret.contains("105") && secret.contains("Hmac"), "{secret}");
}
