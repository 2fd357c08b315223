//! The registry: which scopes and tables live, under which prefixes, and the text readouts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::names::{Names, StatsConfig};
use crate::{Schema, Scope, Table};

/// All stats of the process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// A std mutex: taken when a scope is made or a page is printed, never while a writer counts.
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    scopes: HashMap<Key, Weak<Scope>>,
    tables: HashMap<Key, Weak<Table>>,
    texts: BTreeMap<String, String>,
    names: Arc<Names>,
    /// How many entries there may be before dead ones are swept out.
    sweep_at: usize,
}

/// A prefix and the address of a schema, which is a static.
type Key = (Box<str>, usize);

fn key(prefix: &str, schema: &'static Schema) -> Key {
    (prefix.into(), std::ptr::from_ref(schema).addr())
}

/// What lived at one moment.
pub(crate) struct Living {
    pub(crate) scopes: Vec<Arc<Scope>>,
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) names: Arc<Names>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The scope below a prefix (`cluster.outbound|6379||h;.`). The same prefix and schema give the same scope for as
    /// long as it is held.
    pub fn scope(&self, prefix: &str, schema: &'static Schema) -> Arc<Scope> {
        let mut inner = self.lock();
        inner.sweep();
        let slot = inner.scopes.entry(key(prefix, schema)).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let scope = Arc::new(Scope::new(prefix, schema));
            *slot = Arc::downgrade(&scope);
            scope
        })
    }

    /// The table below a prefix (`redis.p.command.`), with rows that are printed from the start. The rows count only
    /// when the table does not live yet.
    pub fn table(&self, prefix: &str, rows: Arc<[Box<str>]>, schema: &'static Schema) -> Arc<Table> {
        let mut inner = self.lock();
        inner.sweep();
        let slot = inner.tables.entry(key(prefix, schema)).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let table = Arc::new(Table::new(prefix, rows, schema));
            *slot = Arc::downgrade(&table);
            table
        })
    }

    /// Sets a text readout (`cluster_manager.cds.version_text`).
    pub fn text(&self, name: &str, value: impl Into<String>) {
        self.lock().texts.insert(name.to_owned(), value.into());
    }

    /// Takes a text readout away.
    pub fn remove_text(&self, name: &str) {
        self.lock().texts.remove(name);
    }

    /// Sets which stats are shown, and how names become Prometheus labels (the bootstrap's `stats_config`).
    pub fn configure(&self, config: StatsConfig) {
        self.lock().names = Arc::new(Names::new(config));
    }

    /// Closes a flush interval of every histogram; call it every `stats_flush_interval` (5 s).
    pub fn tick(&self) {
        let living = self.living();
        living.scopes.iter().for_each(|scope| scope.tick());
        living.tables.iter().for_each(|table| table.tick());
    }

    /// Makes every counter read 0 (`POST /reset_counters`).
    pub fn reset_counters(&self) {
        let living = self.living();
        living.scopes.iter().for_each(|scope| scope.reset_counters());
        living.tables.iter().for_each(|table| table.reset_counters());
    }

    pub(crate) fn living(&self) -> Living {
        let inner = self.lock();
        Living {
            scopes: inner.scopes.values().filter_map(Weak::upgrade).collect(),
            tables: inner.tables.values().filter_map(Weak::upgrade).collect(),
            texts: inner.texts.clone(),
            names: Arc::clone(&inner.names),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Throws dead entries out each time the maps have doubled, so that creation stays cheap on average.
    fn sweep(&mut self) {
        if self.scopes.len() + self.tables.len() < self.sweep_at {
            return;
        }
        self.scopes.retain(|_, scope| scope.strong_count() > 0);
        self.tables.retain(|_, table| table.strong_count() > 0);
        self.sweep_at = 64.max(2 * (self.scopes.len() + self.tables.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{cluster, redis_cluster, upstream_command};
    use crate::{Block, Query};

    fn writer(registry: &Registry) -> Block {
        registry.scope("cluster.a.", &cluster::SCHEMA).block()
    }

    #[test]
    fn a_scope_lives_as_long_as_someone_holds_it() {
        let registry = Registry::new();
        let first = registry.scope("cluster.a.", &cluster::SCHEMA);
        assert!(Arc::ptr_eq(
            &first,
            &registry.scope("cluster.a.", &cluster::SCHEMA)
        ));
        let other = registry.scope("cluster.a.", &redis_cluster::SCHEMA);
        let block = first.block();
        drop((first, other));
        assert!(
            registry
                .print_text(&Query::default())
                .contains("cluster.a.upstream_cx_total")
        );
        drop(block);
        assert_eq!(registry.print_text(&Query::default()), "");
        for number in 0..10_000 {
            registry.scope(&format!("cluster.{number}."), &cluster::SCHEMA);
        }
        assert!(registry.lock().scopes.len() <= 64, "dead scopes are swept");
    }

    #[test]
    fn blocks_add_up_and_leave_their_counters_behind() {
        let registry = Registry::new();
        let scope = registry.scope("cluster.a.", &cluster::SCHEMA);
        let (one, two) = (writer(&registry), writer(&registry));
        one.add(cluster::UPSTREAM_CX_TOTAL, 2);
        two.inc(cluster::UPSTREAM_CX_TOTAL);
        one.inc(cluster::UPSTREAM_CX_ACTIVE);
        two.add(cluster::UPSTREAM_CX_ACTIVE, 2);
        one.record(cluster::UPSTREAM_CX_CONNECT_MS, 3);
        assert_eq!(
            (
                scope.counter(cluster::UPSTREAM_CX_TOTAL),
                scope.gauge(cluster::UPSTREAM_CX_ACTIVE)
            ),
            (3, 3)
        );
        drop(one);
        assert_eq!(
            (
                scope.counter(cluster::UPSTREAM_CX_TOTAL),
                scope.gauge(cluster::UPSTREAM_CX_ACTIVE)
            ),
            (3, 2)
        );
        assert_eq!(scope.histogram(cluster::UPSTREAM_CX_CONNECT_MS).sum(), 3);
        // Opened by one writer and closed by another.
        two.sub(cluster::UPSTREAM_CX_ACTIVE, 3);
        assert_eq!(scope.gauge(cluster::UPSTREAM_CX_ACTIVE), 0);
        drop(two);
        let used = registry.print_text(&Query {
            used_only: true,
            ..Query::default()
        });
        assert!(
            used.contains("upstream_cx_active: 0\n") && used.contains("upstream_cx_total: 3\n"),
            "{used}"
        );
    }

    #[test]
    fn a_reset_counter_counts_on_from_zero() {
        let registry = Registry::new();
        let block = writer(&registry);
        block.add(cluster::UPSTREAM_RQ_TOTAL, 5);
        block.set(cluster::MEMBERSHIP_TOTAL, 4);
        registry.reset_counters();
        block.inc(cluster::UPSTREAM_RQ_TOTAL);
        assert_eq!(registry.value("cluster.a.upstream_rq_total"), Some(1));
        assert_eq!(registry.value("cluster.a.membership_total"), Some(4));
        assert_eq!(registry.value("cluster.a.nothing"), None);
    }

    #[test]
    fn rows_come_when_they_are_named() {
        let registry = Registry::new();
        let fixed: Arc<[Box<str>]> = ["get".into()].into();
        let table = registry.table("cluster.a.upstream_commands.", fixed, &upstream_command::SCHEMA);
        let (one, two) = (table.block(), table.block());
        assert_eq!(table.row("get"), 0);
        let rows: Vec<usize> = (0..500).map(|number| table.row(&format!("c{number}"))).collect();
        for row in &rows {
            one.row(*row).inc(upstream_command::TOTAL);
            two[*row].inc(upstream_command::TOTAL);
        }
        assert_eq!(table.row("c499"), 500);
        drop(one);
        assert_eq!(registry.value("cluster.a.upstream_commands.c499.total"), Some(2));
        assert_eq!(registry.value("cluster.a.upstream_commands.get.total"), Some(0));
        registry.tick();
        registry.reset_counters();
        assert_eq!(registry.value("cluster.a.upstream_commands.c0.total"), Some(0));
    }

    #[test]
    fn ticks_close_intervals() {
        let registry = Registry::new();
        let block = writer(&registry);
        let page = || {
            let text = registry.print_text(&Query {
                used_only: true,
                ..Query::default()
            });
            text.lines()
                .find(|line| line.contains("connect_ms"))
                .map(str::to_owned)
        };
        block.record(cluster::UPSTREAM_CX_CONNECT_MS, 4);
        assert!(page().is_some_and(|line| line.contains("P0(nan,4)")));
        registry.tick();
        assert!(page().is_some_and(|line| line.contains("P0(4,4)")));
        drop(block);
        let _again = writer(&registry);
        registry.tick();
        assert_eq!(page(), None, "the scope went with its last holder");
    }

    /// A reader sees only whole values while a writer writes.
    #[test]
    fn reading_while_another_thread_counts() {
        let registry = Registry::new();
        let scope = registry.scope("cluster.a.", &cluster::SCHEMA);
        let block = scope.block();
        let writer = std::thread::spawn(move || {
            for value in 0..200_000 {
                block.inc(cluster::UPSTREAM_RQ_TOTAL);
                block.record(cluster::UPSTREAM_CX_LENGTH_MS, value);
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let now = scope.counter(cluster::UPSTREAM_RQ_TOTAL);
            assert!(now >= last);
            last = now;
            registry.tick();
        }
        writer.join().unwrap();
        assert_eq!(scope.counter(cluster::UPSTREAM_RQ_TOTAL), 200_000);
        assert_eq!(scope.histogram(cluster::UPSTREAM_CX_LENGTH_MS).count(), 200_000);
    }
}
