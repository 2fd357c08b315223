//! `/config_dump` with what only a control plane brings.

use redplane_admin::*;
use redplane_proto::Any;
use serde_json::{Value, json};

use crate::fixture::{Admin, CLUSTER, LISTENER, World, active, any, empty, moment, version};

const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

fn start(config: DumpInput) -> Admin {
    Admin::start(World { config, ..empty() })
}

fn named(name: &str) -> Value {
    json!({"name": name})
}

fn pushed(dynamic: Vec<DynamicResource>) -> Dumped {
    Dumped {
        version_info: "v7".to_owned(),
        dynamic,
        ..Dumped::default()
    }
}

fn error(details: &str) -> Option<FailedUpdate> {
    Some(FailedUpdate {
        resource: Some(any(LISTENER, named("l"))),
        version_info: "v8".to_owned(),
        last_update_attempt: moment(),
        details: details.to_owned(),
    })
}

fn types(dump: &Value) -> Vec<&str> {
    let types = dump["configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|config| config["@type"].as_str().unwrap());
    types.map(|url| url.rsplit('.').next().unwrap()).collect()
}

#[test]
fn sections_come_in_envoys_order() {
    let extensions = pushed(vec![active(
        "envoy.config.core.v3.TypedExtensionConfig",
        named("f"),
    )]);
    let admin = start(DumpInput {
        extensions,
        ..DumpInput::default()
    });
    let without = [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "ListenersConfigDump",
        "ScopedRoutesConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
        "EcdsConfigDump",
    ];
    assert_eq!(types(&admin.json("/config_dump")), without);
    assert_eq!(
        types(&admin.json("/config_dump?include_eds"))[2],
        "EndpointsConfigDump"
    );
    assert_eq!(
        types(&start(DumpInput::default()).json("/config_dump")).len(),
        6,
        "no extensions, no section"
    );
}

#[test]
fn istioctls_masks_pick_their_section() {
    let admin = start(DumpInput::default());
    for (mask, section) in [
        (
            "dynamic_active_clusters,dynamic_warming_clusters,static_clusters",
            "ClustersConfigDump",
        ),
        ("dynamic_listeners,static_listeners", "ListenersConfigDump"),
        ("dynamic_route_configs,static_route_configs", "RoutesConfigDump"),
        ("bootstrap", "BootstrapConfigDump"),
        (
            "dynamic_active_secrets,dynamic_warming_secrets",
            "SecretsConfigDump",
        ),
    ] {
        let dump = admin.json(&format!("/config_dump?mask={mask}"));
        assert_eq!(types(&dump), [section]);
    }
    assert_eq!(
        admin
            .get("/config_dump?mask=dynamic_listeners,static_clusters")
            .status,
        400
    );
}

#[test]
fn clusters_in_their_states() {
    let clusters = pushed(vec![
        DynamicResource {
            error: error("bad"),
            ..active(CLUSTER, named("a"))
        },
        DynamicResource {
            name: "b".to_owned(),
            active: Some(version(CLUSTER, named("b"))),
            warming: Some(ResourceVersion {
                version_info: "own".to_owned(),
                ..version(CLUSTER, named("b"))
            }),
            ..DynamicResource::default()
        },
        DynamicResource {
            name: "never".to_owned(),
            error: error("refused"),
            ..DynamicResource::default()
        },
    ]);
    let dump = start(DumpInput {
        clusters,
        ..DumpInput::default()
    })
    .json("/config_dump");
    let section = &dump["configs"][1];
    assert_eq!(section["version_info"], "v7");
    let (activated, warming) = (
        &section["dynamic_active_clusters"],
        &section["dynamic_warming_clusters"],
    );
    assert_eq!(
        activated[1],
        json!({
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "b"},
            "last_updated": "2026-01-02T03:04:05.678Z",
        })
    );
    assert_eq!(activated.as_array().unwrap().len(), 2);
    assert_eq!(activated[0]["error_state"]["details"], "bad");
    assert_eq!(warming[0]["version_info"], "own");
    assert_eq!(warming[1]["error_state"]["details"], "refused");
    assert_eq!(warming.as_array().unwrap().len(), 2);
}

#[test]
fn listeners_in_their_states() {
    let listeners = pushed(vec![
        DynamicResource {
            draining: Some(version(LISTENER, named("old"))),
            warming: Some(version(LISTENER, named("new"))),
            ..active(LISTENER, named("l"))
        },
        DynamicResource {
            name: "refused".to_owned(),
            error: error("no"),
            ..DynamicResource::default()
        },
    ]);
    let admin = start(DumpInput {
        listeners,
        ..DumpInput::default()
    });
    let dump = admin.json("/config_dump?resource=dynamic_listeners");
    let (states, refused) = (&dump["configs"][0], &dump["configs"][1]);
    assert_eq!(
        states["@type"],
        "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener"
    );
    assert_eq!(states["draining_state"]["listener"]["name"], "old");
    assert_eq!(states["warming_state"]["listener"]["name"], "new");
    let expected = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener",
        "name": "refused",
        "error_state": {
            "failed_configuration": {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l"},
            "last_update_attempt": "2026-01-02T03:04:05.678Z",
            "details": "no",
            "version_info": "v8",
        },
    });
    assert_eq!(*refused, expected);
    let masked = admin.json("/config_dump?resource=dynamic_listeners&mask=name,active_state.listener.name");
    assert_eq!(masked["configs"][0]["active_state"]["listener"]["name"], "l");
    assert!(masked["configs"][0].get("draining_state").is_none());
    assert_eq!(
        admin
            .get("/config_dump?resource=dynamic_listeners&mask=listener")
            .status,
        400
    );
}

#[test]
fn private_keys_never_leave() {
    let tls = json!({"name": "default", "tls_certificate": {
        "certificate_chain": {"inline_string": "chain"},
        "private_key": {"inline_string": "very secret"},
    }});
    let waiting = DynamicResource {
        name: "waits".to_owned(),
        warming: Some(ResourceVersion {
            version_info: "uninitialized".to_owned(),
            ..version(SECRET, named("waits"))
        }),
        ..DynamicResource::default()
    };
    let secrets = pushed(vec![active(SECRET, tls), waiting]);
    let admin = start(DumpInput {
        secrets,
        ..DumpInput::default()
    });
    let body = admin.get("/config_dump").body;
    assert!(
        !body.contains("very secret") && body.contains("[redacted]"),
        "{body}"
    );
    let dump = admin.json("/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets");
    assert_eq!(dump["configs"][0]["dynamic_active_secrets"][0]["name"], "default");
    assert_eq!(
        dump["configs"][0]["dynamic_warming_secrets"][0]["version_info"],
        "uninitialized"
    );
}

#[test]
fn an_unknown_type_is_dumped_all_the_same() {
    let unknown = Any {
        type_url: "type.googleapis.com/never.Heard".to_owned(),
        value: b"\xff\x00".to_vec(),
    };
    let resource = ResourceVersion {
        resource: std::sync::Arc::new(unknown),
        version_info: String::new(),
        last_updated: moment(),
    };
    let extension = DynamicResource {
        name: "x".to_owned(),
        active: Some(resource),
        ..DynamicResource::default()
    };
    let body = start(DumpInput {
        extensions: pushed(vec![extension]),
        ..DumpInput::default()
    })
    .get("/config_dump")
    .body;
    assert!(body.contains("never.Heard"), "{body}");
}

#[test]
fn names_and_endpoints() {
    let clusters = pushed(["a1", "a2", "b1"].map(|name| active(CLUSTER, named(name))).into());
    let assignment = json!({"cluster_name": "a1"});
    let mut endpoint = active("envoy.config.endpoint.v3.ClusterLoadAssignment", assignment);
    endpoint.name = "a1".to_owned();
    let admin = start(DumpInput {
        clusters,
        endpoints: pushed(vec![endpoint]),
        ..DumpInput::default()
    });
    let dump = admin.json("/config_dump?resource=dynamic_active_clusters&name_regex=a.");
    assert_eq!(dump["configs"].as_array().unwrap().len(), 2);
    assert_eq!(
        admin.json("/config_dump?resource=dynamic_active_clusters&name_regex=a"),
        json!({}),
        "whole names"
    );
    let dump = admin.json("/config_dump?include_eds=true&mask=dynamic_endpoint_configs");
    assert_eq!(
        dump["configs"][0]["dynamic_endpoint_configs"][0]["endpoint_config"]["cluster_name"],
        "a1"
    );
    assert_eq!(
        admin.get("/config_dump?resource=dynamic_endpoint_configs").status,
        404,
        "not asked for"
    );
    assert_eq!(admin.get("/config_dump?name_regex=(").status, 400);
}
