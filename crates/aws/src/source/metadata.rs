//! Credentials that the platform hands out: to a container (ECS, EKS Pod Identity) and to an instance (EC2, IMDSv2).

use serde_json::Value;

use super::Unavailable;
use crate::credentials::Credentials;
use crate::environment::Environment;
use crate::http::{Ask, ask};

/// Where ECS's agent listens.
const ECS: &str = "http://169.254.170.2";
/// Where EC2's metadata service listens.
const EC2: &str = "http://169.254.169.254";
/// How long an IMDSv2 token is to last, in seconds.
const TOKEN_LASTS: &str = "21600";

/// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, or `_FULL_URI` with a token to show.
pub(super) async fn of_container(environment: &Environment) -> Result<Credentials, Unavailable> {
    let relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let url = match relative {
        Some(path) => format!("{ECS}{path}"),
        None => environment
            .get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
            .ok_or(Unavailable::NotSetUp)?
            .to_owned(),
    };
    // EKS replaces the file before the token in it expires: it is read each time.
    let file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let token = match file.and_then(|path| std::fs::read_to_string(path).ok()) {
        Some(token) => token.trim().to_owned(),
        None => environment
            .get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
            .unwrap_or_default()
            .to_owned(),
    };
    let header = [("authorization", token.as_str())];
    let headers = if token.is_empty() { &[][..] } else { &header[..] };
    parse(&ask(Ask::get(&url, headers)).await.map_err(Unavailable::Failed)?)
}

/// The role of the instance. A service that knows no tokens is asked without one, as Envoy does.
pub(super) async fn of_instance(environment: &Environment) -> Result<Credentials, Unavailable> {
    let disabled = environment.get("AWS_EC2_METADATA_DISABLED");
    if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(Unavailable::NotSetUp);
    }
    let service = environment
        .get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        .unwrap_or(EC2);
    let service = service.trim_end_matches('/');
    let token = ask(Ask {
        method: "PUT",
        url: &format!("{service}/latest/api/token"),
        headers: &[("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LASTS)],
        body: String::new(),
    })
    .await;
    let token = token.unwrap_or_default();
    let header = [("x-aws-ec2-metadata-token", token.as_str())];
    let headers = if token.is_empty() { &[][..] } else { &header[..] };
    let roles = format!("{service}/latest/meta-data/iam/security-credentials");
    let names = ask(Ask::get(&roles, headers))
        .await
        .map_err(Unavailable::Failed)?;
    let role = names
        .lines()
        .next()
        .map(str::trim)
        .filter(|role| !role.is_empty());
    let role = role.ok_or_else(|| Unavailable::Failed("the instance has no role".to_owned()))?;
    parse(
        &ask(Ask::get(&format!("{roles}/{role}"), headers))
            .await
            .map_err(Unavailable::Failed)?,
    )
}

fn parse(answer: &str) -> Result<Credentials, Unavailable> {
    let object = serde_json::from_str::<Value>(answer).ok();
    object
        .as_ref()
        .and_then(Credentials::from_json)
        .ok_or_else(|| Unavailable::Failed("the answer has no credentials".to_owned()))
}
