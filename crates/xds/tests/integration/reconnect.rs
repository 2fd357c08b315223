//! The server goes away in every way it can, comes back, and hears what is held.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redplane_xds::{Config, Event, Form, Names, type_url};
use tonic::Status;

use crate::receiver::{Receiver, cluster, config};
use crate::server::{Server, soon};

#[tokio::test]
async fn delta_names_everything_held_when_the_server_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("XDS");
    let (mut server, endpoint) = Server::unix(&path);
    let mut receiver = Receiver::start(config(Form::Delta, endpoint));
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    let mut peer = server.accept().await;
    peer.hear().await;
    peer.push(
        type_url::CLUSTER,
        "v1",
        vec![cluster("a", 1), cluster("b", 1)],
        &[],
    );
    receiver.accept().await;
    peer.hear().await;

    // Gone: the socket, the connection and the stream.
    std::fs::remove_file(&path).unwrap();
    let gone = server.go_away();
    drop(peer);
    soon("the server's end", gone).await.unwrap();
    assert!(receiver.disconnected().await.1, "the stream ended");
    assert!(!receiver.disconnected().await.1, "nobody listens");
    receiver
        .handle
        .subscribe(type_url::ENDPOINT, Names::List(vec!["a".into()]));

    let (mut server, _) = Server::unix(&path);
    let mut peer = server.accept().await;
    let first = peer.hear().await;
    assert!(first.node.is_some(), "the node goes along again");
    assert_eq!(first.nonce, "");
    let held: BTreeMap<String, String> = ["a", "b"].map(|name| (name.into(), String::new())).into();
    assert_eq!((first.names, first.initial), (Vec::new(), held));
    let second = peer.hear().await;
    assert_eq!(
        (second.type_url.as_str(), second.node),
        (type_url::ENDPOINT, None)
    );
    peer.push(type_url::CLUSTER, "v2", vec![cluster("a", 1)], &["b"]);
    let update = receiver.accept().await;
    assert_eq!((update.removed, update.unchanged), (vec!["b".to_owned()], 1));
    assert!(!server.has_more(), "never two streams");
}

#[tokio::test]
async fn state_of_the_world_repeats_its_names_and_version() {
    let (mut server, endpoint) = Server::tcp().await;
    let mut receiver = Receiver::start(config(Form::Sotw, endpoint));
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    receiver
        .handle
        .subscribe(type_url::ENDPOINT, Names::List(vec!["x".into()]));
    let mut peer = server.accept().await;
    peer.push(type_url::CLUSTER, "v7", vec![cluster("a", 1)], &[]);
    receiver.accept().await;
    for _ in 0..3 {
        peer.hear().await;
    }
    peer.fail(Status::unavailable("upstream is gone"));
    let (reason, established) = receiver.disconnected().await;
    assert_eq!((reason.as_str(), established), ("14, upstream is gone", true));

    let mut peer = server.accept().await;
    let first = peer.hear().await;
    assert_eq!((first.version.as_str(), first.nonce.as_str()), ("v7", ""));
    let second = peer.hear().await;
    assert_eq!(second.names, ["x"]);
    // A cluster that vanished in between is removed by being left out.
    peer.push(type_url::CLUSTER, "v8", vec![], &[]);
    assert_eq!(receiver.accept().await.removed, ["a"]);
}

#[tokio::test]
async fn an_open_stream_survives_goaway_until_it_ends() {
    let (mut server, endpoint) = Server::tcp().await;
    let mut receiver = Receiver::start(config(Form::Delta, endpoint));
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    let mut peer = server.accept().await;
    peer.hear().await;
    let gone = server.go_away();
    peer.push(type_url::CLUSTER, "v1", vec![cluster("a", 1)], &[]);
    receiver.accept().await;
    assert_eq!(peer.hear().await.nonce, "v1");
    drop(peer);
    let (reason, established) = receiver.disconnected().await;
    assert_eq!(
        (reason.as_str(), established),
        ("0, the server ended the stream", true)
    );
    soon("the server's end", gone).await.unwrap();
}

#[tokio::test]
async fn endpoints_take_turns_and_the_pause_is_short_again_after_a_healthy_stream() {
    let (mut server, good) = Server::tcp().await;
    let folder = tempfile::tempdir().unwrap();
    let dead = redplane_xds::Endpoint::Unix(folder.path().join("nobody"));
    let base = Duration::from_millis(20);
    let mut receiver = Receiver::start(Config {
        endpoints: vec![dead.clone(), dead.clone(), dead.clone(), good.clone()],
        backoff_base: base,
        backoff_cap: Duration::from_secs(1),
        initial_metadata: vec![("X-Tenant".into(), "red".into())],
        ..config(Form::Delta, dead)
    });
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    let peer = server.accept().await;
    assert_eq!(peer.metadata.get("x-tenant").unwrap(), "red");
    peer.push(type_url::CLUSTER, "v1", vec![], &[]);
    receiver.accept().await;
    drop(peer);
    loop {
        if let Event::Disconnected {
            established: true,
            retry_in,
            ..
        } = receiver.event().await
        {
            assert!(retry_in < base, "{retry_in:?}");
            break;
        }
    }
    server.accept().await;
    let counters = receiver.handle.counters();
    assert_eq!(counters.connects.load(Relaxed), 2);
    assert!(counters.connect_failures.load(Relaxed) >= 3);
}

#[tokio::test]
async fn the_task_ends_with_the_client_even_while_a_handle_is_left() {
    let (mut server, endpoint) = Server::tcp().await;
    let receiver = Receiver::start(config(Form::Delta, endpoint));
    let handle = receiver.handle.clone();
    handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    let mut peer = server.accept().await;
    peer.hear().await;
    drop(receiver);
    assert_eq!(soon("the end of the stream", peer.next()).await, None);
    handle.subscribe(type_url::LISTENER, Names::Wildcard);
}
