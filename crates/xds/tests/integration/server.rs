//! A scripted ADS server: each stream becomes a `Peer` that the test talks through, in either form.
//!
//! Like grpc-go it keeps its response headers back until it has heard the first request.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use redplane_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use redplane_proto::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use redplane_proto::pb::google::protobuf::Any;
use redplane_proto::pb::google::rpc::Status as Detail;
use redplane_xds::{Endpoint, wire};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream, UnixListenerStream};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// A request of either form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    pub(crate) type_url: String,
    pub(crate) node: Option<Node>,
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) names: Vec<String>,
    pub(crate) unsubscribe: Vec<String>,
    pub(crate) initial: BTreeMap<String, String>,
    pub(crate) error: Option<(i32, String)>,
}

/// One stream, seen from the server.
pub(crate) struct Peer {
    pub(crate) metadata: MetadataMap,
    first: Option<Heard>,
    wire: Wire,
}

enum Wire {
    Delta(Streaming<DeltaDiscoveryRequest>, Answers<DeltaDiscoveryResponse>),
    Sotw(Streaming<DiscoveryRequest>, Answers<DiscoveryResponse>),
}

type Answers<T> = mpsc::UnboundedSender<Result<T, Status>>;

impl Peer {
    /// The next request; `None` when the client has ended the stream.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match &mut self.wire {
            Wire::Delta(requests, _) => requests.message().await.ok().flatten().map(delta),
            Wire::Sotw(requests, _) => requests.message().await.ok().flatten().map(sotw),
        }
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        soon("a request", self.next()).await.expect("the stream is open")
    }

    /// Sends a recorded response, byte for byte.
    pub(crate) fn replay(&self, bytes: &[u8]) {
        use prost::Message as _;
        match &self.wire {
            Wire::Delta(_, answers) => answers
                .send(Ok(DeltaDiscoveryResponse::decode(bytes).unwrap()))
                .unwrap(),
            Wire::Sotw(_, answers) => answers
                .send(Ok(DiscoveryResponse::decode(bytes).unwrap()))
                .unwrap(),
        }
    }

    /// Sends a response; the nonce is the version.
    pub(crate) fn push(&self, type_url: &str, version: &str, bodies: Vec<Any>, removed: &[&str]) {
        match &self.wire {
            Wire::Delta(_, answers) => {
                let resources = bodies.into_iter().map(|body| Resource {
                    name: wire::name_of(&body).unwrap(),
                    resource: Some(body),
                    ..Default::default()
                });
                let response = DeltaDiscoveryResponse {
                    system_version_info: version.to_owned(),
                    resources: resources.collect(),
                    type_url: type_url.to_owned(),
                    removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
                    nonce: version.to_owned(),
                    ..Default::default()
                };
                answers.send(Ok(response)).unwrap();
            }
            Wire::Sotw(_, answers) => {
                let response = DiscoveryResponse {
                    version_info: version.to_owned(),
                    resources: bodies,
                    type_url: type_url.to_owned(),
                    nonce: version.to_owned(),
                    ..Default::default()
                };
                answers.send(Ok(response)).unwrap();
            }
        }
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(self, status: Status) {
        match self.wire {
            Wire::Delta(_, answers) => answers.send(Err(status)).unwrap(),
            Wire::Sotw(_, answers) => answers.send(Err(status)).unwrap(),
        }
    }
}

fn error(detail: Option<Detail>) -> Option<(i32, String)> {
    detail.map(|detail| (detail.code, detail.message))
}

fn delta(request: DeltaDiscoveryRequest) -> Heard {
    Heard {
        type_url: request.type_url,
        node: request.node,
        nonce: request.response_nonce,
        names: request.resource_names_subscribe,
        unsubscribe: request.resource_names_unsubscribe,
        initial: request.initial_resource_versions.into_iter().collect(),
        error: error(request.error_detail),
        ..Default::default()
    }
}

fn sotw(request: DiscoveryRequest) -> Heard {
    Heard {
        type_url: request.type_url,
        node: request.node,
        nonce: request.response_nonce,
        version: request.version_info,
        names: request.resource_names,
        error: error(request.error_detail),
        ..Default::default()
    }
}

struct Service {
    peers: mpsc::UnboundedSender<Peer>,
}

impl Service {
    fn introduce(&self, peer: Peer) -> Result<(), Status> {
        self.peers
            .send(peer)
            .map_err(|_| Status::unavailable("the test is over"))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = UnboundedReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let first = requests.message().await?.map(sotw);
        let (answers, stream) = mpsc::unbounded_channel();
        let wire = Wire::Sotw(requests, answers);
        self.introduce(Peer {
            metadata,
            first,
            wire,
        })?;
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let first = requests.message().await?.map(delta);
        let (answers, stream) = mpsc::unbounded_channel();
        let wire = Wire::Delta(requests, answers);
        self.introduce(Peer {
            metadata,
            first,
            wire,
        })?;
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

/// As pilot-agent's secret socket: state of the world only.
#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = UnboundedReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaSecretsStream = UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        self.stream_aggregated_resources(request).await
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("not implemented"))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("not implemented"))
    }
}

/// A listening server.
pub(crate) struct Server {
    peers: mpsc::UnboundedReceiver<Peer>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn tcp() -> (Self, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (Self::on_tcp(listener), Endpoint::Tcp("127.0.0.1".into(), port))
    }

    pub(crate) fn on_tcp(listener: TcpListener) -> Self {
        let (service, peers) = service();
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = TcpListenerStream::new(listener);
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async { drop(stopped.await) });
        let task = tokio::spawn(async { serve.await.unwrap() });
        Self { peers, stop, task }
    }

    pub(crate) fn unix(path: &Path) -> (Self, Endpoint) {
        let server = Self::on_unix(UnixListener::bind(path).unwrap());
        (server, Endpoint::Unix(path.to_owned()))
    }

    pub(crate) fn on_unix(listener: UnixListener) -> Self {
        let (service, peers) = service();
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = UnixListenerStream::new(listener);
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async { drop(stopped.await) });
        let task = tokio::spawn(async { serve.await.unwrap() });
        Self { peers, stop, task }
    }

    /// The secret service on a Unix socket.
    pub(crate) fn secrets(path: &Path) -> (Self, Endpoint) {
        let (peers, receiver) = mpsc::unbounded_channel();
        let service = SecretDiscoveryServiceServer::new(Service { peers });
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async { drop(stopped.await) });
        let task = tokio::spawn(async { serve.await.unwrap() });
        let server = Self {
            peers: receiver,
            stop,
            task,
        };
        (server, Endpoint::Unix(path.to_owned()))
    }

    /// The next stream.
    pub(crate) async fn accept(&mut self) -> Peer {
        soon("a stream", self.peers.recv())
            .await
            .expect("the server runs")
    }

    /// Whether a stream came up that nobody has accepted yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Says GOAWAY on every connection, then waits for the open streams to end.
    pub(crate) fn go_away(self) -> JoinHandle<()> {
        let _ = self.stop.send(());
        self.task
    }
}

fn service() -> (
    AggregatedDiscoveryServiceServer<Service>,
    mpsc::UnboundedReceiver<Peer>,
) {
    let (peers, receiver) = mpsc::unbounded_channel();
    let service = AggregatedDiscoveryServiceServer::new(Service { peers })
        .max_encoding_message_size(usize::MAX)
        .max_decoding_message_size(usize::MAX);
    (service, receiver)
}
