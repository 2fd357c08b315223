//! The client: one task that keeps one xDS stream alive and joins the machine with the transport.
//!
//! Updates and connection events go out on a bounded channel; subscriptions and verdicts come in on one
//! queue, in the order they were given, so that an EDS subscription made before the verdict on CDS also
//! reaches the server before the ACK. While a verdict is out nothing more is read, which is the only
//! back-pressure there is. A lost stream is opened again after a jittered pause at the next endpoint; what
//! was accepted stays with the receiver for as long as that takes.
//!
//! [`Client::start`] uses `tokio::spawn`: call it inside a runtime (a `current_thread` one will do) with net
//! and time. The task ends when the client or all of its handles are dropped.

mod run;

pub(crate) use self::run::{now, obey, tick};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::Node;
use tokio::sync::mpsc;

use crate::backoff;
use crate::subscriptions::{Form, Names, NodePolicy};
use crate::transport::{Dial, Endpoint, Invalid, Keepalive, Service, Target, TcpKeepalive, Tls};
use crate::update::{Update, Verdict};

/// How many events may wait for the receiver.
const EVENTS: usize = 16;

/// Everything a stream needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sent as it is; see [`wire_node`](crate::node::wire_node).
    pub node: Node,
    /// `api_type`.
    pub form: Form,
    /// ADS, or SDS on a socket of its own.
    pub service: Service,
    /// Endpoints of the xDS cluster; tried in turn from a random one on.
    pub endpoints: Vec<Endpoint>,
    /// HTTP/2 `:authority`; Envoy sends the name of the cluster.
    pub authority: String,
    /// TLS, if the cluster has it.
    pub tls: Option<Tls>,
    /// `set_node_on_first_message_only`.
    pub node_policy: NodePolicy,
    /// `initial_metadata` of the gRPC service.
    pub initial_metadata: Vec<(String, String)>,
    /// `connect_timeout` of the cluster, TLS and HTTP/2 included.
    pub connect_timeout: Duration,
    /// `connection_keepalive` of the cluster.
    pub keepalive: Option<Keepalive>,
    /// `tcp_keepalive` of the cluster.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `retry_back_off.base_interval`.
    pub backoff_base: Duration,
    /// `retry_back_off.max_interval`.
    pub backoff_cap: Duration,
    /// Seed of all randomness.
    pub seed: u64,
}

impl Config {
    /// Envoy's defaults around what has none.
    pub fn new(node: Node, form: Form, endpoints: Vec<Endpoint>) -> Self {
        Self {
            node,
            form,
            service: Service::Aggregated,
            endpoints,
            authority: "xds-grpc".to_owned(),
            tls: None,
            node_policy: NodePolicy::FirstMessage,
            initial_metadata: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            keepalive: None,
            tcp_keepalive: None,
            backoff_base: backoff::BASE,
            backoff_cap: backoff::CAP,
            seed: 0,
        }
    }
}

/// What happens on the stream, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stream is up and the subscriptions are on their way.
    Connected {
        /// Where to.
        endpoint: String,
    },
    /// A stream ended, or none came up.
    Disconnected {
        /// gRPC code and message, or why there was no connection.
        reason: String,
        /// Whether there had been a stream.
        established: bool,
        /// Pause until the next attempt.
        retry_in: Duration,
    },
    /// Something to apply; a verdict with its ticket must follow.
    Update(Update),
    /// A file could not be read or understood; what it said before stays.
    Unreadable {
        /// Path and cause.
        reason: String,
    },
}

/// Running totals of a client, readable from any thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Whether a stream is up (`control_plane.connected_state`).
    pub connected: AtomicBool,
    /// Streams that came up.
    pub connects: AtomicU64,
    /// Attempts that did not (`update_failure` counts these and the next).
    pub connect_failures: AtomicU64,
    /// Streams that ended.
    pub disconnects: AtomicU64,
    /// Requests sent, answers included.
    pub requests: AtomicU64,
    /// Responses received.
    pub responses: AtomicU64,
    /// Responses about types that were not asked for.
    pub ignored: AtomicU64,
    /// Fields in files that their messages do not have.
    pub ignored_fields: AtomicU64,
    /// Positive answers.
    pub acks: AtomicU64,
    /// Negative answers.
    pub nacks: AtomicU64,
}

/// An order to the task.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe(String, Names),
    Unsubscribe(String, Vec<String>),
    Hold(String),
    Release(String),
    Verdict(Verdict),
}

/// Gives orders to a client or a file source. Never blocks; orders to a task that has ended are dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    counters: Arc<Counters>,
}

impl Handle {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, orders) = mpsc::unbounded_channel();
        (
            Self {
                commands,
                counters: Arc::default(),
            },
            orders,
        )
    }

    /// Subscribes to resources of a type, in addition to what is subscribed.
    pub fn subscribe(&self, type_url: &str, names: Names) {
        self.order(Command::Subscribe(type_url.to_owned(), names));
    }

    /// Takes names back. Their resources are forgotten without an update.
    pub fn unsubscribe(&self, type_url: &str, names: Vec<String>) {
        self.order(Command::Unsubscribe(type_url.to_owned(), names));
    }

    /// Withholds requests about a type, such as LDS until the clusters are warm. Give this order before
    /// subscribing.
    pub fn hold(&self, type_url: &str) {
        self.order(Command::Hold(type_url.to_owned()));
    }

    /// Ends [`hold`](Self::hold).
    pub fn release(&self, type_url: &str) {
        self.order(Command::Release(type_url.to_owned()));
    }

    /// Answers an update.
    pub fn verdict(&self, verdict: Verdict) {
        self.order(Command::Verdict(verdict));
    }

    /// Running totals.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn order(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("the xDS task has ended; an order to it was dropped");
        }
    }
}

/// Looks whether a client could be started.
///
/// # Errors
///
/// As [`Client::start`].
pub fn check(config: &Config) -> Result<(), Invalid> {
    target(config).map(drop)
}

fn target(config: &Config) -> Result<Target, Invalid> {
    if config.endpoints.is_empty() {
        return Err(Invalid::NoEndpoint);
    }
    let dial = Dial {
        authority: &config.authority,
        tls: config.tls.as_ref(),
        metadata: &config.initial_metadata,
        keepalive: config.tcp_keepalive,
    };
    let mut target = Target::new(config.node.clone(), config.form, config.service, &dial)?;
    target.keepalive = config.keepalive;
    target.connect_timeout = config.connect_timeout;
    Ok(target)
}

/// A running client.
#[derive(Debug)]
pub struct Client {
    handle: Handle,
    events: mpsc::Receiver<Event>,
}

impl Client {
    /// Checks the configuration and starts the task. Nothing is asked for until something is subscribed.
    pub fn start(config: Config) -> Result<Self, Invalid> {
        let target = target(&config)?;
        let (handle, commands) = Handle::new();
        let (sender, events) = mpsc::channel(EVENTS);
        let counters = Arc::clone(&handle.counters);
        tokio::spawn(run::Task::new(&config, target, commands, sender, counters).run());
        Ok(Self { handle, events })
    }

    /// A handle for orders; any number may exist.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next event; `None` when the task has ended. May be cancelled.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}
