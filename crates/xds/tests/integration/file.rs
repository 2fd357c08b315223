//! Files as a source: formats, the ways a file is replaced, and bad content that changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use prost::Message as _;
use redplane_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use redplane_xds::{Event, FileConfig, FileSource, Names, Rejected, Update, Verdict, type_url};

use crate::receiver::{cluster, names, removed};
use crate::server::soon;

fn json(version: &str, clusters: &[(&str, u32)]) -> String {
    let resources: Vec<String> = clusters
        .iter()
        .map(|(name, seconds)| {
            let url = type_url::CLUSTER;
            format!(r#"{{"@type": "{url}", "name": "{name}", "connect_timeout": "{seconds}s"}}"#)
        })
        .collect();
    format!(
        r#"{{"version_info": "{version}", "resources": [{}]}}"#,
        resources.join(", ")
    )
}

fn config(path: PathBuf) -> FileConfig {
    FileConfig {
        path,
        watched_directory: None,
        type_url: type_url::CLUSTER.into(),
        names: Names::Wildcard,
    }
}

struct Follower(FileSource);

impl Follower {
    fn start(config: FileConfig) -> Self {
        Self(FileSource::start(config).unwrap())
    }

    async fn event(&mut self) -> Event {
        soon("an event", self.0.next()).await.expect("the source runs")
    }

    async fn accept(&mut self) -> Update {
        match self.event().await {
            Event::Update(update) => {
                self.0.handle().verdict(Verdict::accept(&update));
                update
            }
            other => panic!("an update, not {other:?}"),
        }
    }
}

/// Writes beside the file and renames over it.
fn replace(path: &Path, content: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, content).unwrap();
    fs::rename(&draft, path).unwrap();
}

#[tokio::test]
async fn a_replaced_file_is_picked_up_and_what_left_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cds.json");
    fs::write(&path, json("1", &[("a", 1), ("b", 1)])).unwrap();
    let mut follower = Follower::start(config(path.clone()));
    let update = follower.accept().await;
    assert_eq!((names(&update), update.version.as_str()), (vec!["a", "b"], "1"));
    replace(&path, &json("2", &[("b", 2), ("c", 1)]));
    let update = follower.accept().await;
    assert_eq!((names(&update), removed(&update)), (vec!["b", "c"], vec!["a"]));
}

#[tokio::test]
async fn a_file_written_in_place_is_picked_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cds.yaml");
    let yaml = |name: &str| {
        let url = type_url::CLUSTER;
        format!("resources:\n- \"@type\": {url}\n  name: {name}\n")
    };
    fs::write(&path, yaml("a")).unwrap();
    let mut follower = Follower::start(config(path.clone()));
    assert_eq!(names(&follower.accept().await), ["a"]);
    // Truncating and writing are two changes; an empty file in between is a legal, empty response.
    fs::write(&path, yaml("other")).unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&"other".to_owned()) {
        match follower.event().await {
            Event::Update(update) => {
                seen.extend(names(&update).into_iter().map(str::to_owned));
                follower.0.handle().verdict(Verdict::accept(&update));
            }
            Event::Unreadable { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

#[tokio::test]
async fn a_symlink_swap_is_picked_up_through_the_watched_directory() {
    // As the kubelet lays out a ConfigMap: cds.json -> ..data/cds.json, ..data -> ..1
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path();
    for (generation, name) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(volume.join(generation)).unwrap();
        fs::write(volume.join(generation).join("cds.json"), json("1", &[(name, 1)])).unwrap();
    }
    symlink("..1", volume.join("..data")).unwrap();
    symlink("..data/cds.json", volume.join("cds.json")).unwrap();
    let mut follower = Follower::start(FileConfig {
        watched_directory: Some(volume.to_owned()),
        ..config(volume.join("cds.json"))
    });
    assert_eq!(names(&follower.accept().await), ["a"]);
    symlink("..2", volume.join("..new")).unwrap();
    fs::rename(volume.join("..new"), volume.join("..data")).unwrap();
    let update = follower.accept().await;
    assert_eq!((names(&update), removed(&update)), (vec!["b"], vec!["a"]));
}

#[tokio::test]
async fn a_bad_file_is_reported_and_the_last_good_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cds.json");
    let mut follower = Follower::start(config(path.clone()));
    let Event::Unreadable { reason } = follower.event().await else {
        panic!("there is no file yet")
    };
    assert!(reason.starts_with(path.to_str().unwrap()), "{reason}");
    replace(&path, &json("1", &[("a", 1)]));
    assert_eq!(names(&follower.accept().await), ["a"]);
    for bad in [
        "{",
        r#"{"resources": 7}"#,
        r#"{"type_url": "type.googleapis.com/x.Y"}"#,
    ] {
        replace(&path, bad);
        let event = follower.event().await;
        assert!(matches!(event, Event::Unreadable { .. }), "{bad} gave {event:?}");
    }
    replace(&path, &json("2", &[("a", 1), ("b", 1)]));
    let update = follower.accept().await;
    assert_eq!((names(&update), update.unchanged), (vec!["b"], 1));
}

#[tokio::test]
async fn a_refused_resource_comes_again_and_a_binary_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cds.pb");
    let write = |bodies| {
        let response = DiscoveryResponse {
            resources: bodies,
            ..Default::default()
        };
        fs::write(path.with_extension("draft"), response.encode_to_vec()).unwrap();
        fs::rename(path.with_extension("draft"), &path).unwrap();
    };
    write(vec![cluster("a", 1), cluster("b", 1)]);
    let mut follower = Follower::start(config(path.clone()));
    let Event::Update(update) = follower.event().await else {
        panic!("an update")
    };
    let rejected = vec![Rejected::new("b", "is bad")];
    follower.0.handle().verdict(Verdict::reject(&update, rejected));
    write(vec![cluster("a", 1), cluster("b", 1), cluster("c", 1)]);
    let update = follower.accept().await;
    assert_eq!((names(&update), update.unchanged), (vec!["b", "c"], 1));
    let counters = follower.0.handle();
    let nacks = counters
        .counters()
        .nacks
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(nacks, 1);
}

#[tokio::test]
async fn endpoints_in_a_file_are_handed_out_as_they_are_subscribed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eds.json");
    let entry = |name: &str| {
        format!(
            r#"{{"@type": "{}", "cluster_name": "{name}"}}"#,
            type_url::ENDPOINT
        )
    };
    fs::write(
        &path,
        format!(r#"{{"resources": [{}, {}]}}"#, entry("a"), entry("b")),
    )
    .unwrap();
    let mut follower = Follower::start(FileConfig {
        type_url: type_url::ENDPOINT.into(),
        names: Names::List(vec!["a".into()]),
        ..config(path)
    });
    let update = follower.accept().await;
    assert_eq!((names(&update), update.unrequested), (vec!["a"], 1));
    follower
        .0
        .handle()
        .subscribe(type_url::ENDPOINT, Names::List(vec!["b".into()]));
    let update = follower.accept().await;
    assert_eq!((names(&update), update.unchanged), (vec!["b"], 1));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_said_at_once() {
    let refused = FileSource::start(config("/nowhere/at/all/cds.json".into())).unwrap_err();
    assert!(refused.to_string().starts_with("/nowhere/at/all: "), "{refused}");
}
