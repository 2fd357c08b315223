//! What the streams of one downstream connection share: its facts, its limits, its counts.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;

use redplane_telemetry::Block;
use redplane_telemetry::stats::http as names;
use redplane_world::HttpService;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::downstream::Downstream;
use crate::load::Load;
use crate::worker::Worker;

/// What the streams of one connection share.
pub(crate) struct Shared {
    pub(crate) facts: Downstream,
    pub(crate) service: Arc<HttpService>,
    pub(crate) worker: Rc<Worker>,
    /// `http.<stat_prefix>.`
    pub(crate) stats: Rc<Block>,
    /// The same, of the router.
    pub(crate) router: Rc<Block>,
    load: Load,
    requests: Cell<u32>,
    last: Notify,
    draining: Cell<bool>,
}

impl Shared {
    pub(crate) fn new(facts: Downstream, service: Arc<HttpService>, worker: Rc<Worker>) -> Rc<Self> {
        let stats = worker.block(&service.scope);
        stats.inc(names::DOWNSTREAM_CX_TOTAL);
        stats.inc(names::DOWNSTREAM_CX_ACTIVE);
        if facts.tls.is_some() {
            stats.inc(names::DOWNSTREAM_CX_SSL_TOTAL);
            stats.inc(names::DOWNSTREAM_CX_SSL_ACTIVE);
        }
        Rc::new(Self {
            router: worker.block(&service.router),
            facts,
            service,
            worker,
            stats,
            load: Load::new(Instant::now()),
            requests: Cell::new(0),
            last: Notify::new(),
            draining: Cell::new(false),
        })
    }

    /// Whether requests are logged.
    pub(crate) fn logs(&self) -> bool {
        !self.service.access_logs.is_empty()
    }

    /// The connection takes no more requests: HTTP/1 answers say so.
    pub(crate) fn closes(&self) -> bool {
        self.draining.get()
    }

    /// From here on it does.
    pub(crate) fn leave(&self) {
        self.draining.set(true);
    }

    /// A request has begun.
    pub(crate) fn begin(&self, is_h2: bool) {
        self.stats.inc(names::DOWNSTREAM_RQ_TOTAL);
        self.stats.inc(if is_h2 {
            names::DOWNSTREAM_RQ_HTTP2_TOTAL
        } else {
            names::DOWNSTREAM_RQ_HTTP1_TOTAL
        });
        self.stats.inc(names::DOWNSTREAM_RQ_ACTIVE);
        self.load.begin();
        self.requests.set(self.requests.get().saturating_add(1));
        let most = self.service.config.limits.requests_per_connection;
        if most.is_some_and(|most| self.requests.get() >= most) && !self.draining.replace(true) {
            self.stats.inc(names::DOWNSTREAM_CX_MAX_REQUESTS_REACHED);
            self.last.notify_one();
        }
    }

    /// A request is over.
    pub(crate) fn end(&self) {
        self.load.end();
    }

    /// Waits until the connection has to end: idle for too long, too old, or at its last request.
    pub(crate) async fn limit(&self) {
        let timeouts = &self.service.config.timeouts;
        let age = async {
            match timeouts.connection {
                Some(limit) => tokio::time::sleep(limit).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.load.idle(timeouts.idle) => self.stats.inc(names::DOWNSTREAM_CX_IDLE_TIMEOUT),
            () = age => self.stats.inc(names::DOWNSTREAM_CX_MAX_DURATION_REACHED),
            () = self.last.notified() => {}
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stats.dec(names::DOWNSTREAM_CX_ACTIVE);
        self.stats.inc(names::DOWNSTREAM_CX_DESTROY);
        if self.facts.tls.is_some() {
            self.stats.dec(names::DOWNSTREAM_CX_SSL_ACTIVE);
        }
    }
}
