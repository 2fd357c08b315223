//! Limits of time of one request.
//!
//! Envoy: `Router::FilterUtility::finalTimeout`. The route's timeout runs from the end of the request to the end of the
//! response, all tries together. gRPC requests bring their own, where the route says so.

use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use redplane_config::http::route::Forward;
use redplane_http_route::grpc;
use tokio::time::{Instant, sleep_until};

use crate::exchange::Exchange;
use crate::feed::Feed;
use crate::reply::{Known, LocalReply};

/// The limits of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// From the end of the request to the end of the response.
    pub(super) response: Option<Duration>,
    /// One try, until its head.
    pub(super) per_try: Option<Duration>,
    /// The whole stream.
    stream: Option<Duration>,
    /// A stream on which nothing moves.
    idle: Option<Duration>,
    /// A whole request.
    request: Option<Duration>,
    /// gRPC is told how long it may take.
    pub(super) tells_grpc: bool,
}

impl Limits {
    pub(super) fn new(action: &Forward, headers: &HeaderMap, exchange: &Exchange) -> Self {
        let timeouts = &action.timeouts;
        let own = &exchange.connection.service.config.timeouts;
        let is_grpc = exchange.grpc.get();
        let response = match timeouts.grpc_max.filter(|_| is_grpc) {
            None => timeouts.response,
            Some(max) => {
                let asked = grpc::timeout(headers).unwrap_or_default();
                let capped = if !max.is_zero() && (asked > max || asked.is_zero()) {
                    max
                } else {
                    asked
                };
                (!capped.is_zero()).then_some(capped)
            }
        };
        Self {
            response,
            per_try: action.retry.as_ref().and_then(|retry| retry.per_try_timeout),
            stream: timeouts.stream.unwrap_or(own.stream),
            idle: timeouts.idle.unwrap_or(own.stream_idle),
            request: own.request,
            tells_grpc: is_grpc && timeouts.grpc_max.is_some(),
        }
    }

    /// Waits for the first limit that is reached before there is a response.
    pub(super) async fn reached(&self, feed: &Feed, exchange: &Rc<Exchange>) -> LocalReply {
        let start = exchange.progress.start;
        let response = async {
            match self.response {
                Some(limit) => {
                    feed.ended().await;
                    sleep_until(feed.end_time() + limit).await;
                }
                None => pending().await,
            }
        };
        let stream = until(self.stream.map(|limit| start + limit));
        let idle = async {
            match self.idle {
                Some(limit) => nothing_moves(limit, exchange).await,
                None => pending().await,
            }
        };
        let request = async {
            until(self.request.map(|limit| start + limit)).await;
            if feed.has_ended() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = response => Known::Timeout.into(),
            () = stream => Known::MaxStreamDuration.into(),
            () = idle => LocalReply {
                status: if feed.has_ended() { 504 } else { 408 },
                ..Known::StreamIdle.into()
            },
            () = request => Known::RequestTimeout.into(),
        }
    }

    /// The limit of the response's body; `None` where there is none, so that nothing is allocated.
    pub(super) fn of_body(
        &self,
        feed: &Feed,
        exchange: &Rc<Exchange>,
    ) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        if self.response.is_none() && self.stream.is_none() && self.idle.is_none() {
            return None;
        }
        let (limits, feed, exchange) = (*self, feed.clone(), Rc::clone(exchange));
        Some(Box::pin(async move {
            drop(limits.reached(&feed, &exchange).await);
        }))
    }
}

/// The timer is set anew only when it fires, not with every piece of a body.
async fn nothing_moves(limit: Duration, exchange: &Exchange) {
    loop {
        let end = exchange.progress.moved.get() + limit;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}
