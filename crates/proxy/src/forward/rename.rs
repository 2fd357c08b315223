//! Keys as they are forwarded: `remove_prefix` and `key_formatter`.

use redplane_config::redis_proxy::{KeyFormatter, KeyPiece};

use crate::engine::Engine;
use crate::filter::RouteTo;
use crate::pool::Live;

impl Engine {
    /// The key as it is forwarded.
    pub(crate) fn rename(&self, key: usize, route: &RouteTo, name: &[u8]) -> Vec<u8> {
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
                KeyPiece::RemoteAddress => session.remote.map(|a| a.to_string()),
                KeyPiece::RemoteAddressWithoutPort => session.remote.map(|a| a.ip().to_string()),
                KeyPiece::LocalAddress => session.local.map(|a| a.to_string()),
                KeyPiece::LocalAddressWithoutPort => session.local.map(|a| a.ip().to_string()),
                KeyPiece::LocalPort => session.local.map(|a| a.port().to_string()),
            };
            renamed.extend_from_slice(text.as_deref().unwrap_or("-").as_bytes());
        }
        renamed
    }

    /// Whether a key's cluster spreads keys by slot, so that keys in several slots cannot be served as one.
    pub(crate) fn is_cluster(&self, key: usize, name: &[u8]) -> bool {
        let route = self.filters[self.clients[key].filter].route(name);
        let live = route.and_then(|route| self.pools[route.pool].live.as_ref());
        live.is_some_and(Live::is_redis)
    }
}
