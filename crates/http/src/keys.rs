//! Keys of tokens that were fetched: kept by each worker as long as configuration says, and fetched once for all
//! requests that need them at the same time.
//!
//! What could not be had is asked for again by the next request; keys that are too old are not used. So it is in Envoy.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use redplane_config::jwt::{KeySet, RemoteKeys};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The cluster and the URI that they come from.
type Source = (String, String);

/// One worker's keys.
#[derive(Default)]
pub(crate) struct Keys {
    known: RefCell<FxHashMap<Source, Known>>,
    coming: RefCell<FxHashMap<Source, Rc<Coming>>>,
}

struct Known {
    keys: Arc<KeySet>,
    until: Instant,
}

/// Keys on their way.
#[derive(Default)]
pub(crate) struct Coming {
    /// What became of it, once it is over.
    result: RefCell<Option<Option<Arc<KeySet>>>>,
    over: Notify,
}

impl Keys {
    /// What is here and may still be used.
    pub(crate) fn known(&self, remote: &RemoteKeys) -> Option<Arc<KeySet>> {
        let known = self.known.borrow();
        let found = known.get(&source(remote))?;
        (found.until > Instant::now()).then(|| Arc::clone(&found.keys))
    }

    /// The fetch that is under way. `true`: there was none, the caller has to begin it.
    pub(crate) fn coming(&self, remote: &RemoteKeys) -> (Rc<Coming>, bool) {
        let mut coming = self.coming.borrow_mut();
        let source = source(remote);
        if let Some(known) = coming.get(&source) {
            return (Rc::clone(known), false);
        }
        let new = Rc::<Coming>::default();
        coming.insert(source, Rc::clone(&new));
        (new, true)
    }

    /// A fetch is over.
    pub(crate) fn came(&self, remote: &RemoteKeys, keys: Option<Arc<KeySet>>) {
        let source = source(remote);
        if let Some(coming) = self.coming.borrow_mut().remove(&source) {
            coming.result.replace(Some(keys.clone()));
            coming.over.notify_waiters();
        }
        if let Some(keys) = keys {
            let until = Instant::now() + remote.cache_duration;
            self.known.borrow_mut().insert(source, Known { keys, until });
        }
    }
}

impl Coming {
    /// Waits until the fetch is over.
    pub(crate) async fn over(&self) -> Option<Arc<KeySet>> {
        loop {
            let over = self.over.notified();
            if let Some(result) = &*self.result.borrow() {
                return result.clone();
            }
            over.await;
        }
    }
}

fn source(remote: &RemoteKeys) -> Source {
    (remote.cluster.clone(), remote.uri.clone())
}
