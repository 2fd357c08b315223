//! Unix sockets by absolute, relative and abstract name.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use redplane_xds::{Endpoint, Event, Form, Names, type_url};

use crate::receiver::{Receiver, config};
use crate::server::Server;

async fn reaches(mut server: Server, endpoint: Endpoint) {
    let name = endpoint.to_string();
    let mut receiver = Receiver::start(config(Form::Delta, endpoint));
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    let mut peer = server.accept().await;
    assert_eq!(peer.hear().await.type_url, type_url::CLUSTER);
    assert_eq!(receiver.event().await, Event::Connected { endpoint: name });
}

fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    up.join(path.strip_prefix("/").unwrap())
}

#[tokio::test]
async fn a_relative_path_reaches_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("XDS");
    let (server, _) = Server::unix(&path);
    let relative = relative(&path);
    assert!(relative.is_relative());
    reaches(server, Endpoint::Unix(relative)).await;
}

#[tokio::test]
async fn an_at_sign_means_the_abstract_namespace() {
    let name = format!("redplane-xds-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let server = Server::on_unix(tokio::net::UnixListener::from_std(listener).unwrap());
    reaches(server, Endpoint::Unix(format!("@{name}").into())).await;
}
