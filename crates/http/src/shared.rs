//! What the streams of one downstream connection share: its facts, its limits, its counts.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redplane_telemetry::Block;
use redplane_telemetry::stats::http as names;
use redplane_world::HttpService;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::downstream::Downstream;
use crate::worker::Worker;

/// What the streams of one connection share.
pub(crate) struct Shared {
    pub(crate) facts: Downstream,
    pub(crate) service: Arc<HttpService>,
    pub(crate) worker: Rc<Worker>,
    /// `http.<stat_prefix>.`
    pub(crate) stats: Rc<Block>,
    active: Cell<usize>,
    requests: Cell<u32>,
    idle_since: Cell<Instant>,
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
            facts,
            service,
            worker,
            stats,
            active: Cell::new(0),
            requests: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
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
    pub(crate) fn begin(&self) {
        self.stats.inc(names::DOWNSTREAM_RQ_TOTAL);
        self.stats.inc(names::DOWNSTREAM_RQ_ACTIVE);
        self.active.set(self.active.get() + 1);
        self.requests.set(self.requests.get().saturating_add(1));
        let most = self.service.config.limits.requests_per_connection;
        if most.is_some_and(|most| self.requests.get() >= most) && !self.draining.replace(true) {
            self.stats.inc(names::DOWNSTREAM_CX_MAX_REQUESTS_REACHED);
            self.last.notify_one();
        }
    }

    /// A request is over.
    pub(crate) fn end(&self) {
        self.active.set(self.active.get() - 1);
        if self.active.get() == 0 {
            self.idle_since.set(Instant::now());
        }
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
            () = self.idle(timeouts.idle) => self.stats.inc(names::DOWNSTREAM_CX_IDLE_TIMEOUT),
            () = age => self.stats.inc(names::DOWNSTREAM_CX_MAX_DURATION_REACHED),
            () = self.last.notified() => {}
        }
    }

    /// The timer is set anew only when it fires, not with every request.
    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return pending().await;
        };
        loop {
            let now = Instant::now();
            let at = if self.active.get() > 0 {
                now + limit
            } else {
                self.idle_since.get() + limit
            };
            if at <= now {
                return;
            }
            tokio::time::sleep_until(at).await;
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
