//! `/config_dump`: what is kept of each resource, and which filter chains of it are not served.
//!
//! A listener with such a chain was accepted and serves its others. Envoy's form has one place for what is wrong with a
//! listener, `error_state`; those of the bootstrap get one of their name among the dynamic ones.

use std::sync::Arc;

use redplane_admin::{DumpInput, Dumped, DynamicResource, FailedUpdate, ResourceVersion};
use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use redplane_proto::pb::envoy::config::route::v3::RouteConfiguration;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use redplane_proto::{pack, unpack};
use redplane_world::Snapshot;

use crate::world::World;

/// What is configured, with what is wrong with it.
pub(crate) fn config(world: &World) -> DumpInput {
    let mut dump = world.book.dump();
    let snapshot = world.store.load_full();
    dump.routes.fixed = inline_routes(&dump.listeners);
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

/// The route configurations that stand in connection managers: Envoy tells them as static ones.
fn inline_routes(listeners: &Dumped) -> Vec<DynamicResource> {
    let entries = listeners.fixed.iter().chain(&listeners.dynamic);
    let active = entries.filter_map(|entry| entry.active.as_ref());
    let routes = active.flat_map(|active| {
        let listener: proto::Listener = unpack(&active.resource).unwrap_or_default();
        let chains = listener
            .filter_chains
            .into_iter()
            .chain(listener.default_filter_chain);
        let filters = chains.filter_map(|chain| chain.filters.into_iter().next_back());
        filters.filter_map(inline_route).map(|routes| DynamicResource {
            name: routes.name.clone(),
            active: Some(ResourceVersion {
                resource: Arc::new(pack(&routes)),
                ..active.clone()
            }),
            ..DynamicResource::default()
        })
    });
    routes.collect()
}

fn inline_route(filter: proto::Filter) -> Option<RouteConfiguration> {
    let Some(ConfigType::TypedConfig(any)) = filter.config_type else {
        return None;
    };
    let manager: HttpConnectionManager = unpack(&any).ok()?;
    match manager.route_specifier? {
        RouteSpecifier::RouteConfig(routes) => Some(routes),
        RouteSpecifier::Rds(_) | RouteSpecifier::ScopedRoutes(_) => None,
    }
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
