//! Roles that STS hands out: for a token of an identity provider (EKS service accounts), or for credentials.

use std::time::SystemTime;

use redplane_config::cluster::AwsSource;
use serde_json::Value;

use super::{Source, Unavailable, sources};
use crate::credentials::Credentials;
use crate::http::{Ask, ask};
use crate::sign::{Presign, encode, presign};

/// STS answers in XML unless it is asked for this.
const JSON: (&str, &str) = ("accept", "application/json");
const VERSION: &str = "2011-06-15";
/// How long a presigned question to STS is valid.
const VALID: std::time::Duration = std::time::Duration::from_secs(60);

/// `AssumeRoleWithWebIdentity`; what is not configured is in the environment, as EKS puts it there.
pub(super) async fn by_web_identity(source: &Source) -> Result<Credentials, Unavailable> {
    let AwsSource::WebIdentity {
        token,
        role_arn,
        role_session_name,
    } = &source.settings
    else {
        return Err(Unavailable::NotSetUp);
    };
    let environment = &source.environment;
    let or = |configured: &str, name: &str| match configured {
        "" => environment.get(name).map(str::to_owned),
        configured => Some(configured.to_owned()),
    };
    let role = or(role_arn, "AWS_ROLE_ARN").ok_or(Unavailable::NotSetUp)?;
    let session = or(role_session_name, "AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "redplane".to_owned());
    // Kubernetes replaces the file before the token in it expires: it is read each time.
    let read = |path: &str| {
        let unreadable = |error: std::io::Error| Unavailable::Failed(format!("{path}: {error}"));
        std::fs::read_to_string(path).map_err(unreadable)
    };
    let token = match (token, environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")) {
        (Some(configured), _) => match &configured.path {
            Some(path) => read(path)?,
            None => configured.text.clone(),
        },
        (None, Some(path)) => read(path)?,
        (None, None) => return Err(Unavailable::NotSetUp),
    };
    let body = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", role.as_str()),
        ("RoleSessionName", session.as_str()),
        ("Version", VERSION),
        ("WebIdentityToken", token.trim()),
    ];
    let body: Vec<String> = body
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let answer = ask(Ask {
        method: "POST",
        url: &format!("{}/", endpoint(source)),
        headers: &[JSON, ("content-type", "application/x-www-form-urlencoded")],
        body: body.join("&"),
    })
    .await;
    parse(&answer.map_err(Unavailable::Failed)?, "AssumeRoleWithWebIdentity")
}

/// `AssumeRole`, signed with the credentials that the role's own chain gives.
pub(super) async fn by_credentials(source: &Source) -> Result<Credentials, Unavailable> {
    let AwsSource::AssumeRole {
        role_arn,
        role_session_name,
        external_id,
        session_duration,
        credentials,
    } = &source.settings
    else {
        return Err(Unavailable::NotSetUp);
    };
    let own = first(&sources(credentials, &source.environment, &source.region)).await?;
    let lasts = session_duration.map(|lasts| lasts.as_secs().to_string());
    let session = match role_session_name.as_str() {
        "" => "redplane",
        name => name,
    };
    let mut query = vec![
        ("Action", "AssumeRole"),
        ("RoleArn", role_arn),
        ("RoleSessionName", session),
        ("Version", VERSION),
    ];
    if !external_id.is_empty() {
        query.push(("ExternalId", external_id));
    }
    if let Some(lasts) = &lasts {
        query.push(("DurationSeconds", lasts));
    }
    let endpoint = endpoint(source);
    let host = endpoint
        .split_once("://")
        .map_or(endpoint.as_str(), |(_, host)| host);
    let query = presign(
        &own,
        &Presign {
            host,
            path: "/",
            query: &query,
            region: &source.region,
            service: "sts",
            time: SystemTime::now(),
            expires: VALID,
        },
    );
    let answer = ask(Ask::get(&format!("{endpoint}/?{query}"), &[JSON])).await;
    parse(&answer.map_err(Unavailable::Failed)?, "AssumeRole")
}

/// Those of the first source that has any.
async fn first(sources: &[Source]) -> Result<Credentials, Unavailable> {
    for source in sources {
        match source.credentials().await {
            Err(Unavailable::NotSetUp) => {}
            found => return found,
        }
    }
    Err(Unavailable::NotSetUp)
}

/// The region's STS, or the one that the environment names.
fn endpoint(source: &Source) -> String {
    let named = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
    if let Some(url) = named.iter().find_map(|name| source.environment.get(name)) {
        return url.trim_end_matches('/').to_owned();
    }
    let domain = match source.region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    };
    format!("https://sts.{}.{domain}", source.region)
}

fn parse(answer: &str, action: &str) -> Result<Credentials, Unavailable> {
    let object = serde_json::from_str::<Value>(answer).ok();
    let found = object.as_ref().and_then(|object| {
        let result = object
            .get(format!("{action}Response"))?
            .get(format!("{action}Result"))?;
        Credentials::from_json(result.get("Credentials")?)
    });
    found.ok_or_else(|| Unavailable::Failed("STS's answer has no credentials".to_owned()))
}
