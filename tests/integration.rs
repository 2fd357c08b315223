//! The parts together, over time and under load: the built binary, real Redis servers, the local control plane.
//!
//! A module per behaviour. Conditions are awaited, never slept for.

#[path = "integration/access.rs"]
mod access;
#[path = "integration/aws_iam.rs"]
mod aws_iam;
#[path = "integration/blocking.rs"]
mod blocking;
#[path = "integration/chains.rs"]
mod chains;
#[path = "integration/clients.rs"]
mod clients;
#[path = "integration/external_auth.rs"]
mod external_auth;
#[path = "integration/failover.rs"]
mod failover;
#[path = "integration/fleets.rs"]
mod fleets;
#[path = "integration/front.rs"]
mod front;
#[path = "integration/iterate.rs"]
mod iterate;
#[path = "integration/learn.rs"]
mod learn;
#[path = "integration/limits.rs"]
mod limits;
#[path = "integration/load.rs"]
mod load;
#[path = "integration/logins.rs"]
mod logins;
#[path = "integration/mirror.rs"]
mod mirror;
#[path = "integration/protocol.rs"]
mod protocol;
#[path = "integration/pubsub.rs"]
mod pubsub;
#[path = "integration/push.rs"]
mod push;
#[path = "integration/rds.rs"]
mod rds;
#[path = "integration/read_policy.rs"]
mod read_policy;
#[path = "integration/recorded.rs"]
mod recorded;
#[path = "integration/redirect.rs"]
mod redirect;
#[path = "integration/reshard.rs"]
mod reshard;
#[path = "integration/restricted.rs"]
mod restricted;
#[path = "integration/scripts.rs"]
mod scripts;
#[path = "integration/sds.rs"]
mod sds;
#[path = "integration/secrets.rs"]
mod secrets;
#[path = "integration/secure.rs"]
mod secure;
#[path = "integration/select.rs"]
mod select;
#[path = "integration/sentinel.rs"]
mod sentinel;
#[path = "integration/stage.rs"]
mod stage;
#[path = "integration/start_up.rs"]
mod start_up;
#[path = "integration/tcp_proxy.rs"]
mod tcp_proxy;
#[path = "integration/tracking.rs"]
mod tracking;
