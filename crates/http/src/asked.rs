//! A request that was checked and stamped, as filters, routes and the router see it.

use http::request::Parts;
use redplane_http_route::Head;
use redplane_http_route::request::Certificate;

use crate::check::Target;
use crate::downstream::Downstream;

/// A request that was checked and stamped.
pub(crate) struct Asked {
    pub(crate) parts: Parts,
    pub(crate) target: Target,
    /// The protocol that the client wants to change to.
    pub(crate) upgrade: Option<String>,
}

impl Asked {
    /// What routes look at.
    pub(crate) fn head<'a>(&'a self, downstream: &'a Downstream) -> Head<'a> {
        let peer = downstream.peer().is_some();
        Head {
            method: &self.parts.method,
            path: self.target.path.as_str(),
            authority: self.target.authority(),
            scheme: downstream.scheme(),
            headers: &self.parts.headers,
            certificate: Certificate {
                presented: peer,
                // A certificate that is not good ends the handshake.
                validated: peer,
            },
        }
    }
}
