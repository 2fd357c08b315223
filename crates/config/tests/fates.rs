//! The fate of every resource that a real Istiod pushed: served, inert, ignored, refused, compared with the texts in
//! `tests/golden/fates`.
//!
//! After a change that is meant, write the texts anew with `REDPLANE_WRITE_FATES=1` and read the difference.

// A test without its recorded pushes must fail.
#![allow(clippy::unwrap_used)]

#[path = "fates/report.rs"]
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use redplane_config::bootstrap::Bootstrap;
use redplane_proto::pb::envoy::config::bootstrap::v3::Bootstrap as BootstrapProto;
use redplane_proto::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use redplane_proto::{Any, Json, yaml_value};
use serde_json::Value;

const MESHES: [&str; 6] = ["gateway", "mirror", "mtls", "none", "plain", "sharding"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// Compares with the checked-in text, or writes it.
fn compare(name: &str, text: &str) {
    let path = golden().join("fates").join(format!("{name}.txt"));
    if std::env::var_os("REDPLANE_WRITE_FATES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (line, (have, want)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(have, want, "{name}.txt, line {}: a fate has changed", line + 1);
    }
    assert_eq!(
        text.lines().count(),
        expected.lines().count(),
        "{name}.txt: resources came or went"
    );
}

fn sotw(path: &Path) -> Vec<Any> {
    DiscoveryResponse::decode(fs::read(path).unwrap().as_slice())
        .unwrap()
        .resources
}

fn delta(path: &Path) -> Vec<Any> {
    let response = DeltaDiscoveryResponse::decode(fs::read(path).unwrap().as_slice()).unwrap();
    response
        .resources
        .into_iter()
        .filter_map(|resource| resource.resource)
        .collect()
}

/// Fates by resource name, so that the two forms of a push can be compared.
fn fates(resources: &[Any]) -> BTreeMap<String, String> {
    resources.iter().map(report::fate).collect()
}

#[test]
fn every_recorded_push() {
    let _descriptors = Json::load();
    for mesh in MESHES {
        let folder = golden().join("istio-pushes").join(mesh);
        let mut text = String::new();
        for kind in ["cds", "eds", "lds"] {
            let full = fates(&sotw(&folder.join(format!("sotw-{kind}.pb"))));
            let incremental = fates(&delta(&folder.join(format!("delta-{kind}.pb"))));
            assert_eq!(
                full, incremental,
                "{mesh} {kind}: both forms of the push have the same fates"
            );
            assert!(
                !full.is_empty() || kind == "lds",
                "{mesh} {kind}: nothing was recorded"
            );
            full.into_iter()
                .for_each(|(name, fate)| text.push_str(&format!("{kind} {name}\n{fate}")));
        }
        assert!(
            !text.contains("refused"),
            "{mesh}: nothing that Istio pushes is refused\n{text}"
        );
        compare(mesh, &text);
    }
}

#[test]
fn the_bootstrap_of_pilot_agent() {
    let path = golden().join("istio-pushes/envoy-rev.json");
    let (bootstrap, _) = Bootstrap::load(Some(&path), None, true).unwrap();
    assert_eq!(bootstrap.ads.as_ref().unwrap().cluster, "xds-grpc");
    assert!(bootstrap.ads.as_ref().unwrap().delta);
    assert_eq!(bootstrap.admin.as_ref().unwrap().to_string(), "127.0.0.1:15000");
    let mut text = String::new();
    for cluster in &bootstrap.clusters {
        text.push_str(&format!("cluster {}\n{}", cluster.name, report::cluster(cluster)));
    }
    for listener in &bootstrap.listeners {
        text.push_str(&format!(
            "listener {}\n{}",
            listener.name,
            report::listener(listener)
        ));
    }
    text.push_str("bootstrap\n");
    bootstrap
        .ignored
        .0
        .iter()
        .for_each(|note| text.push_str(&format!("  ignored: {note}\n")));
    compare("bootstrap", &text);
}

/// Dumps of Istio 1.7.3 lie beside the repository, in the data folder of a neighbour, as they are not ours to publish.
fn dumps_of_1_7_3() -> Option<PathBuf> {
    let neighbours = fs::read_dir(golden().join("../../..")).ok()?;
    neighbours
        .flatten()
        .map(|entry| entry.path().join("data/istio-1.7.3"))
        .find(|path| path.is_dir())
}

#[test]
fn every_resource_of_istio_1_7_3() {
    let Some(folder) = dumps_of_1_7_3() else {
        eprintln!("SKIPPED: no dumps of Istio 1.7.3 on this machine, resources of version 2 were not read");
        return;
    };
    // The bootstrap of 1.7.3 names a file of the pod.
    let pod = tempfile::tempdir().unwrap();
    let secrets = pod.path().join("var/run/secrets/istio");
    fs::create_dir_all(&secrets).unwrap();
    let root = rcgen::generate_simple_self_signed(["istiod".to_owned()]).unwrap();
    fs::write(secrets.join("root-cert.pem"), root.cert.pem()).unwrap();
    std::env::set_current_dir(pod.path()).unwrap();
    let json = Json::load();
    let mut text = String::new();
    let mut dumps: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    dumps.sort();
    for dump in dumps {
        let value: Value = serde_json::from_str(&fs::read_to_string(&dump).unwrap()).unwrap();
        text.push_str(&format!("{}\n", dump.file_stem().unwrap().to_string_lossy()));
        text.push_str(&summary(&json, &value));
    }
    compare("istio-1.7.3", &text);
}

/// How often each fate was met: the names of the resources are their owner's.
fn summary(json: &Json, dump: &Value) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for section in dump["configs"].as_array().unwrap() {
        if let Some(bootstrap) = section.get("bootstrap") {
            let message: BootstrapProto = json.message_lenient(bootstrap).unwrap().message;
            let result = Bootstrap::from_proto(&message);
            *counts
                .entry(format!("bootstrap: {}", report::outcome(result.map(|_| ()))))
                .or_default() += 1;
        }
        for resource in resources(section) {
            let any = json.any(resource).unwrap();
            let (_, fate) = report::fate(&json.resolve(&any).unwrap().any);
            let kind = resource["@type"].as_str().unwrap().rsplit('.').next().unwrap();
            for line in fate.lines().map(report::anonymous) {
                *counts.entry(format!("{kind}: {line}")).or_default() += 1;
            }
        }
    }
    counts
        .into_iter()
        .map(|(line, count)| format!("  {count:4} {line}\n"))
        .collect()
}

/// Clusters and listeners of a section, static and dynamic.
fn resources(section: &Value) -> Vec<&Value> {
    let lists = [
        "static_clusters",
        "dynamic_active_clusters",
        "static_listeners",
        "dynamic_listeners",
    ];
    let entries = lists
        .iter()
        .filter_map(|list| section.get(list)?.as_array())
        .flatten();
    entries
        .filter_map(|entry| {
            let holder = entry.get("active_state").unwrap_or(entry);
            holder.get("cluster").or_else(|| holder.get("listener"))
        })
        .collect()
}

#[test]
fn yaml_reads_as_json_does() {
    let text = fs::read_to_string(golden().join("istio-pushes/envoy-rev.json")).unwrap();
    let strict: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(yaml_value(&text).unwrap(), strict);
}
