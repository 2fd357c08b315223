//! A push far above gRPC's usual 4 MiB, of ten thousand clusters, arrives, and its resend is skipped.

use redplane_xds::{Form, Names, type_url};

use crate::receiver::{Receiver, cluster, config};
use crate::server::Server;

#[tokio::test]
async fn ten_thousand_clusters_in_one_message() {
    for form in [Form::Delta, Form::Sotw] {
        let (mut server, endpoint) = Server::tcp().await;
        let mut receiver = Receiver::start(config(form, endpoint));
        receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
        let mut peer = server.accept().await;
        let padding = "x".repeat(1_000);
        let all: Vec<_> = (0..10_000)
            .map(|i| cluster(&format!("{i}-{padding}"), i))
            .collect();
        peer.push(type_url::CLUSTER, "v1", all.clone(), &[]);
        assert_eq!(receiver.accept().await.resources.len(), 10_000);
        peer.push(type_url::CLUSTER, "v2", all, &[]);
        let again = receiver.accept().await;
        assert_eq!((again.resources.len(), again.unchanged), (0, 10_000));
        for nonce in ["", "v1", "v2"] {
            assert_eq!(peer.hear().await.nonce, nonce);
        }
    }
}
