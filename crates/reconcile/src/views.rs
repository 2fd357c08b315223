//! The world as the admin pages show it: plain data made from what lives, when somebody looks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use redplane_admin::{
    Address, CertificateFile, ClusterView, EdsHealth, HealthFlags, HostStats, HostView, InitTargets,
    ListenerView, Locality, RedisHostView, Role, Thresholds, TlsCertificates,
};
use redplane_config::cluster::{Discovery, RetryLimit, Transport};
use redplane_config::tls::{Certificate, Secret, SecretKind, Trust};
use redplane_telemetry::stats::listener;
use redplane_upstream::tls::secrets::{SecretKey, Secrets};
use redplane_upstream::{Cluster, Health, Host, HostAddress, Layout, Topology};

use crate::world::World;

/// `/clusters`, by name.
pub(crate) fn clusters(world: &World) -> Vec<ClusterView> {
    let snapshot = world.store.load_full();
    let pages = world.book.pages().clone();
    let mut views: Vec<ClusterView> = snapshot
        .clusters
        .values()
        .map(|cluster| cluster_view(cluster, pages.clusters.is_dynamic(cluster.name())))
        .collect();
    views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    views
}

fn cluster_view(cluster: &Cluster, added_via_api: bool) -> ClusterView {
    let config = cluster.config();
    let topology = cluster.topology();
    let eds_service_name = match &config.discovery {
        Discovery::Eds { service_name, .. } if *service_name != config.name => Some(service_name.clone()),
        _ => None,
    };
    let hosts = topology.hosts.iter().enumerate();
    ClusterView {
        name: config.name.clone(),
        observability_name: config.stat_name.clone(),
        added_via_api,
        eds_service_name,
        default_priority: thresholds(&config.breakers.default),
        high_priority: thresholds(&config.breakers.high),
        hosts: hosts.map(|(at, host)| host_view(&topology, at, host)).collect(),
    }
}

fn thresholds(limits: &redplane_config::cluster::Thresholds) -> Thresholds {
    Thresholds {
        max_connections: limits.connections,
        max_pending_requests: limits.pending,
        max_requests: limits.requests,
        // Envoy shows what a budget allows at the moment; here it is what it always allows.
        max_retries: match limits.retries {
            RetryLimit::Count(count) => count,
            RetryLimit::Budget { least, .. } => least,
        },
    }
}

fn host_view(topology: &Topology, at: usize, host: &Host) -> HostView {
    let read = |cell: &AtomicU64| cell.load(Relaxed);
    let health = host.health();
    let stats = &host.stats;
    HostView {
        address: match &host.address {
            HostAddress::Ip(address) => Address::Socket(*address),
            HostAddress::Pipe(path) => Address::Pipe(path.display().to_string()),
        },
        hostname: host.hostname.clone(),
        stats: HostStats {
            cx_active: read(&stats.cx_active),
            cx_connect_fail: read(&stats.cx_connect_fail),
            cx_total: read(&stats.cx_total),
            rq_active: read(&stats.rq_active),
            rq_error: read(&stats.rq_error),
            rq_pending_active: 0,
            rq_success: read(&stats.rq_success),
            rq_timeout: read(&stats.rq_timeout),
            rq_total: read(&stats.rq_total),
        },
        health: HealthFlags {
            eds: match health {
                Health::Healthy => EdsHealth::Healthy,
                Health::Degraded => EdsHealth::Degraded,
                Health::Unhealthy => EdsHealth::Unhealthy,
                Health::Draining => EdsHealth::Draining,
            },
            ..HealthFlags::default()
        },
        weight: host.weight,
        locality: Locality {
            region: host.region.region.clone(),
            zone: host.zone.clone(),
            sub_zone: host.region.sub_zone.clone(),
        },
        canary: false,
        priority: host.priority,
        redis: redis_view(topology, at),
    }
}

fn redis_view(topology: &Topology, at: usize) -> Option<RedisHostView> {
    if !matches!(topology.layout, Layout::Slots(_) | Layout::Replicated(_)) {
        return None;
    }
    let role = topology.role(at);
    let mut shards = topology.shards().iter();
    let shard = shards.find(|shard| shard.replicas.contains(&at));
    Some(RedisHostView {
        role: match role {
            Some(redplane_upstream::Role::Primary) => Role::Primary,
            Some(redplane_upstream::Role::Replica) => Role::Replica,
            None => Role::Unknown,
        },
        slots: topology
            .ranges(at)
            .iter()
            .map(|(first, last)| *first..=*last)
            .collect(),
        primary: shard
            .and_then(|shard| topology.hosts.get(shard.primary))
            .map(|primary| primary.address.to_string()),
    })
}

/// `/listeners`
pub(crate) fn listeners(world: &World) -> Vec<ListenerView> {
    let address = |address: &redplane_config::Address| match address {
        redplane_config::Address::Ip(address) => Address::Socket(*address),
        other => Address::Pipe(other.to_string()),
    };
    let bound = world.workers.bound().into_iter().map(|listener| ListenerView {
        addresses: listener.addresses.iter().map(address).collect(),
        name: listener.name,
    });
    bound.collect()
}

/// Downstream connections of all listeners, for `server.total_connections`.
pub(crate) fn connections(world: &World) -> u64 {
    let snapshot = world.store.load_full();
    let open = snapshot.listeners().map(|listener| {
        let prefix = format!("listener.{}.", listener.config.stat_name);
        let scope = world.registry.scope(&prefix, &listener::SCHEMA);
        scope.gauge(listener::DOWNSTREAM_CX_ACTIVE)
    });
    open.sum()
}

/// `/init_dump`
pub(crate) fn init(world: &World) -> Vec<InitTargets> {
    let pages = world.book.pages().clone();
    let mut targets: Vec<String> = pages
        .waiting
        .iter()
        .map(|word| format!("target {word}"))
        .collect();
    targets.extend(pages.clusters.warming().map(|name| format!("Cluster {name}")));
    targets.extend(pages.listeners.warming().map(|name| format!("Listener {name}")));
    if targets.is_empty() {
        return Vec::new();
    }
    vec![InitTargets {
        name: "init manager Server".to_owned(),
        targets,
    }]
}

/// `/certs`: one element per TLS context in use.
pub(crate) fn certificates(world: &World) -> Vec<TlsCertificates> {
    let snapshot = world.store.load_full();
    let secrets = world.store.secrets();
    let mut contexts = Vec::new();
    for cluster in snapshot.clusters.values() {
        let config = cluster.config();
        let matches = config
            .transport_matches
            .iter()
            .map(|matching| &matching.transport);
        for transport in std::iter::once(&config.transport).chain(matches) {
            if let Transport::Tls(tls) = transport {
                contexts.push(context(secrets, &tls.certificates, tls.validation.as_ref()));
            }
        }
    }
    for listener in snapshot.listeners() {
        let tls = listener
            .all_chains()
            .filter_map(|chain| chain.config.tls.as_ref());
        contexts.extend(tls.map(|tls| context(secrets, &tls.certificates, tls.validation.as_ref())));
    }
    contexts
}

/// What has not come yet is left out.
fn context(
    secrets: &Secrets,
    certificates: &[Secret<Arc<Certificate>>],
    trust: Option<&Trust>,
) -> TlsCertificates {
    let now = SystemTime::now();
    let file = |path: &str, pem: &[u8]| CertificateFile {
        path: path.to_owned(),
        pem: pem.to_owned(),
        now,
    };
    let own = |secret: &Secret<Arc<Certificate>>| match secret {
        Secret::Here(certificate) => Some(Arc::clone(certificate)),
        Secret::Named(name) => secrets.certificate(&SecretKey::new(SecretKind::Certificate, name)),
    };
    let validation = trust.and_then(|trust| match &trust.secret {
        None => Some(Arc::clone(&trust.own)),
        Some(name) => {
            let came = secrets.validation(&SecretKey::new(SecretKind::Validation, name))?;
            Some(Arc::new(trust.own.merged(&came)))
        }
    });
    TlsCertificates {
        ca_cert: validation
            .map(|ca| file(&ca.source, &ca.roots))
            .into_iter()
            .collect(),
        cert_chain: certificates
            .iter()
            .filter_map(own)
            .map(|own| file(&own.source, &own.chain))
            .collect(),
    }
}
