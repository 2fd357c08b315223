//! Where credentials come from, in the order in which Envoy asks: configured ones, environment, files, a role by web
//! identity, the container's service, the instance's service.
//!
//! Envoy: `credential_provider_chains.cc`.

mod metadata;
mod roles;

use redplane_config::cluster::{AwsCredentials, AwsSource};

use crate::credentials::Credentials;
use crate::environment::Environment;
use crate::profile;

/// A place that may have credentials.
pub struct Source {
    settings: AwsSource,
    environment: Environment,
    region: String,
}

/// There are none to be had there, and why. A source that is not set up at all says so with `NotSetUp`.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The place is not there.
    #[error("not set up")]
    NotSetUp,
    /// It should have been there.
    #[error("{0}")]
    Failed(String),
}

/// The places that a configuration names, in order.
pub fn sources(credentials: &AwsCredentials, environment: &Environment, region: &str) -> Vec<Source> {
    let source = |settings: &AwsSource| Source {
        settings: settings.clone(),
        environment: environment.clone(),
        region: region.to_owned(),
    };
    credentials.0.iter().map(source).collect()
}

impl Source {
    /// Its name, for the log.
    pub fn name(&self) -> &'static str {
        match &self.settings {
            AwsSource::Inline { .. } => "inline credential",
            AwsSource::Environment => "environment",
            AwsSource::File { .. } => "credentials file",
            AwsSource::WebIdentity { .. } => "web identity",
            AwsSource::Container => "container",
            AwsSource::Instance => "instance profile",
            AwsSource::AssumeRole { .. } => "assumed role",
        }
    }

    /// Asks for credentials.
    ///
    /// # Errors
    ///
    /// The place is not set up, or does not give any.
    pub async fn credentials(&self) -> Result<Credentials, Unavailable> {
        match &self.settings {
            AwsSource::Inline {
                access_key_id,
                secret_access_key,
                session_token,
            } => Credentials::of(
                Some(access_key_id.clone()),
                Some(secret_access_key.clone()),
                Some(session_token.clone()),
            )
            .ok_or(Unavailable::NotSetUp),
            AwsSource::Environment => self.of_environment(),
            AwsSource::File { content, profile } => self.of_file(content.as_deref(), profile),
            AwsSource::WebIdentity { .. } => roles::by_web_identity(self).await,
            AwsSource::Container => metadata::of_container(&self.environment).await,
            AwsSource::Instance => metadata::of_instance(&self.environment).await,
            // Boxed: the role's own credentials may come from a role.
            AwsSource::AssumeRole { .. } => Box::pin(roles::by_credentials(self)).await,
        }
    }

    fn of_environment(&self) -> Result<Credentials, Unavailable> {
        let get = |name| self.environment.get(name).map(str::to_owned);
        Credentials::of(
            get("AWS_ACCESS_KEY_ID"),
            get("AWS_SECRET_ACCESS_KEY"),
            get("AWS_SESSION_TOKEN"),
        )
        .ok_or(Unavailable::NotSetUp)
    }

    /// The file is read each time, so that credentials that are put there anew are found.
    fn of_file(&self, content: Option<&str>, named: &str) -> Result<Credentials, Unavailable> {
        let read = || {
            let path = self
                .environment
                .file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
            path.and_then(|path| profile::read(&path))
        };
        let text = content
            .map(str::to_owned)
            .or_else(read)
            .ok_or(Unavailable::NotSetUp)?;
        let profile = match named {
            "" => self.environment.get("AWS_PROFILE").unwrap_or("default"),
            named => named,
        };
        let get = |name| profile::setting(&text, profile, name);
        Credentials::of(
            get("aws_access_key_id"),
            get("aws_secret_access_key"),
            get("aws_session_token"),
        )
        .ok_or_else(|| Unavailable::Failed(format!("profile `{profile}` has no credentials")))
    }
}
