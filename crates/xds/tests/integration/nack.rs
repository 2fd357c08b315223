//! A bad resource is refused by name on the wire, the good ones live, and the next push heals it.

use std::sync::atomic::Ordering::Relaxed;

use redplane_xds::{Form, Names, Rejected, Verdict, type_url};

use crate::receiver::{Receiver, cluster, config, names};
use crate::server::Server;

async fn nack_and_recover(form: Form) {
    let (mut server, endpoint) = Server::tcp().await;
    let mut receiver = Receiver::start(config(form, endpoint));
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
    assert_eq!(peer.hear().await.error, None);

    peer.push(
        type_url::CLUSTER,
        "v2",
        vec![cluster("a", 2), cluster("b", 2)],
        &[],
    );
    let update = receiver.update().await;
    assert_eq!(names(&update), ["a", "b"]);
    let rejected = vec![Rejected::new("b", "connect_timeout: is too long")];
    receiver.handle.verdict(Verdict::reject(&update, rejected));
    let nack = peer.hear().await;
    assert_eq!(nack.nonce, "v2");
    let (code, text) = nack.error.expect("a NACK");
    assert_eq!(code, 13);
    assert!(
        text.contains("b: connect_timeout: is too long") && !text.contains("a:"),
        "{text}"
    );
    if form == Form::Sotw {
        assert_eq!(nack.version, "v1", "the last version that was good");
    }

    peer.push(
        type_url::CLUSTER,
        "v3",
        vec![cluster("a", 2), cluster("b", 3)],
        &[],
    );
    let update = receiver.accept().await;
    assert_eq!((names(&update), update.unchanged), (vec!["b"], 1));
    let ack = peer.hear().await;
    assert_eq!((ack.nonce.as_str(), ack.error), ("v3", None));
    let counters = receiver.handle.counters();
    assert_eq!(counters.nacks.load(Relaxed), 1);
    assert_eq!(counters.acks.load(Relaxed), 2);
    assert_eq!(counters.responses.load(Relaxed), 3);
    assert!(counters.connected.load(Relaxed));
}

#[tokio::test]
async fn a_nack_heals_in_delta() {
    nack_and_recover(Form::Delta).await;
}

#[tokio::test]
async fn a_nack_heals_in_state_of_the_world() {
    nack_and_recover(Form::Sotw).await;
}
