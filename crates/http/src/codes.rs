//! Statuses of responses, counted for each cluster under Envoy's names: `upstream_rq_200`, `upstream_rq_2xx`,
//! `external.upstream_rq_200` and so on. Names come to be with their first response, as in Envoy.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use redplane_telemetry::stats::{cluster as names, status};
use redplane_telemetry::{Block, Scope};
use redplane_upstream::Cluster;
use rustc_hash::FxHashMap;

/// Whose response it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It went to a client.
    External,
    /// It was made for this proxy, as a mirror's.
    Internal,
    /// Another try followed.
    Retried,
}

/// One worker's counters.
#[derive(Default)]
pub(crate) struct Codes(RefCell<FxHashMap<usize, Known>>);

struct Known {
    cluster: Weak<Scope>,
    rows: Vec<(Side, u16, Vec<Block>)>,
}

impl Side {
    fn prefix(self) -> &'static str {
        match self {
            Self::External => "external.",
            Self::Internal => "internal.",
            Self::Retried => "retry.",
        }
    }
}

impl Codes {
    /// Counts a response of a cluster; `block` is the cluster's.
    pub(crate) fn count(&self, cluster: &Cluster, block: &Block, side: Side, code: u16) {
        if side != Side::Retried {
            block.inc(names::UPSTREAM_RQ_COMPLETED);
        }
        if !(100..600).contains(&code) {
            return;
        }
        let scope = cluster.stats();
        let mut known = self.0.borrow_mut();
        let key = Arc::as_ptr(scope).addr();
        if !known.contains_key(&key) {
            known.retain(|_, known| known.cluster.strong_count() > 0);
        }
        // The weak pointer keeps the address from being taken by another scope.
        let rows = &mut known
            .entry(key)
            .or_insert_with(|| Known {
                cluster: Arc::downgrade(scope),
                rows: Vec::new(),
            })
            .rows;
        let found = rows
            .iter()
            .position(|(known, of, _)| (*known, *of) == (side, code));
        let at = found.unwrap_or_else(|| {
            rows.push((side, code, blocks(cluster, side, code)));
            rows.len() - 1
        });
        rows[at].2.iter().for_each(|block| block.inc(status::COUNT));
    }
}

fn blocks(cluster: &Cluster, side: Side, code: u16) -> Vec<Block> {
    let registry = &cluster.context().registry;
    let (prefix, side_prefix) = (cluster.stats().prefix(), side.prefix());
    let class = code / 100;
    let mut found = vec![
        format!("{prefix}{side_prefix}upstream_rq_{code}"),
        format!("{prefix}{side_prefix}upstream_rq_{class}xx"),
        format!("{prefix}{side_prefix}upstream_rq_completed"),
    ];
    if side != Side::Retried {
        found.push(format!("{prefix}upstream_rq_{code}"));
        found.push(format!("{prefix}upstream_rq_{class}xx"));
    }
    let block = |name: String| registry.scope(&name, &status::SCHEMA).block();
    found.into_iter().map(block).collect()
}
