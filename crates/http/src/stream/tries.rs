//! Tries: one after the other, until a response stands or the policy has had enough.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, Version};
use hyper::body::Incoming;
use redplane_config::http::route::{Forward, HostRewrite, RetryPolicy};
use redplane_http_route::grpc;
use redplane_http_route::retry::{self, Outcome, Reset};
use redplane_telemetry::Block;
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{self as upstream, Cluster, Host, Permit, Resource};
use tokio::time::{Instant, sleep, timeout};

use super::limits::Limits;
use super::mirror;
use crate::codes::Side;
use crate::exchange::Exchange;
use crate::feed::{Feed, RequestBody};
use crate::filters::Passed;
use crate::pool::{Lease, Place};
use crate::reply::{Known, LocalReply};
use crate::upstream::{Destination, Outgoing, TryFault, attempt, choose};

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// What the head of a try says of the try and of its host.
pub(super) struct TryHead {
    /// The server is told which try it is.
    pub(super) counts: bool,
    /// The name of the chosen host may become the request's Host.
    pub(super) auto_host: bool,
}

/// What every try of a request has in common.
pub(super) struct Tries<'a> {
    pub(super) exchange: &'a Rc<Exchange>,
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) stats: Rc<Block>,
    pub(super) action: &'a Forward,
    pub(super) head: TryHead,
    pub(super) passed: &'a Passed,
    pub(super) limits: Limits,
    pub(super) policy: Option<&'a RetryPolicy>,
    pub(super) hash: Option<u64>,
    pub(super) feed: &'a Feed,
    pub(super) is_upgrade: bool,
    /// The host of the try that is under way.
    pub(super) host: RefCell<Option<Arc<Host>>>,
}

impl Tries<'_> {
    /// Counts a response.
    fn charge(&self, side: Side, code: u16) {
        let codes = &self.exchange.connection.worker.codes;
        codes.count(self.cluster, &self.stats, side, code);
    }

    /// The route's time is over while a try is under way.
    pub(super) fn time_out(&self) {
        self.stats.inc(names::UPSTREAM_RQ_TIMEOUT);
        self.charge(Side::External, 504);
        if let Some(host) = &*self.host.borrow() {
            host.stats.rq_timeout.fetch_add(1, Relaxed);
            self.cluster
                .report(host, upstream::Outcome::None, fastrand::u32(..));
        }
    }
}

type Tried = Result<(Response<Incoming>, Lease), TryFault>;

/// Tries until there is a response that stands; with it, how many tries it took.
pub(super) async fn tries(
    plan: &Tries<'_>,
    outgoing: Outgoing,
) -> Result<(Response<Incoming>, Lease, u32), LocalReply> {
    let mut base = Some(outgoing);
    let mut number = 0;
    let mut avoid = Vec::new();
    let mut retrying = None;
    loop {
        number += 1;
        let retries = plan.policy.map_or(0, |policy| policy.retries);
        let may_repeat = number <= retries;
        let Some(mut outgoing) = (if may_repeat { base.clone() } else { base.take() }) else {
            return Err(Known::NoHost.into());
        };
        let Some(place) = place(plan, &avoid) else {
            plan.stats.inc(names::UPSTREAM_CX_NONE_HEALTHY);
            plan.charge(Side::External, 503);
            return Err(Known::NoHost.into());
        };
        stamp(plan, &mut outgoing, number);
        if number == 1 && !plan.is_upgrade {
            mirror::send(plan, &outgoing);
        }
        auto_host(plan, &mut outgoing, &place);
        plan.exchange.told.borrow_mut().host = Some(place.text());
        plan.host.replace(place.host().cloned());
        let tried = one(plan, outgoing, &place).await;
        // The last retry is over, and makes room for the next one.
        drop(retrying.take());
        count(plan, &place, &tried);
        retrying = again(plan, &tried, number, may_repeat);
        if let (Some(_), Some(policy)) = (&retrying, plan.policy) {
            if let Ok((response, _)) = &tried {
                plan.charge(Side::Retried, response.status().as_u16());
            }
            avoid.extend(place.host().map(|host| host.id));
            drop(tried);
            sleep(retry::back_off(policy, number, fastrand::u64(..))).await;
            continue;
        }
        return match tried {
            Ok((response, lease)) => {
                plan.charge(Side::External, response.status().as_u16());
                Ok((response, lease, number))
            }
            Err(fault) => {
                let reply = reply(plan, &fault, number);
                plan.charge(Side::External, reply.status);
                Err(reply)
            }
        };
    }
}

/// Leave to try again, if the policy wants to and may.
fn again(plan: &Tries<'_>, tried: &Tried, number: u32, may_repeat: bool) -> Option<Permit> {
    let wanted = plan
        .policy
        .is_some_and(|policy| retry::wants(policy, outcome(tried)));
    match (wanted, may_repeat) {
        (false, _) => {
            if number > 1 && tried.is_ok() {
                plan.stats.inc(names::UPSTREAM_RQ_RETRY_SUCCESS);
            }
            None
        }
        (true, false) => {
            plan.exchange.flag(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
            plan.stats.inc(names::UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED);
            None
        }
        (true, true) if !plan.feed.can_replay() => {
            plan.stats.inc(names::RETRY_OR_SHADOW_ABANDONED);
            None
        }
        (true, true) => {
            let permit = plan.cluster.admit_one(plan.action.high_priority, Resource::Retry);
            if permit.is_some() {
                plan.stats.inc(names::UPSTREAM_RQ_RETRY);
                plan.stats.inc(names::UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL);
            } else {
                plan.exchange.flag(ResponseFlags::UPSTREAM_OVERFLOW);
                plan.stats.inc(names::UPSTREAM_RQ_RETRY_OVERFLOW);
            }
            permit
        }
    }
}

fn place(plan: &Tries<'_>, avoid: &[u64]) -> Option<Place> {
    let attempts = match plan.policy {
        Some(policy) if policy.avoid_previous_hosts && !avoid.is_empty() => policy.host_attempts,
        _ => 0,
    };
    choose(
        plan.cluster,
        plan.hash,
        (avoid, attempts),
        &plan.exchange.connection.facts,
    )
}

async fn one(plan: &Tries<'_>, outgoing: Outgoing, place: &Place) -> Tried {
    let to = Destination {
        cluster: plan.cluster,
        stats: &plan.stats,
        place,
        alpn: plan.passed.alpn.as_ref(),
        pools: &plan.exchange.connection.worker.pools,
        version: plan.exchange.version,
        is_upgrade: plan.is_upgrade,
        high: plan.action.high_priority,
        local: Cell::new(None),
    };
    let body = |is_h2: bool| {
        if plan.feed.is_empty() {
            RequestBody::Empty
        } else {
            // HTTP/1 has no trailers on either side, as in Envoy.
            plan.feed
                .take_turn(!is_h2 || plan.exchange.version < Version::HTTP_2)
        }
    };
    let work = attempt(&to, outgoing, body, plan.feed.gate());
    let tried = match plan.limits.per_try {
        None => work.await,
        Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| {
            plan.stats.inc(names::UPSTREAM_RQ_PER_TRY_TIMEOUT);
            Err(TryFault::Reset(Reset::PerTryTimeout, None))
        }),
    };
    plan.exchange.told.borrow_mut().local = to.local.get();
    tried
}

/// What a server is told about this try.
fn stamp(plan: &Tries<'_>, outgoing: &mut Outgoing, number: u32) {
    if plan.head.counts {
        outgoing.headers.insert(ATTEMPT_COUNT, HeaderValue::from(number));
    }
    let left = plan.limits.response.map(|limit| {
        let since = plan.feed.end_time();
        let passed = if number == 1 {
            Duration::ZERO
        } else {
            Instant::now().saturating_duration_since(since)
        };
        limit.saturating_sub(passed).max(Duration::from_millis(1))
    });
    let expected = match (left, plan.limits.per_try) {
        (Some(left), Some(try_limit)) => Some(left.min(try_limit)),
        (left, try_limit) => left.or(try_limit),
    };
    if let Some(expected) = expected.filter(|_| !plan.passed.router.suppress_envoy_headers) {
        let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
        outgoing
            .headers
            .insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
    }
    if let (true, Some(expected)) = (plan.limits.tells_grpc, expected)
        && let Ok(text) = HeaderValue::from_str(&grpc::timeout_text(expected))
    {
        outgoing.headers.insert(GRPC_TIMEOUT, text);
    }
}

/// `auto_host_rewrite`.
fn auto_host(plan: &Tries<'_>, outgoing: &mut Outgoing, place: &Place) {
    let auto = plan.head.auto_host && plan.action.host == HostRewrite::Auto;
    if let Some(host) = place.host().filter(|host| auto && !host.hostname.is_empty())
        && let Ok(name) = HeaderValue::from_str(&host.hostname)
    {
        outgoing.authority = name;
    }
}

fn outcome(tried: &Tried) -> Outcome<'_> {
    match tried {
        Ok((response, _)) => Outcome::Response(response.status().as_u16(), response.headers()),
        Err(TryFault::Reset(reset, _)) => Outcome::Reset(*reset),
    }
}

/// What became of a try, for the host's and the cluster's counters.
fn count(plan: &Tries<'_>, place: &Place, tried: &Tried) {
    let Some(host) = place.host() else { return };
    let good = tried
        .as_ref()
        .is_ok_and(|(response, _)| response.status().as_u16() < 500);
    let counter = if good {
        &host.stats.rq_success
    } else {
        &host.stats.rq_error
    };
    counter.fetch_add(1, Relaxed);
    let seen = match tried {
        Ok((response, _)) => upstream::Outcome::Answer(response.status().as_u16()),
        // Not the host's doing.
        Err(TryFault::Reset(Reset::Overflow, _)) => return,
        Err(_) => upstream::Outcome::None,
    };
    plan.cluster.report(host, seen, fastrand::u32(..));
}

/// The answer for a request of which every try has failed.
fn reply(plan: &Tries<'_>, fault: &TryFault, number: u32) -> LocalReply {
    let (reset, transport) = match fault {
        TryFault::Reset(Reset::PerTryTimeout, _) => return Known::PerTryTimeout.into(),
        TryFault::Reset(reset, transport) => (*reset, transport.as_deref()),
    };
    let (status, text, flag) = match reset {
        Reset::Connect => (
            503,
            "remote connection failure",
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        ),
        Reset::ConnectTimeout => (
            503,
            "connection timeout",
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        ),
        Reset::Closed { .. } | Reset::PerTryTimeout => (
            503,
            "connection termination",
            ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
        ),
        Reset::Refused => (
            503,
            "remote refused stream reset",
            ResponseFlags::UPSTREAM_REMOTE_RESET,
        ),
        Reset::Remote => (503, "remote reset", ResponseFlags::UPSTREAM_REMOTE_RESET),
        Reset::Protocol => (502, "protocol error", ResponseFlags::UPSTREAM_PROTOCOL_ERROR),
        Reset::Overflow => (503, "overflow", ResponseFlags::UPSTREAM_OVERFLOW),
    };
    let again = if number > 1 { "retried and the latest " } else { "" };
    let body =
        format!("upstream connect error or disconnect/reset before headers. {again}reset reason: {text}");
    let transport_text = transport.map(|text| format!("|{text}")).unwrap_or_default();
    plan.exchange.told.borrow_mut().failure = transport.map(str::to_owned);
    let details = format!("upstream_reset_before_response_started{{{text}{transport_text}}}");
    let mut reply = LocalReply {
        flags: flag,
        details: details.replace(' ', "_").into(),
        ..LocalReply::new(status, Bytes::from(body))
    };
    if reset == Reset::Overflow {
        reply.headers.insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    reply
}
