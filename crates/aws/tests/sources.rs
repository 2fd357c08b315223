//! Where credentials come from: files and services of the test's own, spoken to over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use redplane_aws::{Credentials, Environment, Source, Unavailable, sources};
use redplane_config::cluster::{AwsCredentials, AwsSource, AwsToken};

/// A small HTTP server: a request line with its headers and body in, status and body out.
struct Http {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Http {
    fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let (mut text, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    text += &line;
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                text += &String::from_utf8(body).unwrap();
                let (status, body) = answer(&text);
                notes.lock().unwrap().push(text);
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                reader
                    .get_mut()
                    .write_all(format!("{head}{body}").as_bytes())
                    .unwrap();
            }
        });
        Self { address, heard }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().join("\n--\n")
    }
}

const ANSWER: &str = r#"{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"s1","Token":"t1",
    "Expiration":"2026-03-01T12:34:56Z"}"#;

fn expected() -> Credentials {
    Credentials {
        access_key_id: "ASIA1".into(),
        secret_access_key: "s1".into(),
        session_token: Some("t1".into()),
        expires: Some(UNIX_EPOCH + Duration::from_secs(1_772_368_496)),
    }
}

fn one(settings: AwsSource, variables: &[(&str, &str)]) -> Source {
    let mut sources = sources(
        &AwsCredentials(vec![settings]),
        &Environment::of(variables),
        "eu-west-1",
    );
    sources.remove(0)
}

fn ask(source: &Source) -> Result<Credentials, Unavailable> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(source.credentials())
}

fn file(content: Option<&str>, profile: &str) -> AwsSource {
    AwsSource::File {
        content: content.map(str::to_owned),
        profile: profile.into(),
    }
}

#[test]
fn the_environment_has_all_or_nothing() {
    let both = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let found = ask(&one(AwsSource::Environment, &both)).unwrap();
    assert_eq!(
        (found.access_key_id.as_str(), found.session_token, found.expires),
        ("AKIA", None, None)
    );
    for variables in [&both[..1], &both[1..], &[]] {
        let nothing = ask(&one(AwsSource::Environment, variables));
        assert!(matches!(nothing, Err(Unavailable::NotSetUp)));
    }
}

#[test]
fn a_file_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap())];
    let source = one(file(None, "p"), &variables);
    assert!(matches!(ask(&source), Err(Unavailable::NotSetUp)));
    for key in ["AKIA1", "AKIA2"] {
        let text = format!("[p]\naws_access_key_id={key}\naws_secret_access_key=s\naws_session_token=t\n");
        std::fs::write(&path, text).unwrap();
        let found = ask(&source).unwrap();
        assert_eq!(
            (found.access_key_id.as_str(), found.session_token.as_deref()),
            (key, Some("t"))
        );
    }
    let configured = "[default]\naws_access_key_id = A\naws_secret_access_key = s\n";
    assert_eq!(
        ask(&one(file(Some(configured), ""), &variables))
            .unwrap()
            .access_key_id,
        "A"
    );
    let gone = ask(&one(file(Some(configured), "other"), &variables));
    assert_eq!(
        gone.unwrap_err().to_string(),
        "profile `other` has no credentials"
    );
}

#[test]
fn an_instance_hands_out_its_role() {
    let service = Http::start(|request| match request.split(' ').nth(1) {
        Some("/latest/api/token") if request.starts_with("PUT") => (200, "imds".into()),
        Some("/latest/meta-data/iam/security-credentials") => (200, "role\n".into()),
        Some("/latest/meta-data/iam/security-credentials/role") => (200, ANSWER.into()),
        _ => (404, String::new()),
    });
    let url = service.url();
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    assert_eq!(ask(&one(AwsSource::Instance, &[endpoint])).unwrap(), expected());
    let heard = service.heard();
    assert!(
        heard.contains("x-aws-ec2-metadata-token-ttl-seconds: 21600"),
        "{heard}"
    );
    assert_eq!(
        heard.matches("x-aws-ec2-metadata-token: imds").count(),
        2,
        "{heard}"
    );
    let off = ask(&one(
        AwsSource::Instance,
        &[endpoint, ("AWS_EC2_METADATA_DISABLED", "True")],
    ));
    assert!(matches!(off, Err(Unavailable::NotSetUp)));
}

#[test]
fn an_instance_service_without_tokens_is_asked_without() {
    let service = Http::start(|request| match request.split(' ').nth(1) {
        Some("/latest/meta-data/iam/security-credentials") => (200, "r".into()),
        Some("/latest/meta-data/iam/security-credentials/r") => (200, ANSWER.into()),
        _ => (405, String::new()),
    });
    let url = service.url();
    let found = ask(&one(
        AwsSource::Instance,
        &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)],
    ));
    assert_eq!(found.unwrap(), expected());
    assert!(!service.heard().contains("x-aws-ec2-metadata-token:"));
}

#[test]
fn a_container_shows_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "pod-token\n").unwrap();
    let service = Http::start(|_| (200, ANSWER.into()));
    let url = format!("{}/v1/credentials", service.url());
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.to_str().unwrap());
    assert_eq!(
        ask(&one(AwsSource::Container, &[full, token])).unwrap(),
        expected()
    );
    let heard = service.heard();
    assert!(heard.starts_with("GET /v1/credentials HTTP/1.1") && heard.contains("authorization: pod-token"));
    assert!(matches!(
        ask(&one(AwsSource::Container, &[token])),
        Err(Unavailable::NotSetUp)
    ));
}

#[test]
fn sts_trades_a_web_identity_for_a_role() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwt");
    std::fs::write(&path, "a.b/c=\n").unwrap();
    let service = Http::start(|_| {
        let credentials = r#"{"AccessKeyId":"ASIA1","SecretAccessKey":"s1","SessionToken":"t1","Expiration":1.772368496E9}"#;
        let result = format!(r#"{{"AssumeRoleWithWebIdentityResult":{{"Credentials":{credentials}}}}}"#);
        (
            200,
            format!(r#"{{"AssumeRoleWithWebIdentityResponse":{result}}}"#),
        )
    });
    let url = service.url();
    let nothing = || AwsSource::WebIdentity {
        token: None,
        role_arn: String::new(),
        role_session_name: String::new(),
    };
    let variables = [
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().unwrap()),
    ];
    assert_eq!(ask(&one(nothing(), &variables)).unwrap(), expected());
    let heard = service.heard();
    assert!(
        heard.starts_with("POST / HTTP/1.1") && heard.contains("accept: application/json"),
        "{heard}"
    );
    let body = "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=redplane\
                &Version=2011-06-15&WebIdentityToken=a.b%2Fc%3D";
    assert!(heard.ends_with(body), "{heard}");
    let configured = AwsSource::WebIdentity {
        token: Some(AwsToken {
            path: None,
            text: "own".into(),
        }),
        role_arn: "arn:own".into(),
        role_session_name: "me".into(),
    };
    assert_eq!(ask(&one(configured, &variables)).unwrap(), expected());
    assert!(
        service
            .heard()
            .contains("RoleArn=arn%3Aown&RoleSessionName=me&Version=2011-06-15&WebIdentityToken=own")
    );
    assert!(matches!(
        ask(&one(nothing(), &variables[..2])),
        Err(Unavailable::NotSetUp)
    ));
}

#[test]
fn a_role_is_assumed_with_the_credentials_of_its_own_chain() {
    let service = Http::start(|_| {
        let credentials =
            r#"{"AccessKeyId":"ASIA1","SecretAccessKey":"s1","SessionToken":"t1","Expiration":1772368496}"#;
        let result = format!(r#"{{"AssumeRoleResult":{{"Credentials":{credentials}}}}}"#);
        (200, format!(r#"{{"AssumeRoleResponse":{result}}}"#))
    });
    let url = service.url();
    let role = AwsSource::AssumeRole {
        role_arn: "arn:r".into(),
        role_session_name: String::new(),
        external_id: "x y".into(),
        session_duration: Some(Duration::from_secs(900)),
        credentials: AwsCredentials(vec![
            AwsSource::Environment,
            AwsSource::Inline {
                access_key_id: "AKIA0".into(),
                secret_access_key: "s0".into(),
                session_token: String::new(),
            },
        ]),
    };
    assert_eq!(
        ask(&one(role, &[("AWS_ENDPOINT_URL_STS", &url)])).unwrap(),
        expected()
    );
    let heard = service.heard();
    for part in [
        "GET /?Action=AssumeRole&DurationSeconds=900&ExternalId=x%20y&RoleArn=arn%3Ar&",
        "X-Amz-Credential=AKIA0%2F",
        "%2Feu-west-1%2Fsts%2Faws4_request",
    ] {
        assert!(heard.contains(part), "{heard}");
    }
    assert!(!heard.contains("s0"));
}

#[test]
fn services_that_fail_say_so_and_tell_nothing() {
    let refuses = Http::start(|_| (403, "secret reasons".into()));
    let raves = Http::start(|_| (200, "{\"AccessKeyId\": \"a\"}".into()));
    let floods = Http::start(|_| (200, "x".repeat(1 << 20)));
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for (url, reason) in [
        (refuses.url(), "127.0.0.1: status 403"),
        (raves.url(), "the answer has no credentials"),
        (floods.url(), "127.0.0.1: length limit exceeded"),
        (closed, "127.0.0.1: Connection refused"),
        ("/nowhere".to_owned(), "the URL has no host"),
    ] {
        let source = one(
            AwsSource::Container,
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)],
        );
        let failed = ask(&source).unwrap_err().to_string();
        assert!(failed.starts_with(reason), "{url}: {failed}");
    }
}
