//! Clusters, hosts, topology and the connections to them.
