//! What discovery counts: Envoy's `cluster.<name>.upstream_commands.cluster.*` and its share of the cluster's stats.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use redplane_telemetry::stats::{cluster as names, redis_discovery, upstream_command};
use redplane_telemetry::{Block, TableBlock};
use redplane_upstream::cluster::Cluster;

use super::ask::{NodeReply, Silence};

/// Discovery's own blocks.
pub(super) struct Counts {
    times: Block,
    commands: TableBlock,
    row: usize,
}

impl Counts {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let (scope, table) = cluster.discovery_stats();
        let row = table.row("cluster");
        Self {
            times: scope.block(),
            commands: table.block(),
            row,
        }
    }

    /// Counts one question, whatever came of it.
    pub(super) fn asked(&self, cluster: &Cluster, asked: &NodeReply) {
        self.command(asked);
        self.host(asked);
        cluster.count(|block| {
            if asked.connected {
                block.inc(names::UPSTREAM_CX_TOTAL);
            }
            match &asked.outcome {
                Err(Silence::Connect(error)) => {
                    block.inc(names::UPSTREAM_CX_CONNECT_FAIL);
                    block.add(names::UPSTREAM_CX_CONNECT_TIMEOUT, u64::from(timed_out(error)));
                    return;
                }
                Err(Silence::Broken(error)) => {
                    block.add(names::UPSTREAM_RQ_TIMEOUT, u64::from(timed_out(error)));
                    block.add(
                        names::UPSTREAM_CX_PROTOCOL_ERROR,
                        u64::from(error.kind() == io::ErrorKind::InvalidData),
                    );
                }
                Ok(_) | Err(Silence::Refused(_)) => {}
            }
            block.inc(names::UPSTREAM_RQ_TOTAL);
        });
    }

    /// Connections that are open and connections that were closed.
    pub(super) fn connections(&self, cluster: &Cluster, open: u64, closed: u64) {
        cluster.count(|block| {
            block.add(names::UPSTREAM_CX_ACTIVE, open);
            block.sub(names::UPSTREAM_CX_ACTIVE, closed);
            block.add(names::UPSTREAM_CX_DESTROY, closed);
            block.add(names::UPSTREAM_CX_DESTROY_LOCAL, closed);
        });
    }

    fn command(&self, asked: &NodeReply) {
        if matches!(asked.outcome, Err(Silence::Connect(_))) {
            return;
        }
        let row = self.commands.row(self.row);
        row.inc(upstream_command::TOTAL);
        row.inc(if asked.outcome.is_ok() {
            upstream_command::SUCCESS
        } else {
            upstream_command::FAILURE
        });
        let micros = u64::try_from(asked.took.as_micros()).unwrap_or(u64::MAX);
        row.record(upstream_command::LATENCY, micros);
        self.times.record(redis_discovery::UPSTREAM_RQ_TIME, micros);
    }

    fn host(&self, asked: &NodeReply) {
        let stats = &asked.host.stats;
        stats.cx_total.fetch_add(u64::from(asked.connected), Relaxed);
        match &asked.outcome {
            Err(Silence::Connect(_)) => stats.cx_connect_fail.fetch_add(1, Relaxed),
            Err(Silence::Broken(_)) => stats.rq_error.fetch_add(1, Relaxed),
            Ok(_) | Err(Silence::Refused(_)) => stats.rq_success.fetch_add(1, Relaxed),
        };
        stats.rq_total.fetch_add(
            u64::from(!matches!(asked.outcome, Err(Silence::Connect(_)))),
            Relaxed,
        );
    }
}

fn timed_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}
