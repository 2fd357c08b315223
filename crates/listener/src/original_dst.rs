//! Where a redirected connection meant to go: `use_original_dst` and the original_dst listener filter.
//!
//! Envoy: `Network::Utility::getOriginalDst`. Without an entry of the kernel's the local address stays; under TPROXY
//! that is the original destination already.

use std::net::SocketAddr;

use socket2::SockRef;

use crate::redis::Stream;
use crate::stream::canonical;

/// The destination before the kernel redirected the connection, if it did.
pub(crate) fn of(stream: &Stream, local: Option<SocketAddr>) -> Option<SocketAddr> {
    let Stream::Tcp(stream) = stream else {
        return None;
    };
    let socket = SockRef::from(stream);
    let told = match local? {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    told.ok().and_then(|address| address.as_socket()).map(canonical)
}
