//! Every recorded push of a real Istiod, served byte for byte over ADS in both forms, is applied by the built binary
//! without a refusal, and all of it stands in the dump.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use redplane_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use redplane_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use redplane_proto::pb::google::protobuf::Any;
use redplane_testkit::{Authority, Proxy, free_port, until};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::sds::{SECRET, Sds, certificate};
use crate::stage::{PATIENCE, admin, redplane};

const MESHES: [&str; 8] = [
    "gateway",
    "http-client",
    "http-server",
    "mirror",
    "mtls",
    "none",
    "plain",
    "sharding",
];
const KINDS: [(&str, &str); 4] = [
    ("cds", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
    (
        "eds",
        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    ),
    ("lds", "type.googleapis.com/envoy.config.listener.v3.Listener"),
    (
        "rds",
        "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    ),
];

/// What the proxy said of each type: nothing against it, or why it refused.
pub(crate) type Verdicts = Arc<Mutex<BTreeMap<String, Result<(), String>>>>;

/// Serves one recorded mesh: each type once, when it is first asked for.
#[derive(Clone)]
pub(crate) struct Replay {
    mesh: &'static str,
    verdicts: Verdicts,
    /// What a gateway asks for over the same stream.
    secret: Secret,
    /// What is done to each resource before it is told.
    change: Arc<dyn Fn(&mut Any) + Send + Sync>,
}

impl Replay {
    /// As recorded.
    pub(crate) fn new(mesh: &'static str, verdicts: Verdicts) -> Self {
        Self {
            mesh,
            verdicts,
            secret: Secret::default(),
            change: Arc::new(|_| {}),
        }
    }

    /// With something changed in each resource.
    pub(crate) fn moved(self, change: impl Fn(&mut Any) + Send + Sync + 'static) -> Self {
        Self {
            change: Arc::new(change),
            ..self
        }
    }

    fn recorded(&self, form: &str, type_url: &str) -> Option<Vec<u8>> {
        let (kind, _) = KINDS.iter().find(|(_, url)| *url == type_url)?;
        fs::read(golden(self.mesh).join(format!("{form}-{kind}.pb"))).ok()
    }

    fn packed_secret(&self) -> Any {
        Any {
            type_url: SECRET.to_owned(),
            value: self.secret.encode_to_vec(),
        }
    }

    /// Notes a verdict; true for a first request, which wants an answer.
    fn hear(&self, type_url: &str, nonce: &str, refusal: Option<String>) -> bool {
        if nonce.is_empty() {
            return true;
        }
        let verdict = refusal.map_or(Ok(()), Err);
        self.verdicts
            .lock()
            .expect("nobody panicked")
            .insert(type_url.to_owned(), verdict);
        false
    }
}

fn golden(mesh: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/istio-pushes", mesh]
        .iter()
        .collect()
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers each request by `answer`, for as long as the proxy asks.
fn converse<Q: Send + 'static, A: Send + 'static>(
    mut questions: Streaming<Q>,
    answer: impl Fn(Q) -> Option<A> + Send + 'static,
) -> Response<Answers<A>> {
    let (answers, stream) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(question)) = questions.next().await {
            if let Some(answer) = answer(question)
                && answers.send(Ok(answer)).is_err()
            {
                return;
            }
        }
    });
    Response::new(Box::pin(UnboundedReceiverStream::new(stream)))
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Replay {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers<DiscoveryResponse>>, Status> {
        let replay = self.clone();
        Ok(converse(
            request.into_inner(),
            move |question: DiscoveryRequest| {
                let refusal = question.error_detail.map(|detail| detail.message);
                let wanted = replay.hear(&question.type_url, &question.response_nonce, refusal);
                if wanted && question.type_url == SECRET {
                    return Some(DiscoveryResponse {
                        version_info: "1".to_owned(),
                        nonce: "1".to_owned(),
                        type_url: question.type_url,
                        resources: vec![replay.packed_secret()],
                        ..DiscoveryResponse::default()
                    });
                }
                let bytes = wanted.then(|| replay.recorded("sotw", &question.type_url))??;
                let mut response = DiscoveryResponse::decode(bytes.as_slice()).expect("a recorded response");
                response.resources.iter_mut().for_each(|any| (replay.change)(any));
                Some(response)
            },
        ))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Answers<DeltaDiscoveryResponse>>, Status> {
        let replay = self.clone();
        Ok(converse(
            request.into_inner(),
            move |question: DeltaDiscoveryRequest| {
                let refusal = question.error_detail.map(|detail| detail.message);
                let wanted = replay.hear(&question.type_url, &question.response_nonce, refusal);
                if wanted && question.type_url == SECRET {
                    return Some(DeltaDiscoveryResponse {
                        nonce: "1".to_owned(),
                        type_url: question.type_url,
                        resources: vec![Resource {
                            name: replay.secret.name.clone(),
                            resource: Some(replay.packed_secret()),
                            ..Resource::default()
                        }],
                        ..DeltaDiscoveryResponse::default()
                    });
                }
                let bytes = wanted.then(|| replay.recorded("delta", &question.type_url))??;
                let response = DeltaDiscoveryResponse::decode(bytes.as_slice());
                let mut response = response.expect("a recorded response");
                let resources = response.resources.iter_mut();
                resources
                    .filter_map(|resource| resource.resource.as_mut())
                    .for_each(|any| (replay.change)(any));
                Some(response)
            },
        ))
    }
}

pub(crate) fn serve(replay: Replay) -> (Runtime, u16) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let service = AggregatedDiscoveryServiceServer::new(replay);
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (runtime, port)
}

pub(crate) fn bootstrap(api: &str, admin_port: u16, xds: u16, sds: &Sds) -> String {
    format!(
        "{}node: {{id: sidecar~127.0.0.1~client.redis~redis.svc.cluster.local, cluster: client}}
dynamic_resources:
  ads_config: {{api_type: {api}, set_node_on_first_message_only: true, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}}}]}}
  cds_config: {{ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3}}
  lds_config: {{ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3}}
static_resources:
  clusters:
  - name: xds-grpc
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment: {{cluster_name: xds-grpc, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {xds}}}}}}}}}]}}]}}
  - {sds}
",
        admin(admin_port),
        sds = sds.cluster()
    )
}

/// Names of what was recorded, of one kind.
pub(crate) fn names(mesh: &str, kind: &str) -> Vec<String> {
    let bytes = fs::read(golden(mesh).join(format!("delta-{kind}.pb"))).unwrap_or_default();
    let response = DeltaDiscoveryResponse::decode(bytes.as_slice()).expect("a recorded response");
    response
        .resources
        .into_iter()
        .map(|resource| resource.name)
        .collect()
}

fn applies(mesh: &'static str, api: &str) {
    let verdicts = Verdicts::default();
    let (admin_port, sds, authority) = (free_port(), Sds::start(), Authority::new());
    let identity = authority.issue("pod", &["spiffe://cluster.local/ns/redis/sa/client"]);
    sds.put_identity(&identity);
    let (_runtime, xds) = serve(Replay {
        secret: certificate("kubernetes://redis-cert", &identity.cert, &identity.key),
        ..Replay::new(mesh, verdicts.clone())
    });
    let proxy = Proxy::start(&redplane(), &bootstrap(api, admin_port, xds, &sds), admin_port);
    let kinds = 3 + usize::from(!names(mesh, "rds").is_empty());
    until("CDS, EDS, LDS and RDS are answered", PATIENCE, || {
        verdicts.lock().expect("nobody panicked").len() >= kinds
    });
    for (type_url, verdict) in verdicts.lock().expect("nobody panicked").iter() {
        assert_eq!(verdict, &Ok(()), "{mesh} {api}: {type_url} was refused");
    }
    let dump = proxy.page("/config_dump?include_eds").body;
    // Chains that are not served are named there; nothing is refused.
    for error in dump.split("\"error_state\"").skip(1) {
        let details = error.split("\"details\"").nth(1).unwrap_or_default();
        let details = details.split('"').nth(1).unwrap_or_default();
        assert!(
            details.starts_with("filter chain '") && details.contains("is not served"),
            "{mesh} {api}: refused: {details}"
        );
    }
    for (kind, section) in [
        ("cds", "\"name\": "),
        ("lds", "\"name\": "),
        ("eds", "\"cluster_name\": "),
        ("rds", "\"name\": "),
    ] {
        for name in names(mesh, kind) {
            assert!(
                dump.contains(&format!("{section}\"{name}\"")),
                "{mesh} {api}: {kind} {name} is not in the dump"
            );
        }
    }
    assert_eq!(proxy.stat("cluster_manager.cds.update_rejected").unwrap_or(0), 0);
    assert_eq!(proxy.stat("listener_manager.lds.update_rejected").unwrap_or(0), 0);
    assert_eq!(proxy.stat("server.state"), Some(0));
}

/// One after the other: they open the same ports.
#[test]
fn every_recorded_push_is_applied() {
    for mesh in MESHES {
        for api in ["DELTA_GRPC", "GRPC"] {
            applies(mesh, api);
        }
    }
}
