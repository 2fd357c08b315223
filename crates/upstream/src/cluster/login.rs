//! What a connection to a host says first: nothing, AUTH with what is configured, or AUTH with an IAM token.
//!
//! Tokens are made on the control thread, each one before the last one expires, and read when a connection is opened.
//! A connection that is open stays so whatever becomes of its token. Envoy makes a token for each connection and sends
//! none on the connections of discovery; here they get the same as all others.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use redplane_aws::{Credentials, Environment, Source, Unavailable};
use redplane_config::Invalid;
use redplane_config::cluster::{AwsIam, Cluster as Config};
use tokio::sync::watch;

use super::Cluster;
use crate::host::HostAddress;

/// Credentials are asked for anew this long before they expire. Envoy: the same.
const GRACE: Duration = Duration::from_secs(5 * 60);
/// How long to wait after a failure, at first and at most.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What a connection to a host says first.
pub enum Login<'a> {
    /// Nothing.
    None,
    /// AUTH with a password, and with a user unless it is empty.
    Password(&'a str, Cow<'a, [u8]>),
    /// It cannot be said: there is no valid token.
    Unavailable,
}

/// A token and when it ceases to be valid.
pub(crate) struct Token {
    text: String,
    until: Instant,
}

/// The tokens of one cluster.
pub(crate) struct Tokens(watch::Sender<Option<Arc<Token>>>);

impl Tokens {
    /// Starts to make tokens, where the cluster is configured for them. Those of a predecessor with the same settings
    /// are good until the first own one is made.
    pub(super) fn start(cluster: &Cluster, previous: Option<&Cluster>) -> Result<Option<Self>, Invalid> {
        let auth = &cluster.config.redis_auth;
        let Some(iam) = &auth.aws_iam else {
            return Ok(None);
        };
        let environment = Environment::of_process();
        let region = region(iam, &environment)?;
        let predecessor = previous.filter(|previous| previous.config.redis_auth == *auth);
        let former = predecessor.and_then(|previous| previous.tokens.get()?.0.borrow().clone());
        let sender = watch::Sender::new(former);
        let maker = Maker {
            cluster: cluster.config.name.clone(),
            sources: redplane_aws::sources(&iam.credentials, &environment, &region),
            iam: Arc::clone(iam),
            region,
            user: auth.username.clone(),
            credentials: None,
            sender: sender.clone(),
        };
        cluster.adopt(cluster.context.runtime.spawn(maker.run()).abort_handle());
        Ok(Some(Self(sender)))
    }

    fn current(&self) -> Option<Arc<Token>> {
        let token = self.0.borrow().clone();
        token.filter(|token| token.until > Instant::now())
    }
}

fn region(iam: &AwsIam, environment: &Environment) -> Result<String, Invalid> {
    let region = iam.region.clone().or_else(|| redplane_aws::region(environment));
    region.ok_or_else(|| {
        let path = "typed_extension_protocol_options[envoy.filters.network.redis_proxy].aws_iam.region";
        let reason = "is neither configured nor in the environment or a profile";
        Invalid::new(path, reason)
    })
}

/// Whether tokens could be made, where a cluster is configured for them.
pub(super) fn check(config: &Config) -> Result<(), Invalid> {
    match &config.redis_auth.aws_iam {
        Some(iam) => region(iam, &Environment::of_process()).map(drop),
        None => Ok(()),
    }
}

impl Cluster {
    /// What a connection to a host says first.
    pub fn login(&self, address: &HostAddress) -> Login<'_> {
        let auth = &self.config.redis_auth;
        if let Some(tokens) = self.tokens.get() {
            return match tokens.current() {
                Some(token) => Login::Password(&auth.username, Cow::Owned(token.text.clone().into_bytes())),
                None => Login::Unavailable,
            };
        }
        let own = auth.hosts.iter().find(|(host, ..)| address.ip() == Some(*host));
        let (user, password) = own.map_or((&auth.username, &auth.password), |(_, user, password)| {
            (user, password)
        });
        match password.is_empty() {
            true => Login::None,
            false => Login::Password(user, Cow::Borrowed(password)),
        }
    }

    /// Whether its servers decide on logins that clients bring: it has no password of its own, and is not kept from it.
    pub fn takes_logins(&self) -> bool {
        let auth = &self.config.redis_auth;
        self.config.client_logins
            && auth.aws_iam.is_none()
            && auth.password.is_empty()
            && auth.hosts.is_empty()
    }

    /// Whether a connection could say what it has to: where tokens are needed, there is one.
    pub fn can_log_in(&self) -> bool {
        self.tokens.get().is_none_or(|tokens| tokens.current().is_some())
    }

    /// Waits until there is a token, if the cluster needs one.
    pub(crate) async fn token_made(&self) {
        if let Some(tokens) = self.tokens.get() {
            let valid =
                |token: &Option<Arc<Token>>| token.as_ref().is_some_and(|token| token.until > Instant::now());
            // An error means that the sender is gone, which lives in `self`.
            let _ = tokens.0.subscribe().wait_for(valid).await;
        }
    }

    /// Waits until there is a token, if the cluster needs one, but not for long.
    pub async fn login_ready(&self) {
        // Whether it came in time, the login will tell.
        let _ = tokio::time::timeout(self.config.connect_timeout, self.token_made()).await;
    }
}

/// The task that makes a cluster's tokens.
struct Maker {
    cluster: String,
    sources: Vec<Source>,
    iam: Arc<AwsIam>,
    region: String,
    user: String,
    credentials: Option<Credentials>,
    sender: watch::Sender<Option<Arc<Token>>>,
}

impl Maker {
    async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let wait = match self.make().await {
                Ok(token) => {
                    self.sender.send_replace(Some(Arc::new(token)));
                    backoff = FIRST_BACKOFF;
                    self.iam.expiration_time / 2
                }
                Err(reasons) => {
                    let cluster = &self.cluster;
                    tracing::warn!(target: "upstream", cluster, reasons, "no AWS credentials for the cluster's token");
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    backoff
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn make(&mut self) -> Result<Token, String> {
        let now = SystemTime::now();
        let is_fresh = |own: &Credentials| own.expires.is_some_and(|end| end > now + GRACE);
        if !self.credentials.as_ref().is_some_and(is_fresh) {
            match self.ask().await {
                Ok(found) => self.credentials = Some(found),
                // What is there may still be good for a while.
                Err(reasons) => {
                    let is_valid = |own: &Credentials| own.expires.is_some_and(|end| end > now);
                    if !self.credentials.as_ref().is_some_and(is_valid) {
                        self.credentials = None;
                        return Err(reasons);
                    }
                }
            }
        }
        let credentials = self.credentials.as_ref().ok_or("none")?;
        Ok(Token {
            text: redplane_aws::token(&self.iam, &self.region, &self.user, credentials, now),
            until: Instant::now() + self.iam.expiration_time,
        })
    }

    /// Those of the first source that has any; else what each of them said.
    async fn ask(&self) -> Result<Credentials, String> {
        let mut reasons = Vec::new();
        for source in &self.sources {
            match source.credentials().await {
                Ok(found) => return Ok(found),
                Err(Unavailable::NotSetUp) => {}
                Err(Unavailable::Failed(reason)) => reasons.push(format!("{}: {reason}", source.name())),
            }
        }
        Err(match reasons.is_empty() {
            true => "no source is set up".to_owned(),
            false => reasons.join("; "),
        })
    }
}
