//! Access rules of requests, enforced. What is decided, and how it is told, is the crate `rbac`'s business.

use std::rc::Rc;

use bytes::Bytes;
use redplane_config::rbac::{Action, HttpRbac};
use redplane_http_route::Head;
use redplane_rbac::{Connection, Decision, METADATA_HTTP, Metadata, Peer, Request};
use redplane_telemetry::stats::{rbac, rbac_shadow};
use redplane_world::FilterStats;
use serde_json::Value;

use crate::downstream::Downstream;
use crate::exchange::Exchange;
use crate::reply::LocalReply;

/// The hint for access logs stands under this name.
const COMMON: &str = "envoy.common";

/// Lets a request through, or answers it. `route` is the metadata of its route; `None` where it has no route.
pub(super) fn run(
    filter: &HttpRbac,
    stats: &FilterStats,
    head: &Head<'_>,
    route: Option<&Metadata>,
    exchange: &Rc<Exchange>,
) -> Result<(), LocalReply> {
    let values = |name: &str, each: &mut dyn FnMut(&[u8])| head.values(name, each);
    let nothing = Metadata::new();
    let told = exchange.told.borrow();
    let request = Request {
        remote: exchange.client.get().map(|client| client.ip()),
        headers: &values,
        metadata: told.metadata.as_deref().unwrap_or(&nothing),
        route_metadata: route,
    };
    let outcome = redplane_rbac::http(filter, &seen(&exchange.connection.facts), &request);
    drop(told);
    if let Some(shadow) = &outcome.shadow {
        count_shadow(shadow, stats, exchange);
        for (key, value) in redplane_rbac::shadow_metadata(&filter.shadow_prefix, shadow) {
            exchange.write_metadata(METADATA_HTTP, key, value);
        }
    }
    let Some(enforced) = outcome.enforced else {
        return Ok(());
    };
    if filter
        .rules
        .as_ref()
        .is_some_and(|rules| rules.action == Action::Log)
    {
        let hint = Value::Bool(enforced.policy.is_some());
        exchange.write_metadata(COMMON, "access_log_hint".to_owned(), hint);
    }
    if let FilterStats::Rbac(scope, _) = stats {
        let counter = if enforced.is_allowed {
            rbac::ALLOWED
        } else {
            rbac::DENIED
        };
        exchange.connection.worker.block(scope).inc(counter);
    }
    if enforced.is_allowed {
        return Ok(());
    }
    Err(LocalReply {
        details: redplane_rbac::details(&enforced).into(),
        ..LocalReply::new(403, Bytes::from_static(b"RBAC: access denied"))
    })
}

fn count_shadow(shadow: &Decision<'_>, stats: &FilterStats, exchange: &Exchange) {
    if let FilterStats::Rbac(_, scope) = stats {
        let counter = if shadow.is_allowed {
            rbac_shadow::SHADOW_ALLOWED
        } else {
            rbac_shadow::SHADOW_DENIED
        };
        exchange.connection.worker.block(scope).inc(counter);
    }
}

/// The connection's facts as rules ask about them.
fn seen(facts: &Downstream) -> Connection<'_> {
    Connection {
        direct_remote: facts.direct_remote.map(|remote| remote.ip()),
        remote: facts.remote.map(|remote| remote.ip()),
        destination: facts.local,
        server_name: facts.server_name.as_deref().unwrap_or_default(),
        tls: facts.tls.as_ref().map(|tls| Peer {
            is_validated: tls.is_validated,
            uri_sans: &tls.uri_sans,
            dns_sans: &tls.dns_sans,
            subject: tls.subject.as_deref().unwrap_or_default(),
        }),
    }
}
