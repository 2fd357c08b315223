//! Keys as they are forwarded: `remove_prefix` and `key_formatter`, applied to every key of a command.
//!
//! Envoy rewrites the key that it routes by and no other, so that `RENAME ab1 ab2` writes outside the prefix. Slots are
//! those of the names that the servers see.

use std::rc::Rc;

use redplane_command::{SlotOf, error};
use redplane_config::redis_proxy::{KeyFormatter, KeyPiece};
use redplane_resp::encode;
use redplane_resp::request::{Args, decode};

use crate::dispatch::{Request, Served};
use crate::engine::Engine;
use crate::filter::RouteTo;
use crate::pool::Live;

/// A request under the names that its keys have upstream.
pub(crate) struct Renamed {
    frame: Vec<u8>,
    args: Args,
}

impl Renamed {
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            frame: &self.frame,
            args: &self.args,
            shared: None,
        }
    }
}

impl Engine {
    /// Forwards a request on a route that changes keys.
    pub(super) fn forward_renamed(
        &mut self,
        key: usize,
        served: Served,
        route: &Rc<RouteTo>,
        request: &Request<'_>,
        at: usize,
    ) {
        let Some(renamed) = self.renamed(key, served, route, request, at) else {
            return self.answer(key, error::CROSSSLOT);
        };
        let request = renamed.request();
        let by_slot = self.pools[route.pool].live.as_ref().is_some_and(Live::is_redis);
        if by_slot && slots(served, &request) == SlotOf::Cross {
            return self.answer(key, error::CROSSSLOT);
        }
        self.forward_on(key, served, route, request.arg(at), &request);
    }

    /// A request under the names that its keys have upstream; `None` when one of them belongs to another route, whose
    /// names and servers are others.
    pub(crate) fn renamed(
        &self,
        key: usize,
        served: Served,
        route: &Rc<RouteTo>,
        request: &Request<'_>,
        at: usize,
    ) -> Option<Renamed> {
        let mut keys = vec![at];
        if let Served::Known(command) = served {
            keys.extend(redplane_command::keys(command, request.len(), |i| request.arg(i)));
        }
        let filter = &self.filters[self.clients[key].filter];
        let stays = |at: &usize| {
            filter
                .route(request.arg(*at))
                .is_some_and(|own| Rc::ptr_eq(own, route))
        };
        if !keys.iter().all(stays) {
            return None;
        }
        keys.sort_unstable();
        let mut frame = Vec::with_capacity(request.frame.len());
        encode::array(&mut frame, request.len());
        for i in 0..request.len() {
            match keys.binary_search(&i) {
                Ok(_) => encode::bulk(&mut frame, &self.rename(key, route, request.arg(i))),
                Err(_) => encode::bulk(&mut frame, request.arg(i)),
            }
        }
        let mut args = Args::default();
        // What was just written is whole.
        decode(&frame, &mut args, &mut None, true).ok()?;
        Some(Renamed { frame, args })
    }

    /// Whether a key is forwarded as it came.
    pub(crate) fn keeps_key(&self, key: usize, name: &[u8]) -> bool {
        let route = self.filters[self.clients[key].filter].route(name);
        route.is_none_or(|route| route.keeps_key)
    }

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

/// The slot of a request's keys.
pub(crate) fn slots(served: Served, request: &Request<'_>) -> SlotOf {
    match served {
        Served::Known(command) => redplane_command::slots(command, request.len(), |i| request.arg(i)),
        Served::Custom(_) => SlotOf::One(redplane_command::slot(request.arg(1))),
    }
}
