//! SDS as pilot-agent serves it: a socket and a stream per name, state of the world, rotation on the same stream.

use prost::Message as _;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use redplane_proto::pb::google::protobuf::Any;
use redplane_xds::{Config, Form, Names, Service, type_url};

use crate::receiver::{Receiver, config, names};
use crate::server::Server;

fn secret(name: &str, padding: usize) -> Any {
    let secret = Secret {
        name: name.into(),
        ..Default::default()
    };
    let mut value = secret.encode_to_vec();
    // An unknown field stands for another certificate.
    value.extend([0x7a, u8::try_from(padding).unwrap()]);
    value.extend(vec![0; padding]);
    Any {
        type_url: type_url::SECRET.into(),
        value,
    }
}

#[tokio::test]
async fn a_secret_is_fetched_and_rotated_on_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, endpoint) = Server::secrets(&folder.path().join("socket"));
    let mut receiver = Receiver::start(Config {
        service: Service::Secret,
        ..config(Form::Sotw, endpoint)
    });
    receiver
        .handle
        .subscribe(type_url::SECRET, Names::List(vec!["default".into()]));
    let mut peer = server.accept().await;
    let first = peer.hear().await;
    assert_eq!(
        (first.names, first.node.is_some()),
        (vec!["default".to_owned()], true)
    );
    for (version, padding) in [("v1", 1), ("v2", 2)] {
        peer.push(type_url::SECRET, version, vec![secret("default", padding)], &[]);
        assert_eq!(names(&receiver.accept().await), ["default"]);
        let ack = peer.hear().await;
        assert_eq!(
            (ack.version.as_str(), ack.names),
            (version, vec!["default".to_owned()])
        );
    }
}

#[tokio::test]
async fn an_unimplemented_method_is_reported_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, endpoint) = Server::secrets(&folder.path().join("socket"));
    let mut receiver = Receiver::start(Config {
        service: Service::Secret,
        ..config(Form::Delta, endpoint)
    });
    receiver
        .handle
        .subscribe(type_url::SECRET, Names::List(vec!["default".into()]));
    let (reason, established) = receiver.disconnected().await;
    assert_eq!((reason.as_str(), established), ("12, not implemented", true));
}
