//! What the HTTP connections of one worker thread share.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use redplane_config::http::filter::LocalRateLimit;
use redplane_telemetry::{Block, Scope};
use redplane_upstream::Cluster;
use redplane_world::{Bucket, Reader};
use rustc_hash::FxHashMap;

use crate::bucket::bucket_of;
use crate::codes::Codes;
use crate::keys::Keys;
use crate::pool::Pools;

/// Buckets by the address of the limit, which is kept so that no other one gets its address.
type Buckets = FxHashMap<usize, (Arc<LocalRateLimit>, Arc<Bucket>)>;

/// One worker's clusters, pools and cells.
pub struct Worker {
    store: RefCell<Reader>,
    /// By the address of the scope, which a living block keeps.
    blocks: RefCell<FxHashMap<usize, Weak<Block>>>,
    buckets: RefCell<Buckets>,
    pub(crate) codes: Codes,
    pub(crate) keys: Keys,
    pub(crate) pools: Rc<Pools>,
}

impl Worker {
    /// A worker that reads clusters from a store.
    pub fn new(store: Reader) -> Rc<Self> {
        Rc::new(Self {
            store: RefCell::new(store),
            blocks: RefCell::default(),
            buckets: RefCell::default(),
            codes: Codes::default(),
            keys: Keys::default(),
            pools: Rc::default(),
        })
    }

    /// The cluster of that name, if there is one.
    pub(crate) fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.store.borrow_mut().load().cluster(name).cloned()
    }

    /// This worker's cells of a scope, shared by all that count for it at the moment.
    pub(crate) fn block(&self, scope: &Arc<Scope>) -> Rc<Block> {
        let mut blocks = self.blocks.borrow_mut();
        let key = Arc::as_ptr(scope).addr();
        let living = blocks.get(&key).and_then(Weak::upgrade);
        if let Some(block) = living.filter(|block| Arc::ptr_eq(block.scope(), scope)) {
            return block;
        }
        blocks.retain(|_, block| block.strong_count() > 0);
        let block = Rc::new(scope.block());
        blocks.insert(key, Rc::downgrade(&block));
        block
    }

    /// The bucket of a rate limit: one for the whole process, found without a lock after the first time.
    pub(crate) fn bucket(&self, limit: &Arc<LocalRateLimit>) -> Arc<Bucket> {
        let key = Arc::as_ptr(limit).addr();
        let mut buckets = self.buckets.borrow_mut();
        if buckets.len() > 1024 {
            buckets.retain(|_, (known, _)| Arc::strong_count(known) > 1);
        }
        let (_, bucket) = buckets
            .entry(key)
            .or_insert_with(|| (Arc::clone(limit), bucket_of(limit)));
        Arc::clone(bucket)
    }
}
