//! `/config_dump`: what is kept of each resource, and which filter chains of it are not served.
//!
//! A listener with such a chain was accepted and serves its others. Envoy's form has one place for what is wrong with a
//! listener, `error_state`; those of the bootstrap get one of their name among the dynamic ones.

use redplane_admin::{DumpInput, DynamicResource, FailedUpdate};
use redplane_world::Snapshot;

use crate::world::World;

/// What is configured, with what is wrong with it.
pub(crate) fn config(world: &World) -> DumpInput {
    let mut dump = world.book.dump();
    let snapshot = world.store.load_full();
    let dumped = &mut dump.listeners;
    for entry in &mut dumped.dynamic {
        if entry.error.is_none() {
            entry.error = not_served(&snapshot, entry);
        }
    }
    for entry in &dumped.fixed {
        let Some(error) = not_served(&snapshot, entry) else {
            continue;
        };
        dumped.dynamic.push(DynamicResource {
            name: entry.name.clone(),
            error: Some(error),
            ..DynamicResource::default()
        });
    }
    dump
}

/// The chains of a listener that refuse their connections, with the reasons.
fn not_served(snapshot: &Snapshot, entry: &DynamicResource) -> Option<FailedUpdate> {
    let active = entry.active.as_ref()?;
    let listener = snapshot.listener(&entry.name)?;
    let tell = |(chain, reason): (&redplane_config::listener::FilterChain, &str)| {
        format!("filter chain '{}' is not served: {reason}", chain.id)
    };
    let reasons: Vec<String> = listener.config.inert_chains().map(tell).collect();
    (!reasons.is_empty()).then(|| FailedUpdate {
        resource: Some(active.resource.clone()),
        version_info: active.version_info.clone(),
        last_update_attempt: active.last_updated,
        details: reasons.join("; "),
    })
}
