//! A secret server as pilot-agent is one: a Unix socket, a stream for each name, state of the world, rotation on the same
//! stream, and a name that it does not know ends the stream.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use prost::Message as _;
use redplane_proto::pb::envoy::config::core::v3::DataSource;
use redplane_proto::pb::envoy::config::core::v3::data_source::Specifier;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate,
};
use redplane_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use redplane_proto::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use redplane_proto::pb::google::protobuf::Any;
use redplane_testkit::Identity;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The server.
pub(crate) struct Sds {
    folder: tempfile::TempDir,
    secrets: watch::Sender<BTreeMap<String, (u64, Secret)>>,
    heard: Arc<Mutex<Heard>>,
    runtime: Runtime,
}

/// What was heard of a client.
#[derive(Default)]
pub(crate) struct Heard {
    /// Names of each stream, in the order in which they were opened.
    pub(crate) streams: Vec<Vec<String>>,
    /// Texts of negative answers.
    pub(crate) refusals: Vec<String>,
    /// Versions that were accepted, by name.
    pub(crate) accepted: Vec<(String, String)>,
}

impl Sds {
    /// Listens, without a secret.
    pub(crate) fn start() -> Self {
        let sds = Self::silent();
        sds.listen();
        sds
    }

    /// The socket is not there yet.
    pub(crate) fn silent() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            secrets: watch::Sender::default(),
            heard: Arc::default(),
            runtime: Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    /// Opens the socket.
    pub(crate) fn listen(&self) {
        let _inside = self.runtime.enter();
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let service = SecretDiscoveryServiceServer::new(Service {
            secrets: self.secrets.subscribe(),
            heard: Arc::clone(&self.heard),
        });
        self.runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The static cluster that leads here.
    pub(crate) fn cluster(&self) -> String {
        format!(
            "{{name: sds-grpc, type: STATIC, connect_timeout: 1s, http2_protocol_options: {{}}, load_assignment: \
             {{cluster_name: sds-grpc, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {}}}}}}}}}]}}]}}}}",
            self.socket().display()
        )
    }

    fn put(&self, secret: Secret) {
        self.secrets.send_modify(|secrets| {
            let version = secrets.get(&secret.name).map_or(0, |(version, _)| *version) + 1;
            secrets.insert(secret.name.clone(), (version, secret));
        });
    }

    /// Serves a certificate with its key.
    pub(crate) fn put_certificate(&self, name: &str, chain: &Path, key: &Path) {
        self.put(certificate(name, chain, key));
    }

    /// Serves the roots to trust.
    pub(crate) fn put_roots(&self, name: &str, roots: &Path) {
        let context = CertificateValidationContext {
            trusted_ca: Some(inline(roots)),
            ..CertificateValidationContext::default()
        };
        self.put(Secret {
            name: name.to_owned(),
            r#type: Some(Type::ValidationContext(context)),
        });
    }

    /// Serves `default` and `ROOTCA` of an identity.
    pub(crate) fn put_identity(&self, identity: &Identity) {
        self.put_roots("ROOTCA", &identity.ca);
        self.put_certificate("default", &identity.cert, &identity.key);
    }

    /// What was heard so far.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("nobody panicked")
    }
}

/// A certificate with its key under a name.
pub(crate) fn certificate(name: &str, chain: &Path, key: &Path) -> Secret {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..TlsCertificate::default()
    };
    Secret {
        name: name.to_owned(),
        r#type: Some(Type::TlsCertificate(certificate)),
    }
}

fn inline(path: &Path) -> DataSource {
    let bytes = std::fs::read(path).expect("a PEM file");
    DataSource {
        specifier: Some(Specifier::InlineBytes(bytes)),
        ..DataSource::default()
    }
}

/// `sds_config` as Istio writes it.
pub(crate) const SOURCE: &str = "sds_config: {api_config_source: {api_type: GRPC, transport_api_version: V3, \
    set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}, \
    initial_fetch_timeout: 0s, resource_api_version: V3}";

/// `common_tls_context` with `default` and `ROOTCA`; `names` are further fields of the default validation context.
pub(crate) fn common(names: &str) -> String {
    format!(
        "common_tls_context: {{tls_certificate_sds_secret_configs: [{{name: default, {SOURCE}}}], \
         combined_validation_context: {{default_validation_context: {{{names}}}, validation_context_sds_secret_config: \
         {{name: ROOTCA, {SOURCE}}}}}}}"
    )
}

struct Service {
    secrets: watch::Receiver<BTreeMap<String, (u64, Secret)>>,
    heard: Arc<Mutex<Heard>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

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

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (answers, stream) = tokio::sync::mpsc::unbounded_channel();
        let (heard, mut secrets) = (Arc::clone(&self.heard), self.secrets.clone());
        let mut questions = request.into_inner();
        tokio::spawn(async move {
            let mut name = String::new();
            let mut sent = 0;
            loop {
                tokio::select! {
                    question = questions.next() => {
                        let Some(Ok(question)) = question else { return };
                        let mut heard = heard.lock().expect("nobody panicked");
                        if name.is_empty() {
                            name = question.resource_names.first().cloned().unwrap_or_default();
                            heard.streams.push(question.resource_names.clone());
                        } else if let Some(refusal) = question.error_detail {
                            heard.refusals.push(refusal.message);
                        } else {
                            heard.accepted.push((name.clone(), question.version_info));
                        }
                    }
                    changed = secrets.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
                let now = secrets.borrow().get(&name).cloned();
                if let Some((version, secret)) = now
                    && version != sent
                {
                    sent = version;
                    let response = DiscoveryResponse {
                        version_info: version.to_string(),
                        nonce: version.to_string(),
                        type_url: SECRET.to_owned(),
                        resources: vec![Any {
                            type_url: SECRET.to_owned(),
                            value: secret.encode_to_vec(),
                        }],
                        ..DiscoveryResponse::default()
                    };
                    if answers.send(Ok(response)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }
}
