//! The original_dst listener filter: where a redirected connection meant to go.
//!
//! Envoy: `Network::Utility::getOriginalDst`. Without an entry of the kernel's the local address stays; under TPROXY
//! that is the original destination already.

use std::net::SocketAddr;

use socket2::SockRef;

use super::peek::Peek;
use crate::stream::canonical;

/// The destination before the kernel redirected the connection, if it did.
pub(super) fn of(socket: &Peek, local: Option<SocketAddr>) -> Option<SocketAddr> {
    if !socket.is_tcp() {
        return None;
    }
    let socket = SockRef::from(socket);
    let told = match local? {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    told.ok().and_then(|address| address.as_socket()).map(canonical)
}
