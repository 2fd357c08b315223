//! Listeners on real sockets: what clients see of accept, TLS, tcp_proxy, updates and drain.

#![allow(clippy::unwrap_used)]

mod integration {
    mod filters;
    mod handover;
    mod life;
    mod pushes;
    mod sockets;
    mod tcp_proxy;
    mod tls;
    pub(crate) mod world;
}
