//! Faults on purpose: a delay, then an abort. Envoy: `source/extensions/filters/http/fault`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use redplane_config::http::filter::{Abort, AbortStatus, Fault};
use redplane_http_route::Head;
use redplane_telemetry::CounterId;
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::fault as names;
use redplane_world::FilterStats;

use super::{block, drawn};
use crate::exchange::Exchange;
use crate::reply::LocalReply;

thread_local! {
    /// Faults that this worker is at.
    static ACTIVE: Cell<u32> = const { Cell::new(0) };
}

/// Counts a fault as long as it lasts.
struct Counted;

impl Counted {
    fn begin(limit: Option<u32>) -> Option<Self> {
        ACTIVE.with(|active| {
            let count = active.get();
            if limit.is_some_and(|limit| count >= limit) {
                return None;
            }
            active.set(count + 1);
            Some(Self)
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ACTIVE.with(|active| active.set(active.get() - 1));
    }
}

/// Does what the fault says to a request.
pub(super) async fn run(
    fault: &Fault,
    head: &Head<'_>,
    cluster: Option<&str>,
    exchange: &Rc<Exchange>,
    stats: &FilterStats,
) -> Result<(), LocalReply> {
    if !concerns(fault, head, cluster) {
        return Ok(());
    }
    let delay = fault.delay.filter(|delay| drawn(delay.share)).and_then(|delay| {
        delay
            .time
            .or_else(|| header(head, "x-envoy-fault-delay-request").map(Duration::from_millis))
    });
    let Some(_counted) = Counted::begin(fault.max_active) else {
        count(stats, exchange, names::FAULTS_OVERFLOW);
        return Ok(());
    };
    if let Some(delay) = delay {
        exchange.flag(ResponseFlags::DELAY_INJECTED);
        count(stats, exchange, names::DELAYS_INJECTED);
        tokio::time::sleep(delay).await;
    }
    match &fault.abort {
        Some(abort) if drawn(abort.share) => abort_reply(abort, head).map_or(Ok(()), |reply| {
            count(stats, exchange, names::ABORTS_INJECTED);
            Err(reply)
        }),
        _ => Ok(()),
    }
}

fn count(stats: &FilterStats, exchange: &Exchange, counter: CounterId) {
    if let Some(block) = block(stats, exchange) {
        block.inc(counter);
    }
}

fn concerns(fault: &Fault, head: &Head<'_>, cluster: Option<&str>) -> bool {
    let node = head.headers.get("x-envoy-downstream-service-node");
    (fault.upstream_cluster.is_empty() || cluster == Some(fault.upstream_cluster.as_str()))
        && fault
            .headers
            .iter()
            .all(|matcher| matcher.matches(|each| head.values(&matcher.name, each)))
        && (fault.downstream_nodes.is_empty()
            || node.is_some_and(|node| {
                fault
                    .downstream_nodes
                    .iter()
                    .any(|known| known.as_bytes() == node.as_bytes())
            }))
}

fn header(head: &Head<'_>, name: &str) -> Option<u64> {
    head.headers.get(name)?.to_str().ok()?.parse().ok()
}

fn abort_reply(abort: &Abort, head: &Head<'_>) -> Option<LocalReply> {
    let (status, grpc) = match abort.status {
        AbortStatus::Http(status) => (status, None),
        AbortStatus::Grpc(grpc) => (200, Some(grpc)),
        AbortStatus::Header => match header(head, "x-envoy-fault-abort-request") {
            Some(status @ 200..=599) => (status as u16, None),
            _ => (
                200,
                Some(u32::try_from(header(head, "x-envoy-fault-abort-grpc-request")?).ok()?),
            ),
        },
    };
    Some(LocalReply {
        flags: ResponseFlags::FAULT_INJECTED,
        details: "fault_filter_abort".into(),
        grpc_status: grpc,
        ..LocalReply::new(status, Bytes::from_static(b"fault filter abort"))
    })
}
