//! How the hosts of clusters are found: one file for each of Envoy's discovery types, and Redis Sentinel.
//!
//! [`start`] makes a live [`Cluster`] and sets its discovery going, as tasks on the control thread that end with the
//! cluster. What they find ends in [`Cluster::publish`]. Nothing here makes anybody wait: a cluster without an answer is
//! a cluster without hosts. Parsing answers and agreeing on a slot map are pure functions over values.

mod eds;
mod fixed;
mod logical_dns;
mod node;
mod original_dst;
mod place;
mod publish;
pub mod redis;
mod sentinel;
mod session;
mod strict_dns;

use std::sync::Arc;

use redplane_config::cluster::{Cluster as Config, Discovery, LbPolicy};
use redplane_config::endpoint::Assignment;
use redplane_config::{Address, Invalid};
use redplane_upstream::balancer::{Balancer, Plan};
use redplane_upstream::cluster::{Cluster, Context, Moves, Roster};
use redplane_upstream::host::{Draft, Host};
use redplane_upstream::tls::secrets::Secrets;
use redplane_upstream::topology::{Layout, SlotMap};

pub use node::{Node, NodeAddress, ShardView};

/// Starts a cluster: builds its TLS and stats, and looks for its hosts by tasks on the context's runtime.
///
/// # Errors
///
/// Certificates, names and addresses that cannot be used, with the path of the field.
pub fn start(config: Arc<Config>, context: &Context) -> Result<Arc<Cluster>, Invalid> {
    start_after(config, context, None)
}

/// As [`start`], for a cluster that takes the place of another of the same name: it goes on with the hosts it has in
/// common with that one, and where endpoints come from the same place also with its topology, so that nothing has to be
/// found again before commands can be served.
///
/// # Errors
///
/// As [`start`]; the previous cluster is untouched then.
pub fn start_after(
    config: Arc<Config>,
    context: &Context,
    previous: Option<&Cluster>,
) -> Result<Arc<Cluster>, Invalid> {
    check(&config)?;
    let layout = layout(&config);
    let (cluster, moves) = Cluster::new(config, context, layout, previous)?;
    if let Some(previous) = previous {
        inherit(&cluster, previous);
    }
    find(&cluster, moves);
    Ok(cluster)
}

/// Gives a cluster its EDS assignment; clusters of other kinds ignore it.
pub fn assign(cluster: &Cluster, assignment: &Assignment) {
    if matches!(cluster.config().discovery, Discovery::Eds { .. }) {
        eds::assign(cluster, assignment);
    }
}

/// Looks whether a cluster could be started, and starts nothing.
///
/// # Errors
///
/// As [`start`].
pub fn validate(config: &Config, secrets: &Secrets) -> Result<(), Invalid> {
    check(config)?;
    Cluster::check(config, secrets)
}

/// Refuses what cannot be discovered.
fn check(config: &Config) -> Result<(), Invalid> {
    let provided = matches!(config.lb_policy, LbPolicy::ClusterProvided);
    if matches!(config.discovery, Discovery::Sentinel(_)) && !provided {
        let reason = "redplane.clusters.sentinel needs CLUSTER_PROVIDED: any other policy writes to replicas";
        return Err(Invalid::new("lb_policy", reason));
    }
    let slots = matches!(config.discovery, Discovery::Redis(_));
    if slots && !provided {
        let reason =
            "envoy.clusters.redis needs CLUSTER_PROVIDED: any other policy sends keys to the wrong shard";
        return Err(Invalid::new("lb_policy", reason));
    }
    if let Discovery::Fixed(assignment) = &config.discovery {
        let mut endpoints = assignment
            .localities
            .iter()
            .flat_map(|locality| &locality.endpoints);
        if let Some(named) = endpoints.find(|endpoint| matches!(endpoint.address, Address::Name { .. })) {
            let reason = format!("{} is no IP address, and STATIC resolves no names", named.address);
            return Err(Invalid::new("load_assignment", reason));
        }
    }
    Ok(())
}

/// The layout of a cluster that knows no host yet.
fn layout(config: &Config) -> Layout {
    match &config.discovery {
        Discovery::Redis(_) => Layout::Slots(SlotMap::empty()),
        Discovery::Sentinel(_) => Layout::Replicated(None),
        Discovery::OriginalDst => Layout::OriginalDst,
        Discovery::Fixed(_) | Discovery::StrictDns(_) | Discovery::LogicalDns(_) | Discovery::Eds { .. } => {
            Layout::Balanced(Balancer::new(place::plan(config, 140, Vec::new()), &[]))
        }
    }
}

/// Lets a cluster begin with what its predecessor found. Hosts that stay keep their connections.
fn inherit(cluster: &Cluster, previous: &Cluster) {
    let before = previous.topology().clone();
    let same = same_source(&cluster.config().discovery, &previous.config().discovery);
    let inherited = cluster.publish(|_, roster| {
        roster.leave(&before.hosts, &[]);
        if !same || before.hosts.is_empty() {
            return None;
        }
        let hosts: Vec<Arc<Host>> = before
            .hosts
            .iter()
            .map(|host| adopted(cluster, roster, host))
            .collect();
        let layout = match &before.layout {
            Layout::Slots(map) => Layout::Slots(map.clone()),
            Layout::Replicated(shard) => Layout::Replicated(shard.clone()),
            Layout::OriginalDst => Layout::OriginalDst,
            Layout::Balanced(balancer) => {
                let Plan {
                    overprovisioning,
                    groups,
                    ..
                } = balancer.plan().clone();
                Layout::Balanced(Balancer::new(
                    place::plan(cluster.config(), overprovisioning, groups),
                    &hosts,
                ))
            }
        };
        Some((hosts, layout))
    });
    if inherited && previous.is_warm() {
        cluster.set_warm();
    }
}

fn adopted(cluster: &Cluster, roster: &mut Roster, host: &Host) -> Arc<Host> {
    let transport = cluster.transport(&host.address, &host.hostname, &host.socket_match);
    roster.host(Draft {
        transport,
        ..Draft::of(host)
    })
}

/// Whether endpoints come from the same place, so that what was found is still true.
fn same_source(a: &Discovery, b: &Discovery) -> bool {
    match (a, b) {
        (Discovery::Redis(a), Discovery::Redis(b)) => a.seeds == b.seeds && a.family == b.family,
        (Discovery::Sentinel(a), Discovery::Sentinel(b)) => {
            a.sentinels == b.sentinels && a.family == b.family && a.master_name == b.master_name
        }
        (Discovery::Eds { service_name: a, .. }, Discovery::Eds { service_name: b, .. }) => a == b,
        (Discovery::StrictDns(a), Discovery::StrictDns(b))
        | (Discovery::LogicalDns(a), Discovery::LogicalDns(b)) => {
            a.assignment == b.assignment && a.family == b.family
        }
        // Known at once.
        _ => false,
    }
}

/// Starts looking for hosts.
fn find(cluster: &Arc<Cluster>, moves: Moves) {
    let config = Arc::clone(cluster.config());
    match &config.discovery {
        Discovery::Fixed(assignment) => fixed::start(cluster, assignment),
        Discovery::StrictDns(dns) => strict_dns::start(cluster, dns),
        Discovery::LogicalDns(dns) => logical_dns::start(cluster, dns),
        Discovery::Eds { .. } => {}
        Discovery::OriginalDst => original_dst::start(cluster),
        Discovery::Redis(settings) => redis::start(cluster, settings, moves),
        Discovery::Sentinel(settings) => sentinel::start(cluster, settings),
    }
}
