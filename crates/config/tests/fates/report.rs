//! Prints what became of a resource.

use std::fmt::Write;

use prost::{Message, Name};
use redplane_config::cluster::{Cluster, Discovery, Transport};
use redplane_config::endpoint::Assignment;
use redplane_config::http::RouteSource;
use redplane_config::listener::{FilterChain, Listener, Terminal};
use redplane_config::{Ignored, Invalid};
use redplane_proto::pb::envoy::config::cluster::v3::Cluster as ClusterProto;
use redplane_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use redplane_proto::pb::envoy::config::listener::v3::Listener as ListenerProto;
use redplane_proto::{Any, type_url};

/// The name of a resource and its fate, a line for each thing there is to say.
pub(crate) fn fate(any: &Any) -> (String, String) {
    match any.type_url.as_str() {
        type_url::CLUSTER => {
            let message: ClusterProto = decode(any);
            (message.name.clone(), read(Cluster::from_proto(&message), cluster))
        }
        type_url::LISTENER => {
            let message: ListenerProto = decode(any);
            (
                message.name.clone(),
                read(Listener::from_proto(&message), listener),
            )
        }
        type_url::ENDPOINT => {
            let message: ClusterLoadAssignment = decode(any);
            let mut ignored = Ignored::default();
            let result = Assignment::from_proto(&message, &mut ignored);
            (
                message.cluster_name.clone(),
                read(result, |assignment| endpoints(assignment, &ignored)),
            )
        }
        other => panic!("unexpected resource {other}"),
    }
}

fn decode<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value.as_slice()).unwrap()
}

fn read<T>(result: Result<T, Invalid>, print: impl Fn(&T) -> String) -> String {
    match result {
        Ok(value) => print(&value),
        Err(refusal) => format!("  refused: {refusal}\n"),
    }
}

/// A result without a value as one word or the refusal.
pub(crate) fn outcome(result: Result<(), Invalid>) -> String {
    result.map_or_else(|refusal| format!("refused: {refusal}"), |()| "served".to_owned())
}

fn notes(ignored: &Ignored) -> String {
    ignored
        .0
        .iter()
        .map(|note| format!("  ignored: {note}\n"))
        .collect()
}

/// A cluster: discovery and policy, then each transport.
pub(crate) fn cluster(cluster: &Cluster) -> String {
    let discovery = match &cluster.discovery {
        Discovery::Fixed(assignment) => format!("STATIC with {} endpoints", assignment.endpoints().count()),
        Discovery::StrictDns(_) => "STRICT_DNS".to_owned(),
        Discovery::LogicalDns(_) => "LOGICAL_DNS".to_owned(),
        Discovery::Eds { source, .. } => format!("EDS from {:?}", source.source),
        Discovery::OriginalDst => "ORIGINAL_DST".to_owned(),
        Discovery::Sentinel(sentinel) => {
            format!("Redis by {} Sentinels", sentinel.sentinels.endpoints().count())
        }
        Discovery::Redis(redis) => format!("Redis Cluster, {} seeds", redis.seeds.endpoints().count()),
    };
    let mut text = format!("  served: {discovery}, {:?}\n", cluster.lb_policy);
    let matches = cluster
        .transport_matches
        .iter()
        .map(|entry| (format!("match {}", entry.name), &entry.transport));
    for (name, transport) in std::iter::once(("transport".to_owned(), &cluster.transport)).chain(matches) {
        match transport {
            Transport::RawBuffer => {}
            Transport::Tls(tls) => {
                let names: Vec<&str> = tls.secrets().map(|(_, secret)| secret.name.as_str()).collect();
                writeln!(text, "  {name}: TLS{}", by_name(&names)).unwrap();
            }
            Transport::Inert(reason) => writeln!(text, "  {name} inert: {reason}").unwrap(),
        }
    }
    text + &notes(&cluster.ignored)
}

/// The secrets of a context that come by name.
fn by_name(names: &[&str]) -> String {
    match names.is_empty() {
        true => String::new(),
        false => format!(", secrets {}", names.join(" and ")),
    }
}

/// A listener: its chains, then what was ignored.
pub(crate) fn listener(listener: &Listener) -> String {
    let mut text = String::new();
    for chain in listener.chains.iter().chain(&listener.default_chain) {
        text.push_str(&filter_chain(chain));
    }
    text + &notes(&listener.ignored)
}

fn filter_chain(chain: &FilterChain) -> String {
    let fate = match &chain.terminal {
        Terminal::Redis(redis) => format!("served: redis_proxy {}", redis.stat_prefix),
        Terminal::Tcp(tcp) => {
            let clusters: Vec<_> = tcp
                .clusters
                .iter()
                .map(|cluster| cluster.cluster.as_str())
                .collect();
            format!("served: tcp_proxy to {}", clusters.join(", "))
        }
        Terminal::Http(manager) => {
            let mut clusters = manager.clusters();
            clusters.dedup();
            let to = match &manager.routes {
                RouteSource::Inline(_) => format!("to {}", clusters.join(", ")),
                RouteSource::Rds { name, .. } => format!("with routes by RDS {name}"),
            };
            format!("served: HTTP {} {to}", manager.stat_prefix)
        }
        Terminal::Inert { reason } => format!("inert: {reason}"),
    };
    let names: Vec<&str> = chain
        .tls
        .iter()
        .flat_map(|tls| tls.secrets())
        .map(|(_, secret)| secret.name.as_str())
        .collect();
    format!("  chain {} {fate}{}\n", chain.name, by_name(&names))
}

fn endpoints(assignment: &Assignment, ignored: &Ignored) -> String {
    let localities = assignment.localities.len();
    format!(
        "  served: {} endpoints in {localities} localities\n",
        assignment.endpoints().count()
    ) + &notes(ignored)
}

/// A line without the names that belong to the owner of the mesh.
pub(crate) fn anonymous(line: &str) -> String {
    let line = line.trim();
    if let Some((_, fate)) = line
        .strip_prefix("chain ")
        .and_then(|chain| chain.split_once(' '))
    {
        let by_rds = " with routes by RDS";
        if let Some((kind, _)) = fate
            .split_once(by_rds)
            .and_then(|(named, _)| named.rsplit_once(' '))
        {
            return format!("chain {kind}{by_rds}");
        }
        return match fate.split_once(" to ") {
            Some((kind, _)) => format!("chain {kind}"),
            None => format!("chain {fate}"),
        };
    }
    // Positions in lists differ from resource to resource and say nothing.
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}
