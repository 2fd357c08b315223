//! The gRPC server: binds, publishes, stops. Everything that a stream does is in `stream`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redplane_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use redplane_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server as Transport;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

use super::address::Address;
use super::delta::Delta;
use super::event::{Event, Events};
use super::published::Published;
use super::sotw::Sotw;
use super::stream::{Protocol, Stream, Wires};
use crate::world::World;

/// Events that a slow reader may fall behind before it misses the oldest.
const EVENTS: usize = 4096;
/// Responses that wait for a slow client before its stream waits.
const RESPONSES: usize = 8;
/// As Istiod's and its agent's.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A running server. Dropping it ends all streams and frees the address soon after; [`Server::stop`] waits for it.
#[derive(Debug)]
pub struct Server {
    address: Address,
    published: watch::Sender<Arc<Published>>,
    events: broadcast::Sender<Event>,
    /// Makes versions differ between runs, as Istiod's do.
    started: u64,
    pushes: AtomicU64,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Listens on `address` and serves `world`. Must be called inside a tokio runtime.
    pub async fn bind(address: &Address, world: World) -> io::Result<Self> {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let first = Arc::new(Published::new(world, version(started, 1), None));
        let (published, receiver) = watch::channel(first);
        let events = broadcast::Sender::new(EVENTS);
        let router = router(Wires {
            published: receiver,
            events: events.clone(),
        });
        let (stop, stopped) = oneshot::channel();
        let (address, task) = serve(address, router, stopped).await?;
        Ok(Self {
            address,
            published,
            events,
            started,
            pushes: AtomicU64::new(1),
            stop,
            task,
        })
    }

    /// Where the server listens, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Pushes what has changed to every stream and returns the version that its responses carry.
    pub fn publish(&self, world: World) -> String {
        let version = version(self.started, self.pushes.fetch_add(1, Ordering::Relaxed) + 1);
        self.published.send_modify(|current| {
            *current = Arc::new(Published::new(world, version.clone(), Some(current)));
        });
        version
    }

    /// The version that is published now.
    pub fn version(&self) -> String {
        self.published.borrow().version.clone()
    }

    /// The events from now on.
    pub fn events(&self) -> Events {
        Events(self.events.subscribe())
    }

    /// Ends all streams, and returns when the address is free again.
    pub async fn stop(self) {
        let Self {
            address,
            published,
            stop,
            task,
            ..
        } = self;
        drop((published, stop));
        // The server's own end; an error says that it has ended already.
        let _ = task.await;
        if let Address::Unix(path) = address {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn version(started: u64, push: u64) -> String {
    format!("{started}/{push}")
}

fn router(wires: Wires) -> Router {
    let service = AggregatedDiscoveryServiceServer::new(Ads { wires });
    Transport::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(service)
}

async fn serve(
    address: &Address,
    router: Router,
    stopped: oneshot::Receiver<()>,
) -> io::Result<(Address, JoinHandle<Result<(), tonic::transport::Error>>)> {
    // A dropped sender stops the server as well as a signal does.
    let stopped = async move {
        let _ = stopped.await;
    };
    match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            let bound = Address::Tcp(listener.local_addr()?);
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            Ok((
                bound,
                tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped)),
            ))
        }
        Address::Unix(path) => {
            remove_dead_socket(path).await?;
            let incoming = UnixListenerStream::new(UnixListener::bind(path)?);
            Ok((
                address.clone(),
                tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped)),
            ))
        }
    }
}

/// A socket file without a listening process is what a killed server leaves behind.
async fn remove_dead_socket(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// The service itself: a task per stream.
struct Ads {
    wires: Wires,
}

type Outbound<T> = ReceiverStream<Result<T, Status>>;

impl Ads {
    fn start<P: Protocol>(&self, requests: Streaming<P::Request>) -> Response<Outbound<P::Response>> {
        let (sender, receiver) = mpsc::channel(RESPONSES);
        tokio::spawn(Stream::<P>::new(self.wires.clone(), sender).run(requests));
        Response::new(ReceiverStream::new(receiver))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Outbound<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Outbound<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(self.start::<Sotw>(request.into_inner()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(self.start::<Delta>(request.into_inner()))
    }
}
