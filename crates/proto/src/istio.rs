//! Istio's own messages that Istiod puts on the wire (istio/proxy; sources in `proto/README.md`).
//!
//! redplane reads them to show them and to know what it leaves out; vanilla Envoy refuses them.

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    pub mod stats {
        include!(concat!(env!("OUT_DIR"), "/stats.rs"));
    }
    pub mod alpn {
        include!(concat!(
            env!("OUT_DIR"),
            "/istio.envoy.config.filter.http.alpn.v2alpha1.rs"
        ));
    }
    pub mod metadata_exchange {
        include!(concat!(env!("OUT_DIR"), "/envoy.tcp.metadataexchange.config.rs"));
    }
    pub mod peer_metadata {
        include!(concat!(env!("OUT_DIR"), "/io.istio.http.peer_metadata.rs"));
    }
}

pub use generated::{alpn, metadata_exchange, peer_metadata, stats};
