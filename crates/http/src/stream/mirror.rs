//! Copies of requests to other clusters: their answers are thrown away, and nobody waits for them.
//!
//! A copy is a task of its own that hears the body as it comes. Envoy: `source/common/router/shadow_writer_impl.cc`.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue};
use http_body::Body;
use hyper::body::Incoming;
use redplane_config::http::filter::AlpnOverride;
use redplane_config::http::route::Mirror;
use redplane_upstream::Cluster;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::tries::Tries;
use crate::codes::Side;
use crate::downstream::Downstream;
use crate::feed::RequestBody;
use crate::filters::drawn;
use crate::stamp;
use crate::upstream::{Destination, Outgoing, attempt, choose};
use crate::worker::Worker;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");

/// One copy on its way.
struct Copy {
    worker: Rc<Worker>,
    cluster: Arc<Cluster>,
    alpn: Option<AlpnOverride>,
    version: http::Version,
    outgoing: Outgoing,
    body: RequestBody,
}

/// Sends the copies of a request that its route asks for. Clusters that are not known get none.
pub(super) fn send(plan: &Tries<'_>, outgoing: &Outgoing) {
    let shared = &plan.exchange.connection;
    for mirror in plan.action.mirrors.iter().filter(|mirror| drawn(mirror.fraction)) {
        let name = match &mirror.cluster {
            Ok(name) => Some(&**name),
            Err(header) => outgoing.headers.get(header).and_then(|name| name.to_str().ok()),
        };
        let Some(cluster) = name.and_then(|name| shared.worker.cluster(name)) else {
            continue;
        };
        let copy = Copy {
            worker: Rc::clone(&shared.worker),
            cluster,
            alpn: plan.passed.alpn.clone(),
            version: plan.exchange.version,
            outgoing: copied(mirror, outgoing),
            body: plan.feed.mirror(),
        };
        let limit = plan.limits.response;
        spawn_local(async move {
            match limit {
                Some(limit) => drop(timeout(limit, run(copy)).await),
                None => run(copy).await,
            }
        });
    }
}

/// The head of a copy.
fn copied(mirror: &Mirror, outgoing: &Outgoing) -> Outgoing {
    let mut copy = outgoing.clone();
    copy.headers.insert(INTERNAL, HeaderValue::from_static("true"));
    if let Ok(own) = HeaderValue::from_str(&own_address().to_string()) {
        stamp::append(&mut copy.headers, stamp::FORWARDED_FOR, &own);
    }
    if let Some(host) = &mirror.host {
        copy.authority = host.clone();
    } else if mirror.suffix
        && let Some(Ok(host)) = copy.authority.to_str().ok().map(shadow)
    {
        copy.authority = host;
    }
    copy
}

/// The name of a host with `-shadow`, in front of its port.
fn shadow(host: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let port = host.rfind(':').filter(|at| *at > host.rfind(']').unwrap_or(0));
    let (name, port) = host.split_at(port.unwrap_or(host.len()));
    HeaderValue::from_str(&format!("{name}-shadow{port}"))
}

/// The address that this machine leaves by.
fn own_address() -> IpAddr {
    static OWN: OnceLock<IpAddr> = OnceLock::new();
    *OWN.get_or_init(|| {
        // Nothing is sent: the kernel is asked which address it would take.
        let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
            socket.local_addr()
        });
        found.map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
    })
}

async fn run(copy: Copy) {
    let Some(place) = choose(&copy.cluster, None, (&[], 0), &Downstream::default()) else {
        return;
    };
    let stats = copy.worker.block(copy.cluster.stats());
    let to = Destination {
        cluster: &copy.cluster,
        stats: &stats,
        place: &place,
        alpn: copy.alpn.as_ref(),
        pools: &copy.worker.pools,
        version: copy.version,
        is_upgrade: false,
        high: false,
        local: Cell::new(None),
    };
    let tap = copy.body.tap();
    // A copy that fails costs the client nothing.
    let tried = attempt(&to, copy.outgoing, |_| copy.body, None).await;
    let code = tried
        .as_ref()
        .map_or(503, |(response, _)| response.status().as_u16());
    copy.worker
        .codes
        .count(&copy.cluster, &stats, Side::Internal, code);
    let Ok((response, lease)) = tried else { return };
    if read(response.into_body()).await {
        lease.done(tap.is_none_or(|tap| tap.is_over()));
    }
}

/// Reads a body to its end; `false` where it has none.
async fn read(body: Incoming) -> bool {
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_port() {
        for (host, expected) in [
            ("a.test", "a.test-shadow"),
            ("a.test:80", "a.test-shadow:80"),
            ("[::1]:80", "[::1]-shadow:80"),
            ("[::1]", "[::1]-shadow"),
        ] {
            assert_eq!(shadow(host).unwrap(), expected);
        }
    }
}
