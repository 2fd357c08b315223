//! The trimmed descriptor set and the tables beside it, made by the root `build.rs`.
//!
//! Decoding the set costs a few megabytes and milliseconds, so it lives only as long as it is held; all holders
//! share one copy.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};

mod tables {
    include!(concat!(env!("OUT_DIR"), "/tables.rs"));
}

static SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
static SHARED: Mutex<Weak<Descriptors>> = Mutex::new(Weak::new());

/// Every message type that redplane can read from or print as JSON.
#[derive(Debug)]
pub(crate) struct Descriptors {
    pool: DescriptorPool,
}

/// A type that a type URL names.
pub(crate) struct Known {
    /// Always a v3 message; v2 messages have the same field numbers.
    pub(crate) message: MessageDescriptor,
    /// True when the URL gave the name from before v3.
    pub(crate) is_v2: bool,
}

impl Descriptors {
    /// The shared copy, decoded now if none is held.
    pub(crate) fn load() -> Arc<Self> {
        // A lock, as loading is rare and never on a worker's path.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = shared.upgrade() {
            return loaded;
        }
        let pool = DescriptorPool::decode(SET).expect("build.rs decoded this very set before writing it");
        let loaded = Arc::new(Self { pool });
        *shared = Arc::downgrade(&loaded);
        loaded
    }

    pub(crate) fn by_name(&self, full_name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(full_name)
    }

    pub(crate) fn by_url(&self, type_url: &str) -> Option<Known> {
        let name = type_name(type_url);
        if let Some(message) = self.by_name(name) {
            return Some(Known {
                message,
                is_v2: false,
            });
        }
        let message = self.by_name(v3_name(name)?)?;
        Some(Known { message, is_v2: true })
    }
}

/// The message name in a type URL: what follows the last slash.
pub(crate) fn type_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// The v3 name of a message that had another name before.
pub(crate) fn v3_name(name: &str) -> Option<&'static str> {
    let row = tables::PREVIOUS
        .binary_search_by_key(&name, |(old, _)| old)
        .ok()?;
    Some(tables::PREVIOUS[row].1)
}

/// Sensitive fields of our own messages, which cannot import the annotation.
const OWN_SENSITIVE: [&str; 2] = [
    "redplane.clusters.sentinel.v3.SentinelClusterConfig.auth_password",
    "redplane.clusters.sentinel.v3.SentinelClusterConfig.auth_username",
];

/// True for fields that carry `udpa.annotations.sensitive`.
pub(crate) fn is_sensitive(field: &FieldDescriptor) -> bool {
    let name = field.full_name();
    tables::SENSITIVE.binary_search(&name).is_ok() || OWN_SENSITIVE.contains(&name)
}

/// True when some sensitive field has this name, in snake_case or camelCase.
pub(crate) fn is_sensitive_name(name: &str) -> bool {
    // `typed_config` is sensitive in one message only and holds the whole configuration in all others.
    let bare = |word: &str| {
        word.chars()
            .filter(|c| *c != '_')
            .collect::<String>()
            .to_lowercase()
    };
    let name = bare(name);
    name != "typedconfig"
        && tables::SENSITIVE.iter().any(|full| {
            full.rsplit_once('.')
                .is_some_and(|(_, field)| bare(field) == name)
        })
}
