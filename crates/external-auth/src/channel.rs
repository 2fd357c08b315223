//! The HTTP/2 connection to a cluster, made when it is first needed and again whenever it was lost.

use std::io;
use std::sync::{Arc, Weak};

use hyper_util::rt::TokioIo;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Stream, connect_http2};
use tonic::transport::{Channel, Uri};

/// A connection that chooses its host by the cluster's balance. It holds the cluster weakly: a cluster that a push took
/// away is not kept for the sake of questions.
pub(crate) fn to(cluster: &Arc<Cluster>, authority: &str) -> Channel {
    // A cluster name such as `outbound|50051||auth` is no authority; Envoy sends it all the same, servers do not care.
    let uri = format!("http://{authority}")
        .parse()
        .unwrap_or_else(|_| Uri::from_static("http://redis-auth"));
    let weak = Arc::downgrade(cluster);
    let connect = tower::service_fn(move |_: Uri| {
        let cluster = Weak::clone(&weak);
        async move { dial(&cluster).await.map(TokioIo::new) }
    });
    Channel::builder(uri).connect_with_connector_lazy(connect)
}

async fn dial(cluster: &Weak<Cluster>) -> io::Result<Stream> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the cluster is gone");
    let cluster = cluster.upgrade().ok_or_else(gone)?;
    let random = fastrand::u64(..);
    let host = {
        let topology = cluster.topology();
        let chosen = topology.by_hash(random, random);
        chosen.and_then(|host| topology.hosts.get(host)).map(Arc::clone)
    };
    let Some(host) = host else {
        cluster.stats().block().inc(names::UPSTREAM_CX_NONE_HEALTHY);
        return Err(io::Error::new(io::ErrorKind::NotConnected, "no healthy upstream"));
    };
    let result = connect_http2(&cluster, &host, cluster.config().connect_timeout).await;
    let stats = cluster.stats().block();
    stats.inc(names::UPSTREAM_CX_TOTAL);
    if let Err(error) = &result {
        stats.inc(names::UPSTREAM_CX_CONNECT_FAIL);
        if error.kind() == io::ErrorKind::TimedOut {
            stats.inc(names::UPSTREAM_CX_CONNECT_TIMEOUT);
        }
    }
    result
}
