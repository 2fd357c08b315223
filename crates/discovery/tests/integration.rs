//! Clusters against real servers: a real Envoy for host choice, a real Redis Cluster for discovery, scripted servers
//! only for what a real one does not do (faulty or hostile answers).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod integration {
    mod balanced;
    mod connecting;
    mod dns;
    mod envoy;
    mod hashing;
    mod model;
    mod real_cluster;
    mod redis_discovery;
    mod scripted;
    mod scripted_discovery;
}
