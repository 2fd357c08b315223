//! Tokens of every kind, signed here, by table; what Envoy 1.40 answered to the same stands beside them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use redplane_config::jwt::{
    ClaimHeader, HeaderPlace, JwtAuthn, Key, KeyMaterial, KeySet, KeySource, PathTest, Provider, RemoteKeys,
    Requirement, RouteRequirement, Rule, RuleMatch,
};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use ring::{hmac, rand};
use serde_json::{Value, json};

use crate::{Changes, Fetched, Refusal, Verdict, check};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER: &[u8] = b"fedcba9876543210fedcba9876543210";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these parts, signed by HMAC.
fn signed(header: &Value, payload: &[u8], secret: &[u8], algorithm: hmac::Algorithm) -> String {
    let text = format!("{}.{}", encode(header.to_string()), encode(payload));
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), text.as_bytes());
    format!("{text}.{}", encode(tag))
}

fn hs256(payload: &Value) -> String {
    signed(
        &json!({"alg": "HS256"}),
        payload.to_string().as_bytes(),
        SECRET,
        hmac::HMAC_SHA256,
    )
}

/// A good token of `i0` with some claims more or others.
fn good(more: Value) -> String {
    let mut payload = json!({"iss": "i0", "aud": "a", "exp": NOW + 600, "sub": "s"});
    let (Value::Object(payload_fields), Value::Object(more)) = (&mut payload, more) else {
        panic!("claims are objects");
    };
    payload_fields.extend(more);
    hs256(&payload)
}

fn secret(secret: &[u8], id: Option<&str>, algorithm: Option<&str>) -> KeySource {
    KeySource::Local(KeySet {
        keys: vec![Key {
            id: id.map(str::to_owned),
            algorithm: algorithm.map(str::to_owned),
            material: KeyMaterial::Hmac(secret.to_vec()),
        }],
        unsupported: Vec::new(),
    })
}

fn provider(name: &str, issuer: &str, keys: KeySource) -> Provider {
    Provider {
        name: name.to_owned(),
        issuer: issuer.to_owned(),
        audiences: Vec::new(),
        subjects: None,
        require_expiration: false,
        max_lifetime: None,
        forward: true,
        from_headers: vec![HeaderPlace {
            name: "authorization".to_owned(),
            prefix: "Bearer ".to_owned(),
        }],
        from_params: vec!["access_token".to_owned()],
        from_cookies: Vec::new(),
        forward_payload_header: String::new(),
        pad_forward_payload_header: false,
        claim_to_headers: Vec::new(),
        payload_in_metadata: "payload".to_owned(),
        space_delimited_claims: Vec::new(),
        header_in_metadata: String::new(),
        failed_status_in_metadata: String::new(),
        clock_skew: Duration::from_secs(60),
        clear_route_cache: false,
        keys,
    }
}

fn p0() -> Provider {
    let claim = |path: &str| ClaimHeader {
        header: format!("x-c-{}", path.replace('.', "-")),
        path: path.split('.').map(str::to_owned).collect(),
    };
    Provider {
        audiences: vec!["a".to_owned()],
        claim_to_headers: ["sub", "n", "f", "neg", "b", "nul", "l", "o", "o.k", "nope"]
            .map(claim)
            .to_vec(),
        forward_payload_header: "x-pl".to_owned(),
        ..provider("p0", "i0", secret(SECRET, Some("k1"), Some("HS256")))
    }
}

fn p1() -> Provider {
    Provider {
        header_in_metadata: "hdr".to_owned(),
        failed_status_in_metadata: "fs".to_owned(),
        clock_skew: Duration::from_secs(5),
        ..provider("p1", "i1", secret(OTHER, None, None))
    }
}

fn of(provider: usize) -> Requirement {
    Requirement::Provider {
        provider,
        audiences: None,
    }
}

/// The filter with one rule for everything but `/free`.
fn filter(providers: Vec<Provider>, requires: Requirement) -> JwtAuthn {
    let rule = |prefix: &str, requires| Rule {
        matches: RuleMatch {
            path: PathTest::Prefix {
                prefix: prefix.to_owned(),
                case_sensitive: true,
            },
            headers: Vec::new(),
            query: Vec::new(),
        },
        requires,
    };
    JwtAuthn {
        providers,
        rules: vec![rule("/free", Requirement::Nothing), rule("/", requires)],
        named: Vec::new(),
        bypass_cors_preflight: false,
        strip_failure_response: false,
        stat_prefix: String::new(),
    }
}

/// What the filter says to a request for this path with these headers.
fn ask(config: &JwtAuthn, path: &str, headers: &[(&str, &str)]) -> Verdict {
    ask_with(config, None, path, headers, &|_| Fetched::Missing)
}

fn ask_with<'k>(
    config: &JwtAuthn,
    route: Option<&RouteRequirement>,
    path: &str,
    headers: &[(&str, &str)],
    fetched: &dyn Fn(usize) -> Fetched<'k>,
) -> Verdict {
    let fixed = [
        (":path", path),
        (":authority", "h.example:80"),
        (":scheme", "http"),
    ];
    let lookup = |name: &str, each: &mut dyn FnMut(&[u8])| {
        let values = fixed.iter().chain(headers).filter(|(header, _)| *header == name);
        values.for_each(|(_, value)| each(value.as_bytes()));
    };
    check(config, route, &lookup, fetched, NOW)
}

fn passed(verdict: Verdict) -> Changes {
    match verdict {
        Verdict::Passed(changes) => *changes,
        other => panic!("{other:?}"),
    }
}

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Status and body, or 200 and nothing.
fn told(verdict: Verdict) -> (u16, String) {
    match verdict {
        Verdict::Passed(_) => (200, String::new()),
        Verdict::Refused(refusal) => (refusal.status, refusal.body),
        Verdict::NeedsKeys(provider) => (0, format!("needs {provider}")),
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn claims_are_checked() {
    let config = filter(vec![p0()], of(0));
    let audience = "Audiences in Jwt are not allowed";
    let issuer = "Jwt issuer is not configured";
    for (claims, status, body) in [
        (json!({}), 200, ""),
        (json!({"exp": NOW - 60}), 200, ""),
        (json!({"exp": NOW - 61}), 401, "Jwt is expired"),
        (json!({"nbf": NOW + 60}), 200, ""),
        (json!({"nbf": NOW + 61}), 401, "Jwt not yet valid"),
        (json!({"exp": 0}), 200, ""),
        (json!({"exp": NOW as f64 + 0.5}), 200, ""),
        (
            json!({"exp": "5"}),
            401,
            "Jwt payload [exp] field is not an integer",
        ),
        (
            json!({"exp": null}),
            401,
            "Jwt payload [exp] field is not an integer",
        ),
        (
            json!({"exp": -5}),
            401,
            "Jwt payload [exp] field is not a positive 64 bit integer",
        ),
        (
            json!({"exp": 1e30}),
            401,
            "Jwt payload [exp] field is not a positive 64 bit integer",
        ),
        (
            json!({"iat": -1}),
            401,
            "Jwt payload [iat] field is not a positive 64 bit integer",
        ),
        (
            json!({"iat": "x"}),
            401,
            "Jwt payload [iat] field is not an integer",
        ),
        (
            json!({"nbf": true}),
            401,
            "Jwt payload [nbf] field is not an integer",
        ),
        (json!({"aud": "b"}), 403, audience),
        (json!({"aud": ["b", "a"]}), 200, ""),
        (json!({"aud": []}), 403, audience),
        (json!({"aud": "https://a/"}), 200, ""),
        (json!({"aud": "A"}), 403, audience),
        (
            json!({"aud": 5}),
            401,
            "Jwt payload [aud] field is not a string or string list",
        ),
        (
            json!({"aud": ["a", 5]}),
            401,
            "Jwt payload [aud] field is not a string or string list",
        ),
        (json!({"iss": "zz"}), 401, issuer),
        (json!({"iss": ""}), 401, issuer),
        (json!({"iss": 5}), 401, "Jwt payload [iss] field is not a string"),
        (json!({"sub": 5}), 401, "Jwt payload [sub] field is not a string"),
        (json!({"jti": 5}), 401, "Jwt payload [jti] field is not a string"),
    ] {
        let token = bearer(&good(claims.clone()));
        let told = told(ask(&config, "/x", &[("authorization", &token)]));
        assert_eq!(told, (status, body.to_owned()), "{claims}");
    }
}

#[test]
fn forms_of_tokens() {
    let config = filter(vec![p0()], of(0));
    let good = good(json!({}));
    let with = |header: Value, payload: &str| signed(&header, payload.as_bytes(), SECRET, hmac::HMAC_SHA256);
    let claims = r#"{"iss":"i0","aud":"a"}"#;
    let format = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    let kid_or_alg = "Jwks doesn't have key to match kid or alg from Jwt";
    for (token, body) in [
        (good.clone(), ""),
        (format!("{good}="), ""),
        (
            format!("{good}!"),
            "Jwt signature is an invalid Base64url encoded",
        ),
        (format!("{good} extra"), "Jwt verification fails"),
        (
            format!("{}abc", &good[..good.len() - 3]),
            "Jwt verification fails",
        ),
        ("..".into(), format),
        ("a.b.c.d".into(), format),
        ("a".into(), format),
        ("e30x.e30.eA".into(), "Jwt header is an invalid JSON"),
        ("e!0.e30.eA".into(), "Jwt header is an invalid Base64url encoded"),
        (
            with(json!({"alg": "none"}), claims),
            "Jwt header [alg] is not supported",
        ),
        (
            with(json!({"alg": "hs256"}), claims),
            "Jwt header [alg] is not supported",
        ),
        (
            with(json!({"alg": 5}), claims),
            "Jwt header [alg] field is required and must be a string",
        ),
        (
            with(json!({}), claims),
            "Jwt header [alg] field is required and must be a string",
        ),
        (
            with(json!({"alg": "HS256", "kid": 5}), claims),
            "Jwt header [kid] field is not a string",
        ),
        (with(json!({"alg": "HS256", "kid": "k1"}), claims), ""),
        (with(json!({"alg": "HS256", "kid": ""}), claims), ""),
        (with(json!({"alg": "HS256", "kid": "k9"}), claims), kid_or_alg),
        (with(json!({"alg": "RS256"}), claims), kid_or_alg),
        (with(json!({"alg": "HS384"}), claims), kid_or_alg),
        (
            with(json!({"alg": "HS256"}), "{"),
            "Jwt payload is an invalid JSON",
        ),
        (
            with(json!({"alg": "HS256"}), "[]"),
            "Jwt payload is an invalid JSON",
        ),
        (
            with(json!({"alg": "HS256"}), &format!("{claims} x")),
            "Jwt payload is an invalid JSON",
        ),
        (
            with(json!({"alg": "HS256"}), r#"{"iss":"zz","iss":"i0","aud":"a"}"#),
            "Jwt payload is an invalid JSON",
        ),
        (
            with(
                json!({"alg": "HS256"}),
                r#"{"iss":"i0","aud":"a","o":{"k":1,"k":2}}"#,
            ),
            "Jwt payload is an invalid JSON",
        ),
    ] {
        let (_, told) = told(ask(&config, "/x", &[("authorization", &bearer(&token))]));
        assert_eq!(told, body, "{token}");
    }
}

#[test]
fn places() {
    let config = filter(vec![p0()], of(0));
    let good = good(json!({}));
    let (lower, twice_spaced, inside) = (
        format!("bearer {good}"),
        format!("Bearer  {good}"),
        format!("xBearer {good}"),
    );
    let bearer = bearer(&good);
    let parameter = format!("/x?access_token={good}&b=%20");
    let bad = "/x?access_token=abc";
    for (path, headers, status) in [
        ("/x", &[][..], 401),
        ("/x", &[("authorization", bearer.as_str())], 200),
        ("/x", &[("authorization", lower.as_str())], 401),
        ("/x", &[("authorization", twice_spaced.as_str())], 200),
        ("/x", &[("authorization", inside.as_str())], 200),
        ("/x", &[("authorization", "Basic abc")], 401),
        ("/x", &[("authorization", "Bearer !!")], 401),
        // Two lines are one value, as in Envoy: nothing hides in the second.
        (
            "/x",
            &[
                ("authorization", bearer.as_str()),
                ("authorization", bearer.as_str()),
            ],
            401,
        ),
        (
            "/x",
            &[("authorization", bearer.as_str()), ("authorization", "x")],
            401,
        ),
        (parameter.as_str(), &[], 200),
        // One bad token is enough.
        (bad, &[("authorization", bearer.as_str())], 401),
        ("/free", &[], 200),
    ] {
        assert_eq!(told(ask(&config, path, headers)).0, status, "{path} {headers:?}");
    }
}

#[test]
fn tokens_go_no_further() {
    let own = Provider {
        from_headers: vec![
            HeaderPlace {
                name: "x-t".into(),
                prefix: "Token ".into(),
            },
            HeaderPlace {
                name: "x-raw".into(),
                prefix: String::new(),
            },
        ],
        from_params: vec!["tk".into()],
        from_cookies: vec!["ck".into()],
        forward: false,
        pad_forward_payload_header: true,
        ..p0()
    };
    let config = filter(vec![own], of(0));
    let good = good(json!({}));
    let removed = |changes: &Changes, name: &str| changes.remove.iter().any(|header| header == name);
    let token = format!("Token {good}");
    let changes = passed(ask(&config, "/p?a=1", &[("x-t", &token)]));
    assert!(removed(&changes, "x-t") && !removed(&changes, "x-raw") && changes.path.is_none());
    let changes = passed(ask(&config, "/p", &[("x-raw", &good)]));
    assert!(removed(&changes, "x-raw"));
    for (query, left) in [
        (format!("?a=1&tk={good}&b=%2F&c"), "/p?a=1&b=%2F&c"),
        (format!("?t%6b={good}"), "/p"),
        (format!("?tk={good}&tk=other&z"), "/p?z"),
    ] {
        let changes = passed(ask(&config, &format!("/p{query}"), &[]));
        assert_eq!(changes.path.as_deref(), Some(left));
    }
    for cookie in [format!("a=b; ck={good}"), format!("ck=\"{good}\"")] {
        let changes = passed(ask(&config, "/p", &[("cookie", &cookie)]));
        let (_, payload) = changes.add.iter().find(|(name, _)| name == "x-pl").unwrap();
        assert_eq!(payload.len() % 4, 0);
    }
    for headers in [[("x-t", good.as_str())], [("authorization", token.as_str())]] {
        assert_eq!(told(ask(&config, "/p", &headers)).1, "Jwt is missing");
    }
    let empty = told(ask(&config, "/p", &[("x-raw", "")])).1;
    assert!(empty.starts_with("Jwt is not in the form"), "{empty}");
}

#[test]
fn claims_become_headers_and_metadata() {
    let claims = json!({
        "n": 5, "f": 1.5, "neg": -3, "b": true, "nul": null, "l": [1, "a"], "o": {"k": "v"}, "scope": "a  b"
    });
    let own = Provider {
        space_delimited_claims: vec!["scope".into(), "n".into()],
        clear_route_cache: true,
        header_in_metadata: "hdr".into(),
        ..p0()
    };
    let token = good(claims);
    let config = filter(vec![own], of(0));
    let changes = passed(ask(&config, "/x", &[("authorization", &bearer(&token))]));
    let payload = token.split('.').nth(1).unwrap();
    let expected = [
        ("x-pl", payload),
        ("x-c-sub", "s"),
        ("x-c-n", "5"),
        ("x-c-f", "1.500000"),
        ("x-c-neg", "-3.000000"),
        ("x-c-b", "true"),
        ("x-c-l", "WzEsImEiXQ=="),
        ("x-c-o", "eyJrIjoidiJ9"),
        ("x-c-o-k", "v"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(changes.add, expected);
    assert!(changes.clear_route_cache);
    assert_eq!(changes.metadata["hdr"], json!({"alg": "HS256"}));
    assert_eq!(changes.metadata["payload"]["scope"], json!(["a", "b"]));
    assert_eq!(changes.metadata["payload"]["n"], json!(5));
    // What only the filter may set is the client's nowhere, not even where no token is needed.
    let free = passed(ask(&config, "/free", &[("x-c-sub", "evil")]));
    assert!(free.remove.contains(&"x-c-sub".to_owned()) && free.remove.contains(&"x-pl".to_owned()));
    assert!(free.add.is_empty() && free.metadata.is_empty());
    let lines = good(json!({"sub": "a\r\nx: y"}));
    let refusal = refused(ask(&config, "/x", &[("authorization", &bearer(&lines))]));
    assert_eq!(
        (refusal.status, refusal.body.as_str()),
        (503, "invalid header value for: x-c-sub")
    );
}

#[test]
fn what_a_refusal_says() {
    let config = filter(vec![p0()], of(0));
    let missing = refused(ask(&config, "/x?q=1", &[]));
    assert_eq!(
        missing.www_authenticate.unwrap(),
        "Bearer realm=\"http://h.example:80/x?q=1\""
    );
    assert_eq!(missing.details, "jwt_authn_access_denied{Jwt_is_missing}");
    let expired = bearer(&good(json!({"exp": 1})));
    let expired = refused(ask(&config, "/x", &[("authorization", &expired)]));
    let challenge = "Bearer realm=\"http://h.example:80/x\", error=\"invalid_token\"";
    assert_eq!(expired.www_authenticate.unwrap(), challenge);
    let long = refused(ask(&config, &format!("/{}", "a".repeat(300)), &[]));
    assert_eq!(
        long.www_authenticate.unwrap().len(),
        "Bearer realm=\"http://h.example:80\"".len() + 256
    );
    let original = refused(ask(&config, "/x", &[("x-envoy-original-path", "/o")]));
    assert!(original.www_authenticate.unwrap().ends_with("80/o\""));
    let bare = JwtAuthn {
        strip_failure_response: true,
        ..config
    };
    let bare = refused(ask(&bare, "/x", &[]));
    assert_eq!(
        (bare.status, bare.body.as_str(), bare.www_authenticate),
        (401, "", None)
    );
}

#[test]
fn requirements() {
    let (token0, token1) = (bearer(&good(json!({}))), {
        let payload = json!({"iss": "i1", "exp": NOW + 600}).to_string();
        bearer(&signed(
            &json!({"alg": "HS256"}),
            payload.as_bytes(),
            OTHER,
            hmac::HMAC_SHA256,
        ))
    });
    let expired0 = bearer(&good(json!({"exp": 1})));
    let wrong_audience = bearer(&good(json!({"aud": "q"})));
    let stranger = bearer(&good(json!({"iss": "q"})));
    let forged1 = {
        let payload = json!({"iss": "i1"}).to_string();
        bearer(&signed(
            &json!({"alg": "HS256"}),
            payload.as_bytes(),
            SECRET,
            hmac::HMAC_SHA256,
        ))
    };
    let any_missing = |index| Requirement::Any(vec![of(index), Requirement::AllowMissing(vec![index])]);
    let either = Requirement::Any(vec![of(0), of(1)]);
    // As Istio writes it for two issuers.
    let istio = Requirement::Any(vec![
        of(0),
        of(1),
        Requirement::All(vec![any_missing(0), any_missing(1)]),
    ]);
    let missing = Requirement::AllowMissing(vec![0, 1]);
    let failed = Requirement::AllowMissingOrFailed(vec![0, 1]);
    let trees = [any_missing(0), either, istio, missing, failed];
    let garbage = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    let issuer = "Jwt issuer is not configured";
    for (header, expected) in [
        (None, ["", "Jwt is missing", "", "", ""]),
        (Some(token0.as_str()), ["", "", "", "", ""]),
        (Some(token1.as_str()), [issuer, "", "", "", ""]),
        (
            Some(expired0.as_str()),
            [
                "Jwt is expired",
                "Jwt is expired",
                "Jwt is expired",
                "Jwt is expired",
                "",
            ],
        ),
        (Some(stranger.as_str()), [issuer, issuer, issuer, issuer, ""]),
        (Some("Bearer a"), [garbage, garbage, garbage, garbage, ""]),
        (
            Some(wrong_audience.as_str()),
            [
                "Audiences in Jwt are not allowed",
                "Audiences in Jwt are not allowed",
                "Audiences in Jwt are not allowed",
                "Audiences in Jwt are not allowed",
                "",
            ],
        ),
        (
            Some(forged1.as_str()),
            [
                issuer,
                "Jwt verification fails",
                "Jwt verification fails",
                "Jwt verification fails",
                "",
            ],
        ),
    ] {
        for (tree, expected) in trees.iter().zip(expected) {
            let config = filter(vec![p0(), p1()], tree.clone());
            let headers: Vec<_> = header.iter().map(|value| ("authorization", *value)).collect();
            assert_eq!(
                told(ask(&config, "/x", &headers)).1,
                expected,
                "{header:?} for {tree:?}"
            );
        }
    }
    // A token that may fail leaves nothing behind but the note of its failure.
    let config = filter(vec![p0(), p1()], trees[4].clone());
    let changes = passed(ask(&config, "/x", &[("authorization", &forged1)]));
    assert!(changes.add.is_empty());
    assert_eq!(
        Value::Object(changes.metadata),
        json!({"fs": {"code": 26, "message": "Jwt verification fails"}})
    );
    let audiences = Requirement::Provider {
        provider: 0,
        audiences: Some(vec!["http://q/".into()]),
    };
    let config = filter(vec![p0()], audiences);
    assert_eq!(
        told(ask(&config, "/x", &[("authorization", &wrong_audience)])).0,
        200
    );
    assert_eq!(told(ask(&config, "/x", &[("authorization", &token0)])).0, 403);
}

#[test]
fn a_token_that_was_taken_out_is_not_found_again() {
    let taking = Provider {
        forward: false,
        ..p0()
    };
    let any_missing = |index| Requirement::Any(vec![of(index), Requirement::AllowMissing(vec![index])]);
    let config = filter(
        vec![taking, p1()],
        Requirement::All(vec![any_missing(0), any_missing(1)]),
    );
    let token = bearer(&good(json!({})));
    assert_eq!(
        told(ask(&config, "/x", &[("authorization", &token)])),
        (200, String::new())
    );
}

#[test]
fn lifetimes_and_subjects() {
    let strict = Provider {
        audiences: Vec::new(),
        require_expiration: true,
        max_lifetime: Some(Duration::from_secs(100)),
        subjects: Some(redplane_config::matcher::StringMatcher::Prefix("s".into())),
        ..p0()
    };
    let config = filter(vec![strict], of(0));
    for (claims, passes) in [
        (json!({"iss": "i0", "sub": "sx", "exp": NOW + 50}), true),
        (json!({"iss": "i0", "sub": "q", "exp": NOW + 50}), false),
        (json!({"iss": "i0", "exp": NOW + 50}), false),
        (json!({"iss": "i0", "sub": "s"}), false),
        (json!({"iss": "i0", "sub": "s", "exp": NOW + 160}), true),
        (json!({"iss": "i0", "sub": "s", "exp": NOW + 161}), false),
    ] {
        let (_, body) = told(ask(&config, "/x", &[("authorization", &bearer(&hs256(&claims)))]));
        assert_eq!(
            body,
            if passes { "" } else { "Jwt verification fails" },
            "{claims}"
        );
    }
}

#[test]
fn routes_and_preflights() {
    let mut config = filter(vec![p0()], of(0));
    config.named = vec![("none".into(), Requirement::Nothing)];
    let by_route =
        |route: RouteRequirement| ask_with(&config, Some(&route), "/x", &[], &|_| Fetched::Missing);
    assert_eq!(told(by_route(RouteRequirement::Disabled)).0, 200);
    assert_eq!(told(by_route(RouteRequirement::Named("none".into()))).0, 200);
    let unknown = refused(by_route(RouteRequirement::Named("x".into())));
    assert_eq!(unknown.status, 403);
    assert!(
        unknown
            .body
            .starts_with("Failed JWT authentication: Wrong requirement_name: x")
    );
    let preflight = [
        (":method", "OPTIONS"),
        ("origin", "o"),
        ("access-control-request-method", "GET"),
    ];
    assert_eq!(told(ask(&config, "/x", &preflight)).0, 401);
    let bypass = JwtAuthn {
        bypass_cors_preflight: true,
        ..config
    };
    assert_eq!(told(ask(&bypass, "/x", &preflight)).0, 200);
    assert_eq!(told(ask(&bypass, "/x", &preflight[..2])).0, 401);
}

#[test]
fn keys_that_are_fetched() {
    let remote = KeySource::Remote(RemoteKeys {
        uri: "http://k/".into(),
        cluster: "k".into(),
        timeout: Duration::from_secs(5),
        cache_duration: Duration::from_secs(300),
    });
    let KeySource::Local(keys) = secret(SECRET, None, None) else {
        panic!("a secret is local")
    };
    let config = filter(vec![Provider { keys: remote, ..p0() }], of(0));
    let token = bearer(&good(json!({})));
    let headers = [("authorization", token.as_str())];
    let with = |fetched: Fetched<'_>| ask_with(&config, None, "/x", &headers, &|_| fetched);
    assert_eq!(with(Fetched::Missing), Verdict::NeedsKeys(0));
    assert_eq!(told(with(Fetched::Failed)).1, "Jwks remote fetch is failed");
    assert_eq!(told(with(Fetched::Keys(&keys))).0, 200);
    // Nothing is fetched for what cannot be good.
    let expired = bearer(&good(json!({"exp": 1})));
    let early = ask_with(&config, None, "/x", &[("authorization", &expired)], &|_| {
        Fetched::Missing
    });
    assert_eq!(told(early).1, "Jwt is expired");
    let none = filter(
        vec![Provider {
            keys: KeySource::None,
            ..p0()
        }],
        of(0),
    );
    assert_eq!(
        told(ask(&none, "/x", &headers)).1,
        "Jwks doesn't have any valid public key"
    );
}

/// A token that names an algorithm, signed by `sign`.
fn token(algorithm: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let header = encode(json!({"alg": algorithm}).to_string());
    let text = format!("{header}.{}", encode(json!({"iss": "i0"}).to_string()));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", encode(signature))
}

/// What a set of one key, read from JSON, says to a token.
fn under(key: &Value, token: &str) -> String {
    let keys = KeySet::parse(&json!({"keys": [key]}).to_string()).unwrap();
    let config = filter(vec![provider("p0", "i0", KeySource::Local(keys))], of(0));
    told(ask(&config, "/x", &[("authorization", &bearer(token))])).1
}

#[test]
fn elliptic_curves() {
    let random = SystemRandom::new();
    let pair = |algorithm: &'static EcdsaSigningAlgorithm| {
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
    };
    for (algorithm, name, curve) in [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256", "P-256"),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384", "P-384"),
    ] {
        let pair = pair(algorithm);
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let key = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
        let sign = |text: &[u8]| pair.sign(&random, text).unwrap().as_ref().to_vec();
        assert_eq!(under(&key, &token(name, sign)), "");
        for other in ["ES512", "RS256", "EdDSA", "HS256"] {
            assert_eq!(
                under(&key, &token(other, sign)),
                "Jwt verification fails",
                "{other} by {name}"
            );
        }
        // The public key as a shared secret: the best known confusion.
        let public = pair.public_key().as_ref().to_vec();
        let forged = |text: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), text)
                .as_ref()
                .to_vec()
        };
        assert_eq!(under(&key, &token("HS256", forged)), "Jwt verification fails");
    }
}

#[test]
fn rsa() {
    // Made for this test; it guards nothing.
    let pair = RsaKeyPair::from_pkcs8(include_bytes!("tests/rsa.pk8")).unwrap();
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
    let key = json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)});
    let encodings: [(&str, &'static dyn RsaEncoding); 6] = [
        ("RS256", &RSA_PKCS1_SHA256),
        ("RS384", &RSA_PKCS1_SHA384),
        ("RS512", &RSA_PKCS1_SHA512),
        ("PS256", &RSA_PSS_SHA256),
        ("PS384", &RSA_PSS_SHA384),
        ("PS512", &RSA_PSS_SHA512),
    ];
    for (name, encoding) in encodings {
        let sign = |text: &[u8]| {
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), text, &mut signature)
                .unwrap();
            signature
        };
        for (other, _) in encodings {
            let expected = if other == name {
                ""
            } else {
                "Jwt verification fails"
            };
            assert_eq!(under(&key, &token(other, sign)), expected, "{other} by {name}");
        }
    }
    // The public key as a shared secret: the best known confusion of algorithms.
    let forged = |text: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public.n), text)
            .as_ref()
            .to_vec()
    };
    assert_eq!(under(&key, &token("HS256", forged)), "Jwt verification fails");
}

#[test]
fn edwards_curve_and_secrets() {
    let mut seed = [0; 32];
    rand::SecureRandom::fill(&SystemRandom::new(), &mut seed).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())});
    let sign = |text: &[u8]| pair.sign(text).as_ref().to_vec();
    assert_eq!(under(&key, &token("EdDSA", sign)), "");
    assert_eq!(under(&key, &token("ES256", sign)), "Jwt verification fails");
    assert_eq!(
        under(&key, &token("EdDSA", |_| vec![1; 63])),
        "Jwt ED25519 signature is wrong length"
    );
    let secret = json!({"kty": "oct", "k": encode(SECRET)});
    for (algorithm, name) in [
        (hmac::HMAC_SHA256, "HS256"),
        (hmac::HMAC_SHA384, "HS384"),
        (hmac::HMAC_SHA512, "HS512"),
    ] {
        let sign = |text: &[u8]| {
            hmac::sign(&hmac::Key::new(algorithm, SECRET), text)
                .as_ref()
                .to_vec()
        };
        assert_eq!(under(&secret, &token(name, sign)), "");
        let named = json!({"kty": "oct", "alg": "HS256", "k": encode(SECRET)});
        let expected = if name == "HS256" {
            ""
        } else {
            "Jwks doesn't have key to match kid or alg from Jwt"
        };
        assert_eq!(under(&named, &token(name, sign)), expected);
        assert_eq!(under(&secret, &token("RS256", sign)), "Jwt verification fails");
    }
}

proptest! {
    /// Whatever a client sends as a token, it is an answer, and a pass only with a signature.
    #[test]
    fn no_token_is_let_through_unsigned(token in r"[A-Za-z0-9_\-. =!]{0,80}", parameter in any::<bool>()) {
        let config = filter(vec![p0(), p1()], Requirement::Any(vec![of(0), of(1)]));
        let verdict = if parameter {
            ask(&config, &format!("/x?access_token={token}"), &[])
        } else {
            ask(&config, "/x", &[("authorization", &bearer(&token))])
        };
        prop_assert!(matches!(verdict, Verdict::Refused(_)));
    }

    /// Changing any byte of a good token makes it a bad one.
    #[test]
    fn a_changed_token_is_refused(at in 0_usize..300, with in "[A-Za-z0-9]") {
        let config = filter(vec![p0()], of(0));
        let mut token = good(json!({}));
        let at = at % token.len();
        // The last character of a part holds bits that are not part of it.
        let is_last = token[at..].starts_with('.') || token[at + 1..].starts_with('.') || at + 1 == token.len();
        prop_assume!(!is_last && token[at..=at] != with);
        token.replace_range(at..=at, &with);
        let verdict = ask(&config, "/x", &[("authorization", &bearer(&token))]);
        prop_assert!(matches!(verdict, Verdict::Refused(_)), "{}", token);
    }
}
