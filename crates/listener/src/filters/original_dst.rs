//! The original_dst listener filter: where a redirected connection meant to go.
//!
//! Envoy: `Network::Utility::getOriginalDst`. Without an entry of the kernel's the local address stays; under TPROXY
//! that is the original destination already, and counts as told.

use std::net::SocketAddr;

use redplane_world::ConnectionFacts;
use socket2::SockRef;

use super::peek::Peek;
use crate::stream::canonical;

/// Notes the destination before the kernel redirected the connection, if it did.
pub(super) fn look(socket: &Peek, facts: &mut ConnectionFacts) {
    let Some(local) = facts.destination.filter(|_| socket.is_tcp()) else {
        return;
    };
    let socket = SockRef::from(socket);
    let told = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    if let Some(destination) = told.ok().and_then(|address| address.as_socket()) {
        facts.restore(canonical(destination));
    }
    facts.restored |= socket.ip_transparent_v4().unwrap_or(false);
}
