//! How far start-up is, and which answers it waits for.

use redplane_config::cluster::ConfigSource;
use redplane_telemetry::Registry;
use redplane_xds::type_url::{CLUSTER, LISTENER};

use crate::stats::Subscription;

/// How far start-up is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Clusters,
    Listeners,
    Live,
}

/// What start-up waits for.
pub(crate) struct Start {
    pub(crate) phase: Phase,
    pub(crate) cds: Watch,
    pub(crate) lds: Watch,
    /// Why start-up cannot go on.
    pub(crate) fault: Option<String>,
}

/// CDS or LDS: the subscriptions to everything of a type.
pub(crate) struct Watch {
    pub(crate) type_url: &'static str,
    /// For people, and for `/init_dump`.
    pub(crate) word: &'static str,
    pub(crate) source: Option<ConfigSource>,
    pub(crate) stats: Subscription,
    pub(crate) answered: bool,
}

impl Start {
    pub(crate) fn new(registry: &Registry, cds: Option<&ConfigSource>, lds: Option<&ConfigSource>) -> Self {
        let watch = |type_url, word, prefix, source: Option<&ConfigSource>| Watch {
            type_url,
            word,
            source: source.cloned(),
            stats: Subscription::new(registry, prefix),
            answered: source.is_none(),
        };
        Self {
            phase: Phase::Clusters,
            cds: watch(CLUSTER, "CDS", "cluster_manager.cds.", cds),
            lds: watch(LISTENER, "LDS", "listener_manager.lds.", lds),
            fault: None,
        }
    }

    /// The subscription to everything of a type.
    pub(crate) fn watch(&mut self, type_url: &str) -> Option<&mut Watch> {
        let watches = [&mut self.cds, &mut self.lds];
        watches.into_iter().find(|watch| watch.type_url == type_url)
    }
}
