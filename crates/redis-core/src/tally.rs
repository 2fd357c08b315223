//! Counting in runs: what happens many times over in one turn is noted with a comparison and added up once.
//!
//! Requests of one kind come in rows, and all replies of a turn to requests of a turn took the same time. A tally keeps
//! the row that is going on; when another begins, or the turn ends, it goes into the statistics, which are behind by no
//! more than the turn. Nothing is counted twice or lost: whoever takes a filter or a connection away adds up first.

use std::sync::atomic::Ordering::Relaxed;

use redplane_command::CommandId;
use redplane_telemetry::stats::{cluster, redis_cluster, redis_command, redis_proxy, upstream_command};
use redplane_upstream::Host;
use slab::Slab;

use crate::filter::{Filter, Outcome};
use crate::pool::Live;

/// A row of the same thing, which is one word: it is compared for each request and each reply.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    what: u64,
    count: u64,
}

impl Run {
    /// Counts one more. Gives back the former run when another begins.
    #[inline]
    fn note(&mut self, what: u64) -> Option<(u64, u64)> {
        if self.what == what {
            self.count += 1;
            return None;
        }
        let former = self.take();
        *self = Self { what, count: 1 };
        former
    }

    #[inline]
    fn take(&mut self) -> Option<(u64, u64)> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then_some((self.what, count))
    }
}

/// What clients of one filter asked and were answered. The engine keeps it for the filter that it served last.
#[derive(Debug, Default)]
pub struct Downstream {
    filter: usize,
    received: u64,
    sent: u64,
    requests: u64,
    begun: u64,
    asked: Run,
    ended: Run,
    ended_count: u64,
}

impl Downstream {
    /// Bytes came.
    #[inline]
    pub fn received(&mut self, filter: usize, filters: &Slab<Filter>, count: usize) {
        self.face(filter, filters);
        self.received += count as u64;
    }

    /// Bytes were written.
    #[inline]
    pub fn sent(&mut self, filter: usize, filters: &Slab<Filter>, count: usize) {
        self.face(filter, filters);
        self.sent += count as u64;
    }

    /// A request came.
    #[inline]
    pub fn request(&mut self, filter: usize, filters: &Slab<Filter>) {
        self.face(filter, filters);
        self.requests += 1;
    }

    /// It is a command that is served.
    #[inline]
    pub fn asked(&mut self, filter: usize, filters: &Slab<Filter>, command: CommandId) {
        self.face(filter, filters);
        if let Some(former) = self.asked.note(u64::from(command.0)) {
            self.add_asked(filters, former);
        }
    }

    /// A request came, is a command that is served, and waits for a reply: all at once.
    #[inline]
    pub fn sent_on(&mut self, filter: usize, filters: &Slab<Filter>, command: CommandId) {
        self.asked(filter, filters, command);
        self.requests += 1;
        self.begun += 1;
    }

    /// It waits for a reply from a server.
    #[inline]
    pub fn begun(&mut self, filter: usize, filters: &Slab<Filter>) {
        self.face(filter, filters);
        self.begun += 1;
    }

    /// The reply is there.
    #[inline]
    pub fn ended(&mut self, filter: usize, filters: &Slab<Filter>, outcome: Outcome) {
        self.face(filter, filters);
        self.ended_count += 1;
        if let Some(former) = self.ended.note(outcome.word()) {
            self.add_ended(filters, former);
        }
    }

    /// Whatever is noted next is about this filter.
    #[inline(always)]
    fn face(&mut self, filter: usize, filters: &Slab<Filter>) {
        if self.filter != filter {
            self.turn_to(filter, filters);
        }
    }

    #[inline(never)]
    fn turn_to(&mut self, filter: usize, filters: &Slab<Filter>) {
        self.add_up(filters);
        self.filter = filter;
    }

    #[inline(never)]
    fn add_asked(&self, filters: &Slab<Filter>, (command, count): (u64, u64)) {
        let command = CommandId(command as u16);
        if let Some(cells) = filters.get(self.filter).and_then(|filter| filter.cells(command)) {
            cells.add(redis_command::TOTAL, count);
        }
    }

    #[inline(never)]
    fn add_ended(&self, filters: &Slab<Filter>, (outcome, count): (u64, u64)) {
        if let Some(filter) = filters.get(self.filter) {
            filter.count(Outcome::of_word(outcome), count);
        }
    }

    /// Adds everything to the filter's statistics.
    pub fn add_up(&mut self, filters: &Slab<Filter>) {
        if let Some(former) = self.asked.take() {
            self.add_asked(filters, former);
        }
        if let Some(former) = self.ended.take() {
            self.add_ended(filters, former);
        }
        let requests = std::mem::take(&mut self.requests);
        let (begun, ended) = (
            std::mem::take(&mut self.begun),
            std::mem::take(&mut self.ended_count),
        );
        let (received, sent) = (std::mem::take(&mut self.received), std::mem::take(&mut self.sent));
        let Some(filter) = filters.get(self.filter) else {
            return;
        };
        if received > 0 {
            filter
                .stats
                .add(redis_proxy::DOWNSTREAM_CX_RX_BYTES_TOTAL, received);
        }
        if sent > 0 {
            filter.stats.add(redis_proxy::DOWNSTREAM_CX_TX_BYTES_TOTAL, sent);
        }
        if requests > 0 {
            filter.stats.add(redis_proxy::DOWNSTREAM_RQ_TOTAL, requests);
        }
        if begun > 0 {
            filter.stats.add(redis_proxy::DOWNSTREAM_RQ_ACTIVE, begun);
        }
        if ended > 0 {
            filter.stats.sub(redis_proxy::DOWNSTREAM_RQ_ACTIVE, ended);
        }
    }
}

/// What was sent on one connection and what came back. The connection keeps it.
#[derive(Debug, Default)]
pub struct Upstream {
    requests: u64,
    successes: u64,
    errors: u64,
    asked: Run,
    ended: Run,
}

impl Upstream {
    /// A request was put into the output; `command` where it is counted by command.
    #[inline]
    pub fn sent(&mut self, command: Option<CommandId>, live: Option<&mut Live>) {
        self.requests += 1;
        if let Some(command) = command
            && let Some(former) = self.asked.note(u64::from(command.0))
        {
            add_asked(live, former);
        }
    }

    /// Its reply came.
    #[inline]
    pub fn answered(&mut self, outcome: Outcome, live: Option<&mut Live>) {
        if outcome.success {
            self.successes += 1;
        } else {
            self.errors += 1;
        }
        if let Some(former) = self.ended.note(outcome.word()) {
            add_ended(live, former);
        }
    }

    /// Adds everything to the statistics of the host, which all workers share, and of the cluster.
    pub fn add_up(&mut self, host: &Host, mut live: Option<&mut Live>) {
        if let Some(former) = self.asked.take() {
            add_asked(live.as_deref_mut(), former);
        }
        if let Some(former) = self.ended.take() {
            add_ended(live.as_deref_mut(), former);
        }
        let (successes, errors) = (
            std::mem::take(&mut self.successes),
            std::mem::take(&mut self.errors),
        );
        self.add_requests(host, live.as_deref());
        let ended = successes + errors;
        if ended == 0 {
            return;
        }
        host.stats.rq_active.fetch_sub(ended, Relaxed);
        host.stats.rq_success.fetch_add(successes, Relaxed);
        host.stats.rq_error.fetch_add(errors, Relaxed);
        if let Some(live) = live {
            live.stats.sub(cluster::UPSTREAM_RQ_ACTIVE, ended);
            live.stats.add(cluster::UPSTREAM_RQ_COMPLETED, ended);
        }
    }

    fn add_requests(&mut self, host: &Host, live: Option<&Live>) {
        let requests = std::mem::take(&mut self.requests);
        if requests == 0 {
            return;
        }
        host.stats.rq_total.fetch_add(requests, Relaxed);
        host.stats.rq_active.fetch_add(requests, Relaxed);
        if let Some(live) = live {
            live.stats.add(cluster::UPSTREAM_RQ_TOTAL, requests);
            live.stats.add(cluster::UPSTREAM_RQ_ACTIVE, requests);
        }
    }
}

#[inline(never)]
fn add_asked(live: Option<&mut Live>, (command, count): (u64, u64)) {
    let command = CommandId(command as u16);
    if let Some(commands) = live.and_then(|live| live.commands.as_mut()) {
        commands.row(command).add(upstream_command::TOTAL, count);
    }
}

#[inline(never)]
fn add_ended(live: Option<&mut Live>, (outcome, count): (u64, u64)) {
    let Some(live) = live else {
        return;
    };
    let outcome = Outcome::of_word(outcome);
    live.redis_stats
        .record_many(redis_cluster::UPSTREAM_RQ_TIME, outcome.micros, count);
    if let (Some(commands), Some(command)) = (&mut live.commands, outcome.command) {
        let row = commands.row(command);
        row.add(
            if outcome.success {
                upstream_command::SUCCESS
            } else {
                upstream_command::FAILURE
            },
            count,
        );
        row.record_many(upstream_command::LATENCY, outcome.micros, count);
    }
}
