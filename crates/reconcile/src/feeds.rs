//! Where resources come from: the ADS stream and the files, joined into one queue for the control thread.
//!
//! Each source keeps its own protocol state in `xds`; here its events get the handle that their verdict goes to.

use std::path::PathBuf;
use std::sync::Arc;

use redplane_config::Address;
use redplane_config::bootstrap::Ads;
use redplane_config::cluster::{Cluster, ConfigSource, Discovery, Transport};
use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_upstream::tls::client::TlsClient;
use redplane_upstream::{HostAddress, Transport as Wire};
use redplane_xds::{
    Client, Config, Endpoint, Event, FileConfig, FileSource, Form, Handle, Names, NodePolicy, Tls,
};
use tokio::sync::mpsc;

use crate::incoming::{From, Incoming};

/// The running sources.
pub struct Feeds {
    ads: Option<Handle>,
    files: Vec<(PathBuf, &'static str, Handle)>,
    queue: mpsc::Sender<Incoming>,
}

impl Feeds {
    /// No sources yet; everything that they say goes to the queue.
    pub fn new(queue: mpsc::Sender<Incoming>) -> Self {
        Self {
            ads: None,
            files: Vec::new(),
            queue,
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
        let mut client = Client::start(config).map_err(|invalid| invalid.to_string())?;
        let handle = client.handle();
        self.ads = Some(handle.clone());
        let queue = self.queue.clone();
        tokio::spawn(async move {
            while let Some(event) = client.next().await {
                if forward(&queue, From::Ads, &handle, event).await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Subscribes to resources of a type.
    ///
    /// # Errors
    /// A file whose folder cannot be watched, or ADS where there is none.
    pub(crate) fn subscribe(
        &mut self,
        source: &ConfigSource,
        type_url: &'static str,
        names: Names,
    ) -> Result<(), String> {
        match (source, &self.ads) {
            (ConfigSource::Ads, Some(ads)) => {
                ads.subscribe(type_url, names);
                Ok(())
            }
            (ConfigSource::Ads, None) => Err("ads: dynamic_resources.ads_config is not set".to_owned()),
            (ConfigSource::Path(path), _) => match self.file(path, type_url) {
                Some(file) => {
                    file.subscribe(type_url, names);
                    Ok(())
                }
                None => self.start_file(path.clone(), type_url, names),
            },
        }
    }

    /// Takes names back.
    pub(crate) fn unsubscribe(&self, source: &ConfigSource, type_url: &'static str, names: Vec<String>) {
        let handle = match source {
            ConfigSource::Ads => self.ads.as_ref(),
            ConfigSource::Path(path) => self.file(path, type_url),
        };
        if let Some(handle) = handle {
            handle.unsubscribe(type_url, names);
        }
    }

    fn file(&self, path: &PathBuf, type_url: &str) -> Option<&Handle> {
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
        self.files.push((path, type_url, handle.clone()));
        let queue = self.queue.clone();
        tokio::spawn(async move {
            while let Some(event) = file.next().await {
                if forward(&queue, From::File(type_url), &handle, event)
                    .await
                    .is_none()
                {
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
pub(crate) fn ads_config(ads: &Ads, clusters: &[Arc<Cluster>], node: Node) -> Result<Config, String> {
    let cluster = clusters.iter().find(|cluster| cluster.name == ads.cluster);
    let cluster = cluster.ok_or_else(|| format!("ads_config: no static cluster '{}'", ads.cluster))?;
    let assignment = match &cluster.discovery {
        Discovery::Fixed(assignment) => assignment,
        Discovery::StrictDns(dns) | Discovery::LogicalDns(dns) => &dns.assignment,
        Discovery::Eds { .. } | Discovery::OriginalDst | Discovery::Redis(_) | Discovery::Sentinel(_) => {
            return Err(format!(
                "ads_config: cluster '{}' must be STATIC, STRICT_DNS or LOGICAL_DNS",
                ads.cluster
            ));
        }
    };
    let endpoints = assignment.endpoints().map(|endpoint| match &endpoint.address {
        Address::Ip(address) => Endpoint::Tcp(address.ip().to_string(), address.port()),
        Address::Name { host, port } => Endpoint::Tcp(host.clone(), *port),
        Address::Pipe(path) => Endpoint::Unix(path.clone()),
    });
    let endpoints: Vec<Endpoint> = endpoints.collect();
    let tls = match &cluster.transport {
        Transport::RawBuffer => None,
        Transport::Tls(tls) => {
            Some(dial_tls(tls, endpoints.first()).map_err(|reason| format!("{}: {reason}", cluster.name))?)
        }
        Transport::Inert(reason) => return Err(format!("ads_config: cluster '{}': {reason}", cluster.name)),
    };
    let form = if ads.delta { Form::Delta } else { Form::Sotw };
    let node_policy = if ads.node_on_first_message_only {
        NodePolicy::FirstMessage
    } else {
        NodePolicy::EveryMessage
    };
    Ok(Config {
        authority: cluster.name.clone(),
        tls,
        node_policy,
        initial_metadata: ads.initial_metadata.clone(),
        connect_timeout: cluster.connect_timeout,
        seed: fastrand::u64(..),
        ..Config::new(node, form, endpoints)
    })
}

/// The cluster's TLS, and the name its control plane is asked for: the SNI, else the first host.
fn dial_tls(tls: &redplane_config::tls::ClientTls, first: Option<&Endpoint>) -> Result<Tls, String> {
    let client = TlsClient::new(tls)?;
    let nowhere = HostAddress::Ip(([127, 0, 0, 1], 0).into());
    let (address, hostname) = match first {
        Some(Endpoint::Tcp(host, port)) => match host.parse() {
            Ok(ip) => (
                HostAddress::Ip(std::net::SocketAddr::new(ip, *port)),
                String::new(),
            ),
            Err(_) => (nowhere, host.clone()),
        },
        Some(Endpoint::Unix(_)) | None => (nowhere, String::new()),
    };
    match client.transport(&address, &hostname) {
        Wire::Tls(config, name) => Ok(Tls {
            config,
            server_name: match tls.sni.is_empty() && !hostname.is_empty() {
                true => hostname,
                false => name.to_str().into_owned(),
            },
        }),
        Wire::Plain | Wire::Inert(_) => Err("transport_socket: cannot be used".to_owned()),
    }
}
