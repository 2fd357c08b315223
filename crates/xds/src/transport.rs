//! The gRPC stream to the control plane, over TCP, TLS or a Unix socket.
//!
//! The only file that names tonic. It opens one connection with one stream on it and gives both up together;
//! it never reconnects by itself and knows nothing of subscriptions. A server may keep its response headers
//! back until it has something to say, so requests go out before the call is answered.

mod dial;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::envoy::service::discovery::v3 as discovery;
use redplane_proto::pb::envoy::service::secret::v3 as secret;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Uri};
use tonic::{Status, Streaming};

use self::dial::Dialer;
pub use self::dial::{Endpoint, TcpKeepalive, Tls};
use crate::subscriptions::{Form, Request, Response};
use crate::wire;

/// Envoy's default flow-control windows, in bytes: a push of tens of megabytes must not wait for window
/// updates.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;

/// HTTP/2 pings. Istiod's side answers pings closer than 15 s with GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Time between two pings.
    pub interval: Duration,
    /// How long an answer may take before the connection is given up.
    pub timeout: Duration,
}

/// The gRPC service that is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// `AggregatedDiscoveryService`.
    #[default]
    Aggregated,
    /// `SecretDiscoveryService`, which pilot-agent serves in state-of-the-world only.
    Secret,
}

/// A client configuration that cannot work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// There is nowhere to connect to.
    #[error("endpoints: the xDS cluster has no endpoint")]
    NoEndpoint,
    /// The TLS server name is neither a DNS name nor an IP address.
    #[error("sni: {0:?} is not a server name")]
    ServerName(String),
    /// Metadata that HTTP/2 cannot carry.
    #[error("initial_metadata: {0:?} is not a valid header")]
    Metadata(String),
}

/// What is the same for every attempt.
pub(crate) struct Target {
    pub(crate) node: Node,
    pub(crate) form: Form,
    pub(crate) service: Service,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) connect_timeout: Duration,
    authority: Uri,
    dialer: Dialer,
    metadata: MetadataMap,
}

/// The parts of a [`Target`] that are checked first.
pub(crate) struct Dial<'a> {
    pub(crate) authority: &'a str,
    pub(crate) tls: Option<&'a Tls>,
    pub(crate) metadata: &'a [(String, String)],
    pub(crate) keepalive: Option<TcpKeepalive>,
}

impl Target {
    pub(crate) fn new(node: Node, form: Form, service: Service, dial: &Dial<'_>) -> Result<Self, Invalid> {
        // A cluster name such as `outbound|15012||istiod` is no authority; the server does not care.
        let authority = format!("http://{}", dial.authority)
            .parse()
            .unwrap_or_else(|_| Uri::from_static("http://xds"));
        Ok(Self {
            node,
            form,
            service,
            keepalive: None,
            connect_timeout: Duration::from_secs(5),
            authority,
            dialer: Dialer::new(dial.tls, dial.keepalive)?,
            metadata: metadata(dial.metadata)?,
        })
    }

    /// Connects and starts the stream. Errors are one line for people.
    pub(crate) async fn open(&self, endpoint: &Endpoint) -> Result<(Outgoing, Stream), String> {
        let channel = tokio::time::timeout(self.connect_timeout, self.channel(endpoint))
            .await
            .map_err(|_| format!("connect timeout after {:?}", self.connect_timeout))??;
        Ok(Stream::start(self, channel))
    }

    async fn channel(&self, endpoint: &Endpoint) -> Result<Channel, String> {
        let io = self
            .dialer
            .dial(endpoint)
            .await
            .map_err(|error| error.to_string())?;
        let mut builder = Channel::builder(self.authority.clone())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if let Some(keepalive) = self.keepalive {
            builder = builder
                .http2_keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(true);
        }
        // The connection is used once: a channel that would reconnect by itself gets nothing.
        let once = Arc::new(Mutex::new(Some(TokioIo::new(io))));
        let connect = tower::service_fn(move |_: Uri| {
            let io = once.lock().ok().and_then(|mut io| io.take());
            async move { io.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        builder
            .connect_with_connector(connect)
            .await
            .map_err(|error| chain(&error))
    }
}

fn metadata(pairs: &[(String, String)]) -> Result<MetadataMap, Invalid> {
    let mut map = MetadataMap::new();
    for (key, value) in pairs {
        let invalid = || Invalid::Metadata(key.clone());
        let name: AsciiMetadataKey = key.to_ascii_lowercase().parse().map_err(|_| invalid())?;
        let value: AsciiMetadataValue = value.parse().map_err(|_| invalid())?;
        map.append(name, value);
    }
    Ok(map)
}

/// gRPC code and message as Envoy logs them, with the causes that the message leaves out.
fn reason(status: &Status) -> String {
    let line = format!("{}, {}", i32::from(status.code()), status.message());
    causes(line, std::error::Error::source(status))
}

/// An error with its causes; tonic's own text is just "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    causes(error.to_string(), error.source())
}

fn causes(mut line: String, mut source: Option<&dyn std::error::Error>) -> String {
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line
}

/// The receiving half of one stream, on a connection of its own.
pub(crate) struct Stream {
    incoming: Incoming,
    /// Keeps the connection for as long as the stream.
    _channel: Channel,
}

/// The sending half.
pub(crate) struct Outgoing {
    node: Node,
    queue: Queue,
}

enum Queue {
    Delta(UnboundedSender<discovery::DeltaDiscoveryRequest>),
    Sotw(UnboundedSender<discovery::DiscoveryRequest>),
}

enum Incoming {
    Delta(Answers<discovery::DeltaDiscoveryResponse>),
    Sotw(Answers<discovery::DiscoveryResponse>),
}

type Call<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<Streaming<T>>, Status>> + Send>>;

enum Answers<T> {
    Opening(Call<T>),
    Open(Box<Streaming<T>>),
}

impl<T> Answers<T> {
    async fn next(&mut self) -> Result<Option<T>, Status> {
        loop {
            match self {
                Self::Opening(call) => *self = Self::Open(Box::new(call.as_mut().await?.into_inner())),
                Self::Open(stream) => return stream.message().await,
            }
        }
    }
}

impl Outgoing {
    /// Queues a request. When the stream has ended already, its other half says so.
    pub(crate) fn send(&self, request: Request) {
        let gone = match &self.queue {
            Queue::Delta(queue) => queue.send(wire::delta_request(request, &self.node)).is_err(),
            Queue::Sotw(queue) => queue.send(wire::sotw_request(request, &self.node)).is_err(),
        };
        if gone {
            tracing::debug!("a request was dropped because the stream has ended");
        }
    }
}

impl Stream {
    fn start(target: &Target, channel: Channel) -> (Outgoing, Self) {
        let (queue, incoming) = match target.form {
            Form::Delta => {
                let (queue, receiver) = unbounded_channel();
                let call = delta_call(target, channel.clone(), receiver);
                (Queue::Delta(queue), Incoming::Delta(Answers::Opening(call)))
            }
            Form::Sotw => {
                let (queue, receiver) = unbounded_channel();
                let call = sotw_call(target, channel.clone(), receiver);
                (Queue::Sotw(queue), Incoming::Sotw(Answers::Opening(call)))
            }
        };
        let outgoing = Outgoing {
            node: target.node.clone(),
            queue,
        };
        (
            outgoing,
            Self {
                incoming,
                _channel: channel,
            },
        )
    }

    /// The next response, or why there is none: gRPC code and message, in Envoy's form. May be cancelled.
    pub(crate) async fn next(&mut self) -> Result<Response, String> {
        let response = match &mut self.incoming {
            Incoming::Delta(answers) => answers
                .next()
                .await
                .map(|message| message.map(wire::delta_response)),
            Incoming::Sotw(answers) => answers
                .next()
                .await
                .map(|message| message.map(wire::sotw_response)),
        };
        match response {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err("0, the server ended the stream".to_owned()),
            Err(status) => Err(reason(&status)),
        }
    }
}

fn request<T>(target: &Target, receiver: UnboundedReceiver<T>) -> tonic::Request<UnboundedReceiverStream<T>> {
    let mut request = tonic::Request::new(UnboundedReceiverStream::new(receiver));
    *request.metadata_mut() = target.metadata.clone();
    request
}

fn delta_call(
    target: &Target,
    channel: Channel,
    receiver: UnboundedReceiver<discovery::DeltaDiscoveryRequest>,
) -> Call<discovery::DeltaDiscoveryResponse> {
    let request = request(target, receiver);
    match target.service {
        Service::Aggregated => {
            let mut client = ads(channel);
            Box::pin(async move { client.delta_aggregated_resources(request).await })
        }
        Service::Secret => {
            let mut client = sds(channel);
            Box::pin(async move { client.delta_secrets(request).await })
        }
    }
}

fn sotw_call(
    target: &Target,
    channel: Channel,
    receiver: UnboundedReceiver<discovery::DiscoveryRequest>,
) -> Call<discovery::DiscoveryResponse> {
    let request = request(target, receiver);
    match target.service {
        Service::Aggregated => {
            let mut client = ads(channel);
            Box::pin(async move { client.stream_aggregated_resources(request).await })
        }
        Service::Secret => {
            let mut client = sds(channel);
            Box::pin(async move { client.stream_secrets(request).await })
        }
    }
}

/// gRPC's own limit of 4 MiB is far below a push of a large mesh; pilot-agent sets none either.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

fn ads(
    channel: Channel,
) -> discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient<Channel> {
    discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
}

fn sds(channel: Channel) -> secret::secret_discovery_service_client::SecretDiscoveryServiceClient<Channel> {
    secret::secret_discovery_service_client::SecretDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
}
