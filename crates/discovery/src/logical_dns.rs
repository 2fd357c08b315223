//! LOGICAL_DNS: one host, whose address is the first of the latest answer when a connection is made.
//!
//! The host keeps its identity when its address changes, so open connections live on at the old address.

use std::sync::Arc;

use redplane_config::cluster::Dns as Settings;
use redplane_upstream::cluster::Cluster;

use super::strict_dns::Names;

pub(super) fn start(cluster: &Arc<Cluster>, settings: &Settings) {
    Names::watch(cluster, settings, true);
}
