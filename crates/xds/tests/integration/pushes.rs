//! Every recorded push of a real Istiod travels through the client unchanged, in both forms, in the order
//! Envoy asks.

use std::fs;
use std::path::PathBuf;

use prost::Message as _;
use redplane_proto::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use redplane_proto::pb::google::protobuf::Any;
use redplane_xds::{Form, Names, Verdict, type_url, wire};

use crate::receiver::{Receiver, config};
use crate::server::{Peer, Server};

const MESHES: [&str; 6] = ["gateway", "mirror", "mtls", "none", "plain", "sharding"];

/// A recorded response: its bytes, its nonce and its named resources.
struct Recorded {
    bytes: Vec<u8>,
    nonce: String,
    resources: Vec<(String, Any)>,
}

fn recorded(mesh: &str, form: Form, kind: &str) -> Option<Recorded> {
    let prefix = match form {
        Form::Delta => "delta",
        Form::Sotw => "sotw",
    };
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "../../tests/golden/istio-pushes",
        mesh,
    ]
    .iter()
    .collect();
    let bytes = fs::read(path.join(format!("{prefix}-{kind}.pb"))).ok()?;
    let (nonce, resources) = match form {
        Form::Delta => {
            let response = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
            let resources = response.resources.into_iter();
            (
                response.nonce,
                resources.map(|r| (r.name, r.resource.unwrap())).collect(),
            )
        }
        Form::Sotw => {
            let response = DiscoveryResponse::decode(bytes.as_slice()).unwrap();
            let resources = response.resources.into_iter();
            let named = resources
                .map(|body| (wire::name_of(&body).unwrap(), body))
                .collect();
            (response.nonce, named)
        }
    };
    Some(Recorded {
        bytes,
        nonce,
        resources,
    })
}

impl Recorded {
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.resources.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

/// Replays one type and checks what arrives; `then` names the subscription that this update leads to.
async fn deliver(
    peer: &mut Peer,
    receiver: &mut Receiver,
    url: &str,
    push: &Recorded,
    then: Option<(&str, Vec<String>)>,
) {
    peer.replay(&push.bytes);
    let update = receiver.update().await;
    assert_eq!(update.type_url, url);
    assert_eq!((update.unchanged, update.unrequested), (0, 0));
    assert_eq!(update.refused, []);
    let arrived: Vec<(String, Any)> = update
        .resources
        .iter()
        .map(|resource| (resource.name.clone(), resource.body.clone()))
        .collect();
    assert!(
        arrived == push.resources,
        "every resource of {url} arrives byte for byte"
    );
    if let Some((next, names)) = &then {
        receiver.handle.subscribe(next, Names::List(names.clone()));
    }
    receiver.handle.verdict(Verdict::accept(&update));
    if let Some((next, names)) = then.filter(|(_, names)| !names.is_empty()) {
        let asked = peer.hear().await;
        assert_eq!((asked.type_url.as_str(), asked.nonce.as_str()), (next, ""));
        assert_eq!((asked.names, asked.node), (names, None));
    }
    let ack = peer.hear().await;
    assert_eq!(
        (ack.type_url.as_str(), &ack.nonce, ack.error),
        (url, &push.nonce, None)
    );
}

async fn replay_mesh(mesh: &str, form: Form) {
    let (mut server, endpoint) = Server::tcp().await;
    let mut receiver = Receiver::start(config(form, endpoint));
    receiver.handle.hold(type_url::LISTENER);
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    receiver.handle.subscribe(type_url::LISTENER, Names::Wildcard);
    let mut peer = server.accept().await;
    let first = peer.hear().await;
    assert_eq!(
        (first.type_url.as_str(), first.names),
        (type_url::CLUSTER, Vec::new())
    );
    assert_eq!(first.node.unwrap().user_agent_name, "envoy");

    let clusters = recorded(mesh, form, "cds").expect("a recorded CDS push");
    let endpoints = recorded(mesh, form, "eds").expect("a recorded EDS push");
    let listeners = recorded(mesh, form, "lds").expect("a recorded LDS push");
    let routes = recorded(mesh, form, "rds");
    let eds = Some((type_url::ENDPOINT, endpoints.names()));
    deliver(&mut peer, &mut receiver, type_url::CLUSTER, &clusters, eds).await;
    if !endpoints.resources.is_empty() {
        deliver(&mut peer, &mut receiver, type_url::ENDPOINT, &endpoints, None).await;
    }
    receiver.handle.release(type_url::LISTENER);
    assert_eq!(peer.hear().await.type_url, type_url::LISTENER);
    let rds = routes.as_ref().map(|routes| (type_url::ROUTE, routes.names()));
    deliver(&mut peer, &mut receiver, type_url::LISTENER, &listeners, rds).await;
    if let Some(routes) = &routes {
        deliver(&mut peer, &mut receiver, type_url::ROUTE, routes, None).await;
    }

    // Istiod resends everything after each change: nothing of it is handed on again.
    peer.replay(&clusters.bytes);
    let again = receiver.accept().await;
    assert_eq!(
        (again.resources.len(), again.unchanged),
        (0, clusters.resources.len())
    );
    assert_eq!(again.removed, Vec::<String>::new());
    assert_eq!(peer.hear().await.nonce, clusters.nonce);
}

#[tokio::test]
async fn every_recorded_push_arrives_in_delta() {
    for mesh in MESHES {
        replay_mesh(mesh, Form::Delta).await;
    }
}

#[tokio::test]
async fn every_recorded_push_arrives_in_state_of_the_world() {
    for mesh in MESHES {
        replay_mesh(mesh, Form::Sotw).await;
    }
}
