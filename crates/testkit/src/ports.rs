//! Free loopback ports for servers that must know their port before they start.
//!
//! Ports are taken below the range that the kernel hands out to outgoing connections, so a port that was free when
//! it was chosen is not taken by another process's client before the server binds it. Each port is handed out once per
//! process; the start of the walk differs between processes.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 11_000;
const SPAN: u32 = 10_000;
/// Distance of a Redis node's cluster bus from its client port.
pub(crate) const CLUSTER_BUS_OFFSET: u16 = 10_000;

static STEPS: AtomicU32 = AtomicU32::new(0);

/// A TCP port on which nothing listens.
///
/// # Panics
/// When no port of the range is free.
#[must_use]
pub fn free_port() -> u16 {
    candidates()
        .find(|&port| is_free(port))
        .expect("a free loopback port")
}

/// A port that is free together with the cluster bus port 10000 above it.
///
/// # Panics
/// When no such pair is free.
#[must_use]
pub fn free_redis_port() -> u16 {
    candidates()
        .find(|&port| is_free(port) && is_free(port + CLUSTER_BUS_OFFSET))
        .expect("a free pair of loopback ports")
}

fn candidates() -> impl Iterator<Item = u16> {
    let start = std::process::id().wrapping_mul(97);
    (0..SPAN).map(move |_| {
        let step = STEPS.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % SPAN;
        u16::try_from(port).expect("the range lies below 65536")
    })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once() {
        let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn the_bus_port_is_free_too() {
        let port = free_redis_port();
        assert!(TcpListener::bind(("127.0.0.1", port + CLUSTER_BUS_OFFSET)).is_ok());
    }
}
