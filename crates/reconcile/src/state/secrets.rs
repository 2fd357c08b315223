//! What is known of secrets, and how many resources name them.

use std::collections::HashMap;

use redplane_upstream::tls::secrets::SecretKey;

use crate::stats::Subscription;

/// Secrets and how many name them.
#[derive(Default)]
pub(crate) struct Secrets {
    pub(crate) known: HashMap<SecretKey, Known>,
    /// `sds.<name>.`, one for each name.
    pub(crate) stats: HashMap<String, Subscription>,
}

#[derive(Default)]
pub(crate) struct Known {
    pub(crate) users: usize,
    /// There was an answer, if only a bad one.
    pub(crate) answered: bool,
    /// The first one has not come in time.
    pub(crate) late: bool,
}
