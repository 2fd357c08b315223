//! Where resources come from: the ADS stream, files, and streams for single resources, joined into one queue for the
//! control thread.
//!
//! Each source keeps its own protocol state in `xds`; here its events get the handle that their verdict goes to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redplane_config::Address;
use redplane_config::cluster::{Cluster, Discovery, GrpcSource, Source, Transport};
use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_upstream::tls::client::TlsClient;
use redplane_upstream::tls::secrets::Secrets;
use redplane_xds::{
    Client, Config, Endpoint, Event, FileConfig, FileSource, Form, Handle, Keepalive, Names, NodePolicy,
    TcpKeepalive, Tls,
};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::incoming::{From, Incoming};

/// The running sources.
pub struct Feeds {
    ads: Option<Handle>,
    files: Vec<(PathBuf, &'static str, Handle)>,
    streams: HashMap<(Arc<GrpcSource>, String), AbortHandle>,
    queue: mpsc::Sender<Incoming>,
    /// Who we are, to those who are asked.
    pub(crate) node: Node,
}

impl Feeds {
    /// No sources yet; everything that they say goes to the queue.
    pub fn new(queue: mpsc::Sender<Incoming>) -> Self {
        Self {
            ads: None,
            files: Vec::new(),
            streams: HashMap::new(),
            queue,
            node: Node::default(),
        }
    }

    /// Where everything for the control thread goes.
    pub(crate) fn queue(&self) -> &mpsc::Sender<Incoming> {
        &self.queue
    }

    /// Whether there is an ADS stream.
    pub(crate) fn has_ads(&self) -> bool {
        self.ads.is_some()
    }

    /// Starts the ADS stream; nothing is asked for yet.
    ///
    /// # Errors
    /// A cluster that cannot be dialled.
    pub(crate) fn start_ads(&mut self, config: Config) -> Result<(), String> {
        let client = Client::start(config).map_err(|invalid| invalid.to_string())?;
        self.ads = Some(client.handle());
        self.follow(client, From::Ads);
        Ok(())
    }

    /// Starts a stream for one resource and asks for it.
    ///
    /// # Errors
    /// A cluster that cannot be dialled.
    pub(crate) fn start_stream(
        &mut self,
        grpc: &Arc<GrpcSource>,
        name: &str,
        type_url: &'static str,
        config: Config,
    ) -> Result<(), String> {
        let client = Client::start(config).map_err(|invalid| invalid.to_string())?;
        client
            .handle()
            .subscribe(type_url, Names::List(vec![name.to_owned()]));
        let task = self.follow(client, From::Stream(Arc::clone(grpc), name.to_owned()));
        self.streams.insert((Arc::clone(grpc), name.to_owned()), task);
        Ok(())
    }

    /// Ends a stream for one resource.
    pub(crate) fn end_stream(&mut self, grpc: &Arc<GrpcSource>, name: &str) {
        if let Some(task) = self.streams.remove(&(Arc::clone(grpc), name.to_owned())) {
            task.abort();
        }
    }

    fn follow(&self, mut client: Client, from: From) -> AbortHandle {
        let (queue, handle) = (self.queue.clone(), client.handle());
        let task = tokio::spawn(async move {
            while let Some(event) = client.next().await {
                if forward(&queue, from.clone(), &handle, event).await.is_none() {
                    return;
                }
            }
        });
        task.abort_handle()
    }

    /// Subscribes to resources of a type.
    ///
    /// # Errors
    /// A file whose folder cannot be watched, or ADS where there is none.
    pub(crate) fn subscribe(
        &mut self,
        source: &Source,
        type_url: &'static str,
        names: Names,
    ) -> Result<(), String> {
        match (source, &self.ads) {
            (Source::Ads, Some(ads)) => {
                ads.subscribe(type_url, names);
                Ok(())
            }
            (Source::Ads, None) => Err("ads: dynamic_resources.ads_config is not set".to_owned()),
            (Source::Path(path), _) => match self.file(path, type_url) {
                Some(file) => {
                    file.subscribe(type_url, names);
                    Ok(())
                }
                None => self.start_file(path.clone(), type_url, names),
            },
            (Source::Grpc(_), _) => Err("api_config_source: only ads and files are supported".to_owned()),
        }
    }

    /// Takes names back.
    pub(crate) fn unsubscribe(&self, source: &Source, type_url: &'static str, names: Vec<String>) {
        let handle = match source {
            Source::Ads => self.ads.as_ref(),
            Source::Path(path) => self.file(path, type_url),
            Source::Grpc(_) => None,
        };
        if let Some(handle) = handle {
            handle.unsubscribe(type_url, names);
        }
    }

    fn file(&self, path: &Path, type_url: &str) -> Option<&Handle> {
        let mut files = self.files.iter();
        files.find_map(|(known, kind, handle)| (known == path && *kind == type_url).then_some(handle))
    }

    fn start_file(&mut self, path: PathBuf, type_url: &'static str, names: Names) -> Result<(), String> {
        let config = FileConfig {
            path: path.clone(),
            watched_directory: None,
            type_url: type_url.to_owned(),
            names,
        };
        let mut file = FileSource::start(config).map_err(|unwatchable| unwatchable.to_string())?;
        let handle = file.handle();
        self.files.push((path.clone(), type_url, handle.clone()));
        let queue = self.queue.clone();
        tokio::spawn(async move {
            while let Some(event) = file.next().await {
                let from = From::File(path.clone(), type_url);
                if forward(&queue, from, &handle, event).await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }
}

async fn forward(queue: &mpsc::Sender<Incoming>, from: From, handle: &Handle, event: Event) -> Option<()> {
    let (handle, event) = (handle.clone(), Box::new(event));
    queue.send(Incoming::Xds { from, handle, event }).await.ok()
}

/// How the control plane is reached: `ads_config` and the static cluster that it names.
///
/// # Errors
/// The field at fault and the reason.
pub(crate) fn ads_config(
    ads: &GrpcSource,
    clusters: &[Arc<Cluster>],
    node: &Node,
    secrets: &Secrets,
) -> Result<Config, String> {
    let cluster = clusters.iter().find(|cluster| cluster.name == ads.cluster);
    let cluster = cluster.ok_or_else(|| format!("ads_config: no static cluster '{}'", ads.cluster))?;
    stream_config(ads, cluster, node, secrets).map_err(|reason| format!("ads_config: {reason}"))
}

/// How a gRPC source is reached: the settings of the stream, and the cluster that it names.
///
/// # Errors
/// What about the cluster cannot be used, and why.
pub(crate) fn stream_config(
    grpc: &GrpcSource,
    cluster: &Cluster,
    node: &Node,
    secrets: &Secrets,
) -> Result<Config, String> {
    let assignment = match &cluster.discovery {
        Discovery::Fixed(assignment) => assignment,
        Discovery::StrictDns(dns) | Discovery::LogicalDns(dns) => &dns.assignment,
        Discovery::Eds { .. } | Discovery::OriginalDst | Discovery::Redis(_) | Discovery::Sentinel(_) => {
            return Err(format!(
                "cluster '{}' must be STATIC, STRICT_DNS or LOGICAL_DNS",
                cluster.name
            ));
        }
    };
    let endpoints = assignment.endpoints().map(|endpoint| match &endpoint.address {
        Address::Ip(address) => Endpoint::Tcp(address.ip().to_string(), address.port()),
        Address::Name { host, port } => Endpoint::Tcp(host.clone(), *port),
        Address::Pipe(path) => Endpoint::Unix(path.clone()),
    });
    let endpoints: Vec<Endpoint> = endpoints.collect();
    let within = |reason: String| format!("cluster '{}': {reason}", cluster.name);
    let tls = match &cluster.transport {
        Transport::RawBuffer => None,
        Transport::Tls(tls) => Some(dial_tls(tls, endpoints.first(), secrets).map_err(within)?),
        Transport::Inert(reason) => return Err(within(reason.clone())),
    };
    let form = if grpc.delta { Form::Delta } else { Form::Sotw };
    let node_policy = if grpc.node_on_first_message_only {
        NodePolicy::FirstMessage
    } else {
        NodePolicy::EveryMessage
    };
    Ok(Config {
        authority: cluster.name.clone(),
        tls,
        node_policy,
        initial_metadata: grpc.initial_metadata.clone(),
        connect_timeout: cluster.connect_timeout,
        keepalive: cluster.http2_keepalive.map(|keepalive| Keepalive {
            interval: keepalive.interval,
            timeout: keepalive.timeout,
        }),
        tcp_keepalive: cluster.keepalive.map(|keepalive| TcpKeepalive {
            time: keepalive.time,
            interval: keepalive.interval,
            probes: keepalive.probes,
        }),
        seed: fastrand::u64(..),
        ..Config::new(node.clone(), form, endpoints)
    })
}

/// The cluster's TLS, and the name its control plane is asked for: the SNI, else the first host.
fn dial_tls(
    tls: &redplane_config::tls::ClientTls,
    first: Option<&Endpoint>,
    secrets: &Secrets,
) -> Result<Tls, String> {
    let client = TlsClient::new(tls, secrets)?;
    let (address, hostname) = match first {
        Some(Endpoint::Tcp(host, port)) => match host.parse() {
            Ok(ip) => (Some(SocketAddr::new(ip, *port)), ""),
            Err(_) => (None, host.as_str()),
        },
        Some(Endpoint::Unix(_)) | None => (None, ""),
    };
    let name = client.server_name(address, hostname);
    Ok(Tls {
        config: client.config()?,
        server_name: match tls.sni.is_empty() && !hostname.is_empty() {
            true => hostname.to_owned(),
            false => name.to_str().into_owned(),
        },
    })
}
