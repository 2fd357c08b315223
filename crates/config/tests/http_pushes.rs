//! What a real Istiod pushed for HTTP: every connection manager and route configuration of eight meshes, and their
//! fate, compared with the texts in `tests/golden/http-fates`.
//!
//! After a change that is meant, write the texts anew with `REDPLANE_WRITE_FATES=1` and read the difference.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use redplane_config::Ignored;
use redplane_config::http::route::{Action, ClusterTarget};
use redplane_config::http::{HttpConnectionManager, RouteConfiguration, RouteSource};
use redplane_config::tls::Usable;
use redplane_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use redplane_proto::pb::envoy::config::listener::v3::{FilterChain, Listener};
use redplane_proto::pb::envoy::config::route::v3::RouteConfiguration as RouteProto;
use redplane_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use redplane_proto::{Any, type_url};

const MESHES: [&str; 8] = [
    "gateway",
    "http-client",
    "http-server",
    "mirror",
    "mtls",
    "none",
    "plain",
    "sharding",
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn resources(mesh: &str, kind: &str) -> Vec<Any> {
    let path = golden()
        .join("istio-pushes")
        .join(mesh)
        .join(format!("delta-{kind}.pb"));
    let Ok(bytes) = fs::read(path) else {
        return Vec::new();
    };
    let response = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
    response
        .resources
        .into_iter()
        .filter_map(|resource| resource.resource)
        .collect()
}

/// The fates of all chains of a listener that end in HTTP.
fn chains(listener: &Listener) -> impl Iterator<Item = (String, String)> {
    let all = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    all.enumerate().filter_map(|(at, chain)| {
        let fate = connection_manager(chain)?;
        Some((format!("lds {} chain {at} {}", listener.name, chain.name), fate))
    })
}

fn connection_manager(chain: &FilterChain) -> Option<String> {
    let Some(ConfigType::TypedConfig(any)) = chain.filters.last()?.config_type.as_ref() else {
        return None;
    };
    if any.type_url != type_url::HCM {
        return None;
    }
    let message = Message::decode(any.value.as_slice()).unwrap();
    let mut ignored = Ignored::default();
    let mut text = match HttpConnectionManager::from_proto(&message, &mut ignored) {
        Err(refusal) => format!("  refused: {refusal}\n"),
        Ok(Usable::Inert(reason)) => format!("  inert: {reason}\n"),
        Ok(Usable::Ready(manager)) => {
            let filters: Vec<_> = manager
                .filters
                .iter()
                .map(|filter| filter.name.as_str())
                .collect();
            let routes = match &manager.routes {
                RouteSource::Rds { name, .. } => format!("routes by RDS {name}\n"),
                RouteSource::Inline(routes) => format!("inline routes\n{}", table(routes)),
            };
            format!(
                "  served: {}, {}, {routes}",
                manager.stat_prefix,
                filters.join(" ")
            )
        }
    };
    ignored
        .0
        .iter()
        .for_each(|note| text.push_str(&format!("  ignored: {note}\n")));
    Some(text)
}

fn table(routes: &RouteConfiguration) -> String {
    let mut text = String::new();
    for host in &routes.virtual_hosts {
        text.push_str(&format!("  host {} {} domains\n", host.name, host.domains.len()));
        for route in &host.routes {
            let action = match &route.action {
                Action::Direct(direct) => format!("answer {}", direct.status),
                Action::Redirect(redirect) => format!("redirect {}", redirect.status),
                Action::Forward(forward) => match &forward.cluster {
                    ClusterTarget::Named(name) => format!("to {name}"),
                    ClusterTarget::Header(name) => format!("to the one in {name}"),
                    ClusterTarget::Weighted(members, sum) => format!("to {} of weight {sum}", members.len()),
                },
            };
            text.push_str(&format!(
                "    route {:?} {:?} {action}\n",
                route.name, route.matches.path
            ));
        }
    }
    text
}

fn fates(mesh: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for any in resources(mesh, "lds") {
        found.extend(chains(&Listener::decode(any.value.as_slice()).unwrap()));
    }
    for any in resources(mesh, "rds") {
        let message = RouteProto::decode(any.value.as_slice()).unwrap();
        let fate = match RouteConfiguration::from_proto(&message) {
            Err(refusal) => format!("  refused: {refusal}\n"),
            Ok(routes) => {
                let notes = routes.ignored.0.iter().map(|note| format!("  ignored: {note}\n"));
                table(&routes) + &notes.collect::<String>()
            }
        };
        found.insert(format!("rds {}", message.name), fate);
    }
    found
}

#[test]
fn every_recorded_push_loads() {
    let mut counts = (0, 0);
    for mesh in MESHES {
        let fates = fates(mesh);
        counts.0 += fates.keys().filter(|name| name.starts_with("lds")).count();
        counts.1 += fates.keys().filter(|name| name.starts_with("rds")).count();
        let text: String = fates
            .iter()
            .map(|(name, fate)| format!("{name}\n{fate}"))
            .collect();
        assert!(
            !text.contains("refused"),
            "{mesh}: nothing that Istio pushes is refused\n{text}"
        );
        compare(mesh, &text);
    }
    assert!(counts.0 > 30 && counts.1 > 20, "{counts:?}");
}

fn compare(mesh: &str, text: &str) {
    let path = golden().join("http-fates").join(format!("{mesh}.txt"));
    if std::env::var_os("REDPLANE_WRITE_FATES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (line, (have, want)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(have, want, "{mesh}.txt, line {}: a fate has changed", line + 1);
    }
    assert_eq!(
        text.lines().count(),
        expected.lines().count(),
        "{mesh}.txt: resources came or went"
    );
}
