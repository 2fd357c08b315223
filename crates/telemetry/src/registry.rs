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
    /// long as somebody holds it.
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
