//! `aws_iam` of `RedisProtocolOptions`: tokens that ElastiCache and MemoryDB take as passwords, and where the
//! credentials come from that sign them.
//!
//! The chain is Envoy's: without a provider all sources in its order; with one, the same with that provider's settings,
//! or, with `custom_credential_provider_chain`, only the sources that are named.

use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::DataSource;
use redplane_proto::pb::envoy::config::core::v3::data_source::Specifier;
use redplane_proto::pb::envoy::extensions::common::aws::v3::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, AwsCredentialProvider,
    CredentialsFileCredentialProvider,
};
use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::AwsIam as Proto;

use crate::field::{duration, non_empty};
use crate::{Ignored, Invalid, data_source};

/// Longest life of a token: AWS takes none that lasts longer.
const MAX_EXPIRATION: Duration = Duration::from_secs(900);
/// Providers within providers: a role that is assumed with a role's credentials, and so on.
const MAX_DEPTH: usize = 4;

/// `AwsIam`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsIam {
    /// The cache or cluster that the token is for.
    pub cache_name: String,
    /// `elasticache`, the default, or `memorydb`.
    pub service_name: String,
    /// `None`: the environment or the profile says it.
    pub region: Option<String>,
    /// How long a token is valid: 1 s to 900 s, default 60 s.
    pub expiration_time: Duration,
    /// Where credentials come from.
    pub credentials: AwsCredentials,
}

/// The sources of a chain, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsCredentials(pub Vec<AwsSource>);

/// One source of a chain. Contents may be secret: `Debug` prints names only.
#[derive(Clone, PartialEq, Eq)]
pub enum AwsSource {
    /// `inline_credential`.
    Inline {
        /// The key's name.
        access_key_id: String,
        /// The key.
        secret_access_key: String,
        /// Of temporary credentials; may be empty.
        session_token: String,
    },
    /// `AWS_ACCESS_KEY_ID` and its kin.
    Environment,
    /// A file of profiles.
    File {
        /// What was configured; `None` reads the file that the environment names, each time.
        content: Option<String>,
        /// Empty: the environment's, or `default`.
        profile: String,
    },
    /// A role for a caller that shows a token. What is empty is in the environment.
    WebIdentity {
        /// `web_identity_token_data_source`.
        token: Option<AwsToken>,
        /// The role.
        role_arn: String,
        /// The session's name.
        role_session_name: String,
    },
    /// The container's metadata service (ECS, EKS Pod Identity).
    Container,
    /// The instance's metadata service (EC2).
    Instance,
    /// A role that is assumed with credentials of its own chain.
    AssumeRole {
        /// The role.
        role_arn: String,
        /// The session's name; may be empty.
        role_session_name: String,
        /// May be empty.
        external_id: String,
        /// How long the role is held.
        session_duration: Option<Duration>,
        /// What the role is assumed with.
        credentials: AwsCredentials,
    },
}

/// A web identity token: a file is read when the token is needed, because its content is replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsToken {
    /// The file it is in.
    pub path: Option<String>,
    /// The token itself, where it is in no file.
    pub text: String,
}

impl std::fmt::Debug for AwsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inline { .. } => "Inline([redacted])",
            Self::Environment => "Environment",
            Self::File { .. } => "File([redacted])",
            Self::WebIdentity { .. } => "WebIdentity([redacted])",
            Self::Container => "Container",
            Self::Instance => "Instance",
            Self::AssumeRole { .. } => "AssumeRole([redacted])",
        })
    }
}

impl AwsIam {
    /// Reads the message.
    pub(super) fn from_proto(message: &Proto, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let expiration_time = match message.expiration_time.as_ref() {
            Some(expiration) => duration(expiration, "expiration_time")?,
            None => Duration::from_secs(60),
        };
        if expiration_time > MAX_EXPIRATION {
            let reason = "value must be inside range [0s, 900s]";
            return Err(Invalid::new("expiration_time", reason));
        }
        let service_name = match message.service_name.as_str() {
            "" => "elasticache".to_owned(),
            name => name.to_owned(),
        };
        let credentials = match message.credential_provider.as_ref() {
            Some(provider) => ignored.scope("credential_provider", |ignored| chain(provider, ignored, 0))?,
            None => whole_chain(&AwsCredentialProvider::default(), ignored)?,
        };
        Ok(Self {
            cache_name: non_empty(&message.cache_name, "cache_name")?,
            service_name,
            region: (!message.region.is_empty()).then(|| message.region.clone()),
            expiration_time: expiration_time.max(Duration::from_secs(1)),
            credentials,
        })
    }
}

fn chain(
    message: &AwsCredentialProvider,
    ignored: &mut Ignored,
    depth: usize,
) -> Result<AwsCredentials, Invalid> {
    if message.iam_roles_anywhere_credential_provider.is_some() {
        let reason = "IAM Roles Anywhere is not supported";
        return Err(Invalid::new("iam_roles_anywhere_credential_provider", reason));
    }
    if message.config_credential_provider.is_some() {
        ignored.note("config_credential_provider");
    }
    // Envoy: inline credentials stand alone.
    if let Some(inline) = message.inline_credential.as_ref() {
        return Ok(AwsCredentials(vec![AwsSource::Inline {
            access_key_id: non_empty(&inline.access_key_id, "inline_credential.access_key_id")?,
            secret_access_key: non_empty(&inline.secret_access_key, "inline_credential.secret_access_key")?,
            session_token: inline.session_token.clone(),
        }]));
    }
    if let Some(role) = message.assume_role_credential_provider.as_ref() {
        let role = ignored.scope("assume_role_credential_provider", |ignored| {
            assume_role(role, ignored, depth)
        })?;
        return Ok(AwsCredentials(vec![role]));
    }
    if !message.custom_credential_provider_chain {
        return whole_chain(message, ignored);
    }
    let AwsCredentials(mut sources) = whole_chain(message, ignored)?;
    sources.retain(|source| match source {
        AwsSource::Environment => message.environment_credential_provider.is_some(),
        AwsSource::File { .. } => message.credentials_file_provider.is_some(),
        AwsSource::WebIdentity { .. } => message.assume_role_with_web_identity_provider.is_some(),
        AwsSource::Container => message.container_credential_provider.is_some(),
        AwsSource::Instance => message.instance_profile_credential_provider.is_some(),
        AwsSource::Inline { .. } | AwsSource::AssumeRole { .. } => true,
    });
    if sources.is_empty() {
        let reason = "a custom chain needs at least one provider";
        return Err(Invalid::new("custom_credential_provider_chain", reason));
    }
    Ok(AwsCredentials(sources))
}

/// All sources, with the settings of those that are configured.
fn whole_chain(message: &AwsCredentialProvider, ignored: &mut Ignored) -> Result<AwsCredentials, Invalid> {
    let empty = CredentialsFileCredentialProvider::default();
    let file = message.credentials_file_provider.as_ref().unwrap_or(&empty);
    let nobody = AssumeRoleWithWebIdentityCredentialProvider::default();
    let role = message
        .assume_role_with_web_identity_provider
        .as_ref()
        .unwrap_or(&nobody);
    Ok(AwsCredentials(vec![
        AwsSource::Environment,
        ignored.scope("credentials_file_provider", |ignored| {
            credentials_file(file, ignored)
        })?,
        ignored.scope("assume_role_with_web_identity_provider", |ignored| {
            web_identity(role, ignored)
        })?,
        AwsSource::Container,
        AwsSource::Instance,
    ]))
}

fn credentials_file(
    message: &CredentialsFileCredentialProvider,
    ignored: &mut Ignored,
) -> Result<AwsSource, Invalid> {
    let content = match message.credentials_data_source.as_ref() {
        Some(source) => Some(ignored.scope("credentials_data_source", |ignored| {
            data_source::read_text(source, ignored)
        })?),
        None => None,
    };
    Ok(AwsSource::File {
        content,
        profile: message.profile.clone(),
    })
}

fn web_identity(
    message: &AssumeRoleWithWebIdentityCredentialProvider,
    ignored: &mut Ignored,
) -> Result<AwsSource, Invalid> {
    let token = match message.web_identity_token_data_source.as_ref() {
        Some(DataSource {
            specifier: Some(Specifier::Filename(path)),
            ..
        }) => Some(AwsToken {
            path: Some(non_empty(path, "web_identity_token_data_source.filename")?),
            text: String::new(),
        }),
        Some(source) => {
            let read = ignored.scope("web_identity_token_data_source", |ignored| {
                data_source::read_text(source, ignored)
            });
            Some(AwsToken {
                path: None,
                text: read?,
            })
        }
        None => None,
    };
    Ok(AwsSource::WebIdentity {
        token,
        role_arn: message.role_arn.clone(),
        role_session_name: message.role_session_name.clone(),
    })
}

fn assume_role(
    message: &AssumeRoleCredentialProvider,
    ignored: &mut Ignored,
    depth: usize,
) -> Result<AwsSource, Invalid> {
    if depth >= MAX_DEPTH {
        return Err(Invalid::new(
            "",
            format!("roles are nested deeper than {MAX_DEPTH}"),
        ));
    }
    let credentials = match message.credential_provider.as_ref() {
        Some(provider) => ignored.scope("credential_provider", |ignored| {
            chain(provider, ignored, depth + 1)
        })?,
        None => whole_chain(&AwsCredentialProvider::default(), ignored)?,
    };
    let session_duration = message.session_duration.as_ref();
    Ok(AwsSource::AssumeRole {
        role_arn: non_empty(&message.role_arn, "role_arn")?,
        role_session_name: message.role_session_name.clone(),
        external_id: message.external_id.clone(),
        session_duration: session_duration
            .map(|lasts| duration(lasts, "session_duration"))
            .transpose()?,
        credentials,
    })
}
