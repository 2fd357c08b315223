//! What is known of endpoint assignments, and which clusters use them.

use std::collections::HashMap;
use std::sync::Arc;

use redplane_config::endpoint::Assignment;
use redplane_upstream::Cluster;

use crate::needs::Named;

/// Assignments and what uses them.
#[derive(Default)]
pub(crate) struct Endpoints {
    pub(crate) services: HashMap<Named, Users>,
    /// Names to be asked of the control plane, all in one request.
    pub(crate) asked: Vec<String>,
    /// Names to be taken back.
    pub(crate) forgotten: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Users {
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) last: Option<Arc<Assignment>>,
    /// There was an answer, if only a bad one.
    pub(crate) answered: bool,
}

impl Endpoints {
    /// Whether there was an answer about a service, if only a bad one.
    pub(crate) fn are_answered(&self, service: &Named) -> bool {
        self.services.get(service).is_some_and(|users| users.answered)
    }
}
