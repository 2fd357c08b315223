//! ORIGINAL_DST: there is nothing to find; connections bring their destination along.

use redplane_upstream::cluster::Cluster;

pub(super) fn start(cluster: &Cluster) {
    cluster.set_warm();
}
