//! A gRPC client of its own against the server: what a stream sees at start, on a push, and after a reconnect.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::{BTreeSet, HashMap};

use redplane_control::{Event, Form, Options, Server, World, type_url};
use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use redplane_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use redplane_proto::pb::google::rpc::Status as RpcStatus;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const REDIS: &str = "outbound|6379||redis.db.svc.cluster.local";
const OTHER: &str = "outbound|6379||other.db.svc.cluster.local";

/// A service per entry: name, last part of its IP, endpoint port.
fn world(services: &[(&str, u8, u16)]) -> World {
    let service = |(name, ip, port): &(&str, u8, u16)| {
        format!(
            "---\nkind: Service\nmetadata: {{name: {name}, namespace: db}}\nspec: {{clusterIP: 127.0.10.{ip}, ports: [{{name: tcp, port: 6379}}]}}\n\
             ---\nkind: Endpoints\nmetadata: {{name: {name}, namespace: db}}\nsubsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: tcp, port: {port}}}]}}]\n"
        )
    };
    let text: String = services.iter().map(service).collect();
    World::from_text(&text, &Options::default()).unwrap()
}

async fn server(world: World) -> Server {
    Server::bind(&"127.0.0.1:0".parse().unwrap(), world)
        .await
        .unwrap()
}

async fn ads(server: &Server) -> AggregatedDiscoveryServiceClient<Channel> {
    AggregatedDiscoveryServiceClient::connect(format!("http://{}", server.address()))
        .await
        .unwrap()
}

fn node() -> Option<Node> {
    Some(Node {
        id: "tester".to_owned(),
        ..Default::default()
    })
}

struct Delta {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    /// Opens a stream with its first request: everything of one type, of which `held` is known.
    async fn open(server: &Server, type_url: &str, held: HashMap<String, String>) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        let first = DeltaDiscoveryRequest {
            node: node(),
            type_url: type_url.to_owned(),
            initial_resource_versions: held,
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let responses = ads(server)
            .await
            .delta_aggregated_resources(ReceiverStream::new(receiver))
            .await;
        Self {
            requests,
            responses: responses.unwrap().into_inner(),
        }
    }

    async fn subscribe(&self, type_url: &str, names: &[&str]) {
        let resource_names_subscribe = names.iter().map(|&name| name.to_owned()).collect();
        let type_url = type_url.to_owned();
        let request = DeltaDiscoveryRequest {
            type_url,
            resource_names_subscribe,
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|text| RpcStatus {
                code: 13,
                message: text.to_owned(),
                details: Vec::new(),
            }),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        self.responses.message().await.unwrap().unwrap()
    }
}

fn names(response: &DeltaDiscoveryResponse) -> BTreeSet<&str> {
    response
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}

fn versions(response: &DeltaDiscoveryResponse) -> HashMap<String, String> {
    response
        .resources
        .iter()
        .map(|r| (r.name.clone(), r.version.clone()))
        .collect()
}

#[tokio::test]
async fn delta_pushes_only_what_has_changed() {
    let server = server(world(&[("redis", 1, 7001)])).await;
    let mut events = server.events();
    let mut stream = Delta::open(&server, type_url::CLUSTER, HashMap::new()).await;
    let clusters = stream.next().await;
    assert_eq!(
        names(&clusters),
        [REDIS, "BlackHoleCluster", "PassthroughCluster"].into()
    );
    stream.answer(&clusters, None).await;
    let connected = Event::Connected {
        node: "tester".to_owned(),
        form: Form::Delta,
    };
    assert_eq!(events.next().await.unwrap(), connected);
    assert_eq!(
        events.answer(type_url::CLUSTER, &server.version()).await,
        Some(Ok(()))
    );

    stream.subscribe(type_url::ENDPOINT, &[REDIS, "nobody"]).await;
    let endpoints = stream.next().await;
    assert_eq!(names(&endpoints), [REDIS].into());
    assert_eq!(endpoints.removed_resources, ["nobody"]);

    // New endpoints and a new service: of endpoints only the subscribed ones are told.
    let version = server.publish(world(&[("redis", 1, 7002), ("other", 2, 7003)]));
    let clusters = stream.next().await;
    assert_eq!(
        (clusters.system_version_info.as_str(), names(&clusters)),
        (version.as_str(), [OTHER].into())
    );
    let endpoints = stream.next().await;
    assert_eq!(
        (endpoints.type_url.as_str(), names(&endpoints)),
        (type_url::ENDPOINT, [REDIS].into())
    );

    server.publish(world(&[("other", 2, 7003)]));
    let clusters = stream.next().await;
    assert_eq!(
        (names(&clusters), clusters.removed_resources.as_slice()),
        (BTreeSet::new(), &[REDIS.to_owned()][..])
    );
    assert_eq!(stream.next().await.removed_resources, [REDIS]);
}

#[tokio::test]
async fn a_nack_is_told_and_nothing_is_sent_again_until_the_resource_changes() {
    let server = server(world(&[("redis", 1, 7001)])).await;
    let mut events = server.events();
    let mut stream = Delta::open(&server, type_url::LISTENER, HashMap::new()).await;
    let listeners = stream.next().await;
    stream.answer(&listeners, Some("127.0.10.1_6379: no")).await;
    let refused = events.answer(type_url::LISTENER, &server.version()).await;
    assert_eq!(refused, Some(Err("127.0.10.1_6379: no".to_owned())));
    server.publish(world(&[("redis", 1, 7009)]));
    server.publish(world(&[("redis", 1, 7009), ("other", 2, 1)]));
    assert_eq!(names(&stream.next().await), ["127.0.10.2_6379"].into());
}

#[tokio::test]
async fn a_reconnect_with_versions_gets_the_difference() {
    let (first, second) = (
        world(&[("redis", 1, 1), ("other", 2, 2)]),
        world(&[("redis", 1, 1), ("third", 3, 3)]),
    );
    let server = server(first.clone()).await;
    let address = server.address().clone();
    let mut stream = Delta::open(&server, type_url::LISTENER, HashMap::new()).await;
    let mut held = versions(&stream.next().await);
    assert_eq!(held.len(), 2);
    server.stop().await;
    assert!(
        stream.responses.message().await.is_ok_and(|end| end.is_none()),
        "a stop ends the stream cleanly"
    );

    // The same address, the same world: nothing is new, and the stream is answered all the same.
    let server = Server::bind(&address, first).await.unwrap();
    let mut stream = Delta::open(&server, type_url::LISTENER, held.clone()).await;
    let response = stream.next().await;
    assert!(
        response.resources.is_empty() && response.removed_resources.is_empty(),
        "{response:?}"
    );

    held.insert("gone-listener".to_owned(), String::new());
    server.publish(second);
    let mut stream = Delta::open(&server, type_url::LISTENER, held).await;
    let response = stream.next().await;
    assert_eq!(names(&response), ["127.0.10.3_6379"].into());
    assert_eq!(
        response.removed_resources.iter().collect::<BTreeSet<_>>().len(),
        2
    );
    assert!(response.removed_resources.contains(&"gone-listener".to_owned()));
}

#[tokio::test]
async fn endpoints_follow_their_cluster_so_that_it_can_warm() {
    let server = server(world(&[("redis", 1, 7001)])).await;
    let mut stream = Delta::open(&server, type_url::ENDPOINT, HashMap::new()).await;
    stream.next().await;
    let patched = "---\nkind: EnvoyFilter\nmetadata: {name: f, namespace: istio-system}\nspec: {configPatches: [{applyTo: CLUSTER, match: {cluster: {portNumber: 6379}}, patch: {operation: MERGE, value: {connect_timeout: 1s}}}]}\n";
    let text = format!(
        "kind: Service\nmetadata: {{name: redis, namespace: db}}\nspec: {{clusterIP: 127.0.10.1, ports: [{{name: tcp, port: 6379}}]}}\n\
         ---\nkind: Endpoints\nmetadata: {{name: redis, namespace: db}}\nsubsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: tcp, port: 7001}}]}}]\n{patched}"
    );
    server.publish(World::from_text(&text, &Options::default()).unwrap());
    assert_eq!(names(&stream.next().await), [REDIS].into());
}

struct Sotw {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Sotw {
    async fn open(server: &Server, type_url: &str, names: &[&str]) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(Self::request(type_url, names, None)).await.unwrap();
        let responses = ads(server)
            .await
            .stream_aggregated_resources(ReceiverStream::new(receiver))
            .await;
        Self {
            requests,
            responses: responses.unwrap().into_inner(),
        }
    }

    fn request(type_url: &str, names: &[&str], response: Option<&DiscoveryResponse>) -> DiscoveryRequest {
        DiscoveryRequest {
            node: node(),
            type_url: type_url.to_owned(),
            resource_names: names.iter().map(|&name| name.to_owned()).collect(),
            version_info: response.map(|r| r.version_info.clone()).unwrap_or_default(),
            response_nonce: response.map(|r| r.nonce.clone()).unwrap_or_default(),
            ..Default::default()
        }
    }

    async fn next(&mut self) -> DiscoveryResponse {
        self.responses.message().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn the_state_of_the_world_is_sent_whole_and_only_when_it_changes() {
    let server = server(world(&[("redis", 1, 7001), ("other", 2, 7002)])).await;
    let mut events = server.events();
    let mut stream = Sotw::open(&server, type_url::ENDPOINT, &[REDIS]).await;
    let first = stream.next().await;
    assert_eq!(first.resources.len(), 1);
    stream
        .requests
        .send(Sotw::request(type_url::ENDPOINT, &[REDIS], Some(&first)))
        .await
        .unwrap();
    assert_eq!(
        events.answer(type_url::ENDPOINT, &first.version_info).await,
        Some(Ok(()))
    );

    // One more name under the same nonce: both are sent. The late request after it is dropped.
    stream
        .requests
        .send(Sotw::request(type_url::ENDPOINT, &[REDIS, OTHER], Some(&first)))
        .await
        .unwrap();
    let both = stream.next().await;
    assert_eq!(both.resources.len(), 2);
    stream
        .requests
        .send(Sotw::request(type_url::ENDPOINT, &[], Some(&first)))
        .await
        .unwrap();
    stream
        .requests
        .send(Sotw::request(type_url::ENDPOINT, &[REDIS, OTHER], Some(&both)))
        .await
        .unwrap();

    // Nothing watched has changed in the first push.
    server.publish(world(&[
        ("redis", 1, 7001),
        ("other", 2, 7002),
        ("third", 3, 7003),
    ]));
    let version = server.publish(world(&[("redis", 1, 7001), ("other", 2, 7009)]));
    let pushed = stream.next().await;
    assert_eq!(
        (pushed.version_info.as_str(), pushed.resources.len()),
        (version.as_str(), 2)
    );
}

#[tokio::test]
async fn types_without_resources_are_answered_empty() {
    let server = server(world(&[])).await;
    let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let mut stream = Sotw::open(&server, secret, &["default"]).await;
    assert!(stream.next().await.resources.is_empty());
    let routes = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    let mut stream = Delta::open(&server, type_url::LISTENER, HashMap::new()).await;
    assert!(stream.next().await.resources.is_empty());
    stream.subscribe(routes, &["80"]).await;
    assert_eq!(stream.next().await.removed_resources, ["80"]);
}

#[tokio::test]
async fn a_stream_without_a_node_is_refused() {
    let server = server(world(&[])).await;
    let (requests, receiver) = mpsc::channel(1);
    requests.send(DiscoveryRequest::default()).await.unwrap();
    let mut client = ads(&server).await;
    let mut responses = client
        .stream_aggregated_resources(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        responses.message().await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_unix_socket_is_taken_over_from_a_killed_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ads");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:{}", path.display()).parse().unwrap();
    let server = Server::bind(&address, World::default()).await.unwrap();
    assert_eq!(server.address(), &address);
    assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
    assert!(
        Server::bind(&address, World::default()).await.is_err(),
        "a living one is not"
    );
    server.stop().await;
    assert!(!path.exists());
}
