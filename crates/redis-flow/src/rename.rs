//! Keys as they are forwarded: `remove_prefix` and `key_formatter`, applied to every key of a command.
//!
//! Envoy rewrites the key that it routes by and no other, so that `RENAME ab1 ab2` writes outside the prefix. Slots are
//! those of the names that the servers see.

use redplane_config::redis_proxy::{KeyFormatter, KeyPiece};
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pool::Live;
use redplane_resp::encode;
use redplane_resp::request::{Args, decode};

use crate::core::Core;
use crate::request::{Request, Served};

/// The answer to a key that is too long under its name upstream.
pub const TOO_LONG: &[u8] = b"-ERR Protocol error: invalid bulk length\r\n";

/// A request under the names that its keys have upstream.
pub struct Renamed {
    frame: Vec<u8>,
    args: Args,
}

impl Renamed {
    /// The request under its new key.
    pub fn request(&self) -> Request<'_> {
        Request {
            frame: &self.frame,
            args: &self.args,
            shared: None,
        }
    }
}

impl Core {
    /// A request under the names that its keys have upstream, which each one's own route says; `None` when that makes it
    /// longer than servers take ([`TOO_LONG`]).
    pub fn renamed(&self, key: usize, served: Served, request: &Request<'_>, at: usize) -> Option<Renamed> {
        let mut keys = vec![at];
        if let Served::Known(command) = served {
            keys.extend(redplane_command::keys(command, request.len(), |i| request.arg(i)));
        }
        keys.sort_unstable();
        let mut frame = Vec::with_capacity(request.frame.len());
        encode::array(&mut frame, request.len());
        for i in 0..request.len() {
            match keys.binary_search(&i) {
                Ok(_) => self.append_key(key, request.arg(i), &mut frame),
                Err(_) => encode::bulk(&mut frame, request.arg(i)),
            }
        }
        let mut args = Args::default();
        decode(&frame, &mut args, &mut None, true).ok()?;
        Some(Renamed { frame, args })
    }

    /// The key as it is forwarded.
    pub fn rename(&self, key: usize, route: &RouteTo, name: &[u8]) -> Vec<u8> {
        let cut = if route.remove_prefix {
            route.prefix.len().min(name.len())
        } else {
            0
        };
        let name = &name[cut..];
        let Some(formatter) = &route.formatter else {
            return name.to_vec();
        };
        let renamed = self.format_key(key, formatter, name);
        if renamed.is_empty() {
            name.to_vec()
        } else {
            renamed
        }
    }

    fn format_key(&self, key: usize, formatter: &KeyFormatter, name: &[u8]) -> Vec<u8> {
        let session = &self.clients[key].session;
        let mut renamed = Vec::new();
        for piece in &formatter.0 {
            let text = match piece {
                KeyPiece::Literal(text) => {
                    renamed.extend_from_slice(text);
                    continue;
                }
                KeyPiece::Key => {
                    renamed.extend_from_slice(name);
                    continue;
                }
                KeyPiece::RemoteAddress => session.socket.remote.map(|a| a.to_string()),
                KeyPiece::RemoteAddressWithoutPort => session.socket.remote.map(|a| a.ip().to_string()),
                KeyPiece::LocalAddress => session.socket.local.map(|a| a.to_string()),
                KeyPiece::LocalAddressWithoutPort => session.socket.local.map(|a| a.ip().to_string()),
                KeyPiece::LocalPort => session.socket.local.map(|a| a.port().to_string()),
            };
            renamed.extend_from_slice(text.as_deref().unwrap_or("-").as_bytes());
        }
        renamed
    }

    /// Whether a key's cluster spreads keys by slot, so that keys in several slots cannot be served as one.
    pub fn is_cluster(&self, key: usize, name: &[u8]) -> bool {
        let route = self.filters[self.clients[key].filter].route(name);
        let live = route.and_then(|route| self.pools[route.pool].live.as_ref());
        live.is_some_and(Live::is_redis)
    }
}
