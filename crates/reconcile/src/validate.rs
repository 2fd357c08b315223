//! Validation as a phase of its own: everything that a start would refuse is refused here, and nothing is opened, started
//! or asked for. `--mode validate` runs it to its end.

use std::path::Path;

use redplane_config::cluster::{Cluster as Config, ConfigSource, Source};
use redplane_config::listener::Listener;
use redplane_config::tls::{SecretKind, SecretName};
use redplane_upstream::tls::secrets::{SecretKey, Secrets};

use crate::bootstrap::Bootstrap;
use crate::{feeds, references, secrets};

/// Checks a bootstrap as far as it can be checked without a network.
///
/// # Errors
/// One line, the same that the start would end with: the resource at fault and the reason.
pub fn validate(bootstrap: &Bootstrap) -> Result<(), String> {
    let config = &bootstrap.config;
    let known = Secrets::default();
    for secret in &config.secrets {
        let key = SecretKey {
            kind: secret.value.kind(),
            name: secret.name.clone(),
            source: None,
        };
        let put = known.put(&key, &secret.value);
        put.map_err(|reason| format!("static_resources.secrets: '{}': {reason}", secret.name))?;
    }
    let check = Check {
        clusters: &config.clusters,
        known: &known,
        has_ads: config.ads.is_some(),
    };
    let node = bootstrap.message.node.clone().unwrap_or_default();
    if let Some(ads) = &config.ads {
        let stream = feeds::ads_config(ads, &config.clusters, &node, &known)?;
        redplane_xds::check(&stream).map_err(|invalid| invalid.to_string())?;
    }
    for cluster in &config.clusters {
        let refuse = |reason: String| format!("static_resources.clusters: '{}': {reason}", cluster.name);
        redplane_discovery::validate(cluster, &known).map_err(|invalid| refuse(invalid.to_string()))?;
        check.cluster(cluster).map_err(refuse)?;
    }
    redplane_listener::check(&config.listeners, &known)
        .map_err(|(name, reason)| format!("static_resources.listeners: '{name}': {reason}"))?;
    for listener in &config.listeners {
        let names = references::secrets_of_listener(listener);
        let checked = check.secrets(&names);
        let checked = checked.and_then(|()| check.routes(listener));
        checked.map_err(|reason| format!("static_resources.listeners: '{}': {reason}", listener.name))?;
    }
    for (word, source) in [("CDS", &config.cds), ("LDS", &config.lds)] {
        let checked = source.as_ref().map_or(Ok(()), |source| check.source(source));
        checked.map_err(|reason| format!("dynamic_resources: {word}: {reason}"))?;
    }
    Ok(())
}

/// What resources may refer to.
struct Check<'a> {
    clusters: &'a [std::sync::Arc<Config>],
    known: &'a Secrets,
    has_ads: bool,
}

impl Check<'_> {
    fn cluster(&self, cluster: &Config) -> Result<(), String> {
        if let redplane_config::cluster::Discovery::Eds { source, .. } = &cluster.discovery {
            self.source(source)?;
        }
        self.secrets(&references::secrets_of_cluster(cluster))
    }

    fn secrets(&self, names: &[(SecretKind, &SecretName)]) -> Result<(), String> {
        for (kind, name) in names {
            match &name.source {
                Some(source) => self
                    .source(source)
                    .map_err(|reason| format!("secret `{}`: sds_config: {reason}", name.name))?,
                None if self.known.has(&SecretKey::new(*kind, name)) => {}
                None => return Err(secrets::unknown(*kind, &name.name)),
            }
        }
        Ok(())
    }

    fn routes(&self, listener: &Listener) -> Result<(), String> {
        for (_, name, source) in references::routes_of(listener) {
            let checked = match &source.source {
                Source::Grpc(_) => Err("api_config_source: only ads and files are supported".to_owned()),
                _ => self.source(source),
            };
            checked.map_err(|reason| format!("rds: route configuration `{name}`: {reason}"))?;
        }
        Ok(())
    }

    fn source(&self, source: &ConfigSource) -> Result<(), String> {
        match &source.source {
            Source::Ads if self.has_ads => Ok(()),
            Source::Ads => Err("ads: dynamic_resources.ads_config is not set".to_owned()),
            Source::Path(path) => folder(path),
            Source::Grpc(grpc) => {
                let mut clusters = self.clusters.iter();
                match clusters.find(|cluster| cluster.name == grpc.cluster) {
                    Some(cluster) => {
                        let node = redplane_proto::pb::envoy::config::core::v3::Node::default();
                        feeds::stream_config(grpc, cluster, &node, self.known).map(drop)
                    }
                    None => Err(format!("unknown cluster '{}'", grpc.cluster)),
                }
            }
        }
    }
}

/// A file is watched through its folder, which must be there.
fn folder(path: &Path) -> Result<(), String> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match folder.is_dir() {
        true => Ok(()),
        false => Err(format!("{}: cannot be watched: no such folder", folder.display())),
    }
}
