//! Asks a service whether a client may log in: `envoy.service.redis_auth.v3.RedisProxyExternalAuth`, over gRPC.
//!
//! Each worker has one [`Service`], with one HTTP/2 connection for each cluster it asks; many questions share it. The
//! host is chosen by the cluster's own balance whenever the connection has to be made anew. What an answer means for a
//! client is the engine's business; user names and passwords are never logged.
//!
//! Envoy: `source/extensions/filters/network/redis_proxy/external_auth.cc`.

mod channel;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redplane_config::redis_proxy::ExternalAuth;
use redplane_proto::pb::envoy::service::redis_auth::v3::redis_proxy_external_auth_client::RedisProxyExternalAuthClient;
use redplane_proto::pb::envoy::service::redis_auth::v3::{
    RedisProxyExternalAuthRequest, RedisProxyExternalAuthResponse,
};
use redplane_proto::pb::google::protobuf::Timestamp;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::Cluster;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// What the service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client may log in, until this time of the wall clock.
    Granted {
        /// Since the Unix epoch; zero where the service names no time, as Envoy reads it.
        until: Duration,
    },
    /// It may not. The text is for the client and may be empty.
    Denied(String),
    /// There is no answer, for this reason.
    Failed(String),
}

/// The services that one worker asks. Stays on its thread.
#[derive(Default)]
pub struct Service {
    channels: RefCell<HashMap<String, (Weak<Cluster>, Channel)>>,
}

impl Service {
    /// Asks about one login, within the provider's time-out. To be called inside a tokio runtime.
    pub async fn ask(
        &self,
        provider: &ExternalAuth,
        cluster: Option<Arc<Cluster>>,
        user: String,
        password: String,
    ) -> Answer {
        let Some(cluster) = cluster else {
            return Answer::Failed(format!("cluster '{}' is not known", provider.cluster));
        };
        let stats = cluster.stats().block();
        stats.inc(names::UPSTREAM_RQ_TOTAL);
        stats.inc(names::UPSTREAM_RQ_ACTIVE);
        // Also when the question is taken back, because the client has gone.
        let _active = Active(&stats);
        let mut client = RedisProxyExternalAuthClient::new(self.channel(provider, &cluster));
        let request = request(provider, user, password);
        match tokio::time::timeout(provider.timeout, client.authenticate(request)).await {
            Ok(Ok(response)) => {
                stats.inc(names::UPSTREAM_RQ_COMPLETED);
                answer(response.into_inner())
            }
            Ok(Err(status)) => Answer::Failed(reason(&status)),
            Err(_) => {
                stats.inc(names::UPSTREAM_RQ_TIMEOUT);
                // A service that does not answer may be gone unnoticed: the next call makes a new connection.
                self.channels.borrow_mut().remove(&place(provider, &cluster));
                Answer::Failed(format!("no answer within {:?}", provider.timeout))
            }
        }
    }

    /// The connection to a cluster; a new one after a push that changed it.
    fn channel(&self, provider: &ExternalAuth, cluster: &Arc<Cluster>) -> Channel {
        let mut channels = self.channels.borrow_mut();
        channels.retain(|_, (of, _)| of.strong_count() > 0);
        let name = place(provider, cluster);
        match channels.get(&name) {
            Some((of, channel)) if std::ptr::eq(of.as_ptr(), Arc::as_ptr(cluster)) => channel.clone(),
            _ => {
                let channel = channel::to(cluster, &provider.authority);
                channels.insert(name, (Arc::downgrade(cluster), channel.clone()));
                channel
            }
        }
    }
}

/// What questions share a connection by.
fn place(provider: &ExternalAuth, cluster: &Cluster) -> String {
    format!("{}\n{}", cluster.name(), provider.authority)
}

/// A question under way, counted.
struct Active<'a>(&'a redplane_telemetry::Block);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec(names::UPSTREAM_RQ_ACTIVE);
    }
}

fn request(
    provider: &ExternalAuth,
    username: String,
    password: String,
) -> tonic::Request<RedisProxyExternalAuthRequest> {
    let mut request = tonic::Request::new(RedisProxyExternalAuthRequest { username, password });
    for (key, value) in &provider.metadata {
        // Both were checked when the configuration was read.
        if let (Ok(key), Ok(mut value)) = (
            key.parse::<AsciiMetadataKey>(),
            value.parse::<AsciiMetadataValue>(),
        ) {
            value.set_sensitive(true);
            request.metadata_mut().append(key, value);
        }
    }
    request
}

/// Envoy: two codes mean that the service refuses; any other but OK, that it could not decide.
fn answer(response: RedisProxyExternalAuthResponse) -> Answer {
    match Code::from_i32(response.status.map_or(0, |status| status.code)) {
        Code::Ok => Answer::Granted {
            until: since_epoch(response.expiration.unwrap_or_default()),
        },
        Code::PermissionDenied | Code::Unauthenticated => Answer::Denied(response.message),
        code => Answer::Failed(format!("{}, {}", i32::from(code), response.message)),
    }
}

fn since_epoch(time: Timestamp) -> Duration {
    match (u64::try_from(time.seconds), u32::try_from(time.nanos)) {
        (Ok(seconds), Ok(nanos)) => {
            Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()))
        }
        _ => Duration::ZERO,
    }
}

/// How long it is until a time of the wall clock; zero when it has passed.
pub fn left_until(time: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time.saturating_sub(now)
}

/// gRPC code and message, with the causes that tonic's own text leaves out.
fn reason(status: &Status) -> String {
    let mut line = format!("{}, {}", i32::from(status.code()), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use redplane_proto::pb::google::rpc;

    use super::*;

    fn response(code: i32, seconds: i64, nanos: i32) -> RedisProxyExternalAuthResponse {
        RedisProxyExternalAuthResponse {
            status: Some(rpc::Status {
                code,
                ..rpc::Status::default()
            }),
            expiration: Some(Timestamp { seconds, nanos }),
            message: "m".into(),
        }
    }

    #[test]
    fn two_codes_refuse_and_others_fail() {
        let granted = |until| Answer::Granted { until };
        assert_eq!(answer(response(0, 2, 5)), granted(Duration::new(2, 5)));
        for (seconds, nanos) in [(-1, 0), (i64::MIN, 5), (1, -1)] {
            assert_eq!(answer(response(0, seconds, nanos)), granted(Duration::ZERO));
        }
        assert_eq!(
            answer(RedisProxyExternalAuthResponse::default()),
            granted(Duration::ZERO)
        );
        for code in [7, 16] {
            assert_eq!(answer(response(code, 0, 0)), Answer::Denied("m".into()));
        }
        for code in [1, 2, 14, 99, -1] {
            assert!(
                matches!(answer(response(code, 0, 0)), Answer::Failed(_)),
                "{code}"
            );
        }
    }

    #[test]
    fn time_that_has_passed_leaves_nothing() {
        assert_eq!(left_until(Duration::from_secs(1)), Duration::ZERO);
        assert!(left_until(Duration::MAX) > Duration::from_secs(1 << 40));
    }
}
