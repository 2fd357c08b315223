//! Routes that come by name: waited for, exchanged under open connections, refused by name; and the recorded pushes of
//! a real Istiod with HTTP traffic through their listeners.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use prost::Message as _;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;
use redplane_proto::pb::envoy::config::core::v3::{Address, SocketAddress, address, socket_address};
use redplane_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use redplane_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use redplane_proto::pb::envoy::config::listener::v3::Listener;
use redplane_proto::pb::google::protobuf::Any;
use redplane_testkit::{Authority, Proxy, free_port, until};
use serde_json::Value;

use crate::recorded::{Replay, Verdicts, bootstrap, names, serve};
use crate::sds::Sds;
use crate::stage::{PATIENCE, admin, at, local, redplane, static_cluster, static_resources};

/// A server that answers with its name and what it was asked for.
fn server(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, name));
        }
    });
    port
}

fn answer(mut stream: TcpStream, name: &str) {
    while let Some(head) = head(&mut stream) {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let body = format!("{name} {path}");
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// The head of a message without a body, or of the answer that has one.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(local(port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    stream
}

/// Status and body.
fn get(stream: &mut TcpStream, host: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is open");
    let head = head(stream).expect("an answer");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a whole body");
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn once(port: u16, host: &str, path: &str) -> (u16, String) {
    get(&mut connect(port), host, path)
}

fn http_filter(source: &str) -> String {
    format!(
        "{{name: http, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: h, rds: {{route_config_name: r, config_source: {source}}}, http_filters: [{{name: router, \
         typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}"
    )
}

/// Puts a file of route configurations in the place of the former one.
fn write(path: &Path, version: u64, name: &str, hosts: &str) {
    let text = format!(
        "version_info: '{version}'\nresources:\n- {{\"@type\": \
         type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: {name}, virtual_hosts: [{hosts}]}}\n"
    );
    let next = path.with_extension("next");
    std::fs::write(&next, text).expect("it can be written");
    std::fs::rename(&next, path).expect("it can be renamed");
}

fn host(cluster: &str) -> String {
    format!(
        "{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}"
    )
}

#[test]
fn routes_are_exchanged_under_open_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rds.yaml");
    let (port, admin_port) = (free_port(), free_port());
    write(&path, 1, "r", &host("one"));
    let source = format!(
        "{{path_config_source: {{path: {}}}, resource_api_version: V3}}",
        path.display()
    );
    let listener = format!(
        "{{name: l, {}, filter_chains: [{{filters: [{}]}}]}}",
        at(port),
        http_filter(&source)
    );
    let clusters = [
        static_cluster("one", server("one")),
        static_cluster("two", server("two")),
    ];
    let text = format!(
        "{}{}",
        admin(admin_port),
        static_resources(&[listener], &clusters)
    );
    let proxy = Proxy::start(&redplane(), &text, admin_port);
    let mut client = connect(port);
    assert_eq!(get(&mut client, "h", "/a"), (200, "one /a".to_owned()));

    // The next request takes the new routes, on the same connection.
    write(&path, 2, "r", &host("two"));
    until("the new routes rule", PATIENCE, || {
        get(&mut client, "h", "/b").1 == "two /b"
    });

    // A refused one is counted and told under its name; the former stays.
    write(
        &path,
        3,
        "r",
        "{name: all, domains: ['*']}, {name: again, domains: ['*']}",
    );
    until("the refusal is counted", PATIENCE, || {
        proxy.stat("http.h.rds.r.update_rejected") == Some(1)
    });
    assert_eq!(get(&mut client, "h", "/c"), (200, "two /c".to_owned()));
    let routes = section(&proxy, ".RoutesConfigDump");
    let routes = routes["dynamic_route_configs"].as_array().expect("a list");
    assert_eq!(routes.len(), 1, "{routes:?}");
    assert_eq!(routes[0]["route_config"]["name"], "r");
    assert_eq!(routes[0]["version_info"], "2");
    let details = routes[0]["error_state"]["details"].as_str().expect("a reason");
    assert!(details.contains("virtual_hosts[1].domains[0]"), "{details}");
    assert_eq!(proxy.stat("http.h.rds.r.update_success"), Some(2));
}

#[test]
fn routes_that_never_come_are_waited_for_as_told() {
    let (port, admin_port, sds) = (free_port(), free_port(), Sds::start());
    // It has no routes to tell.
    let (_runtime, xds) = serve(Replay::new("gateway", Verdicts::default()));
    let source = "{ads: {}, initial_fetch_timeout: 0.5s, resource_api_version: V3}";
    let listener = format!(
        "{{name: l, {}, filter_chains: [{{filters: [{}]}}]}}",
        at(port),
        http_filter(source)
    );
    let text = bootstrap("DELTA_GRPC", admin_port, xds, &sds);
    let text = text.replace(
        "static_resources:\n",
        &format!("static_resources:\n  listeners: [{listener}]\n"),
    );
    let proxy = Proxy::start_without_waiting(&redplane(), &text, admin_port, &["--concurrency", "1"]);
    until("it listens without routes", PATIENCE, || {
        TcpStream::connect(local(port)).is_ok()
    });
    assert_eq!(once(port, "h", "/"), (404, String::new()));
    assert_eq!(proxy.stat("http.h.rds.r.init_fetch_timeout"), Some(1));
}

fn section(proxy: &Proxy, word: &str) -> Value {
    let dump: Value = serde_json::from_str(&proxy.page("/config_dump").body).expect("a dump is JSON");
    let sections = dump["configs"].as_array().expect("a list");
    let found = sections
        .iter()
        .find(|section| section["@type"].as_str().is_some_and(|url| url.contains(word)));
    found.cloned().unwrap_or_else(|| panic!("no {word}"))
}

/// What is recorded, but for addresses: these listeners open a port of this machine, and every endpoint is one server.
fn moved(any: &mut Any, ports: &HashMap<String, u16>, server: u16) {
    let here = |port: u16| Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    };
    if any.type_url.ends_with(".Listener") {
        let mut listener = Listener::decode(any.value.as_slice()).expect("a recorded listener");
        // Nothing is redirected here: the others keep their ports to themselves.
        listener.bind_to_port = Some(redplane_proto::pb::google::protobuf::BoolValue {
            value: ports.contains_key(&listener.name),
        });
        if let Some(port) = ports.get(&listener.name) {
            listener.address = Some(here(*port));
            listener.additional_addresses.clear();
        }
        any.value = listener.encode_to_vec();
    }
    if any.type_url.ends_with(".Cluster") {
        let mut cluster = Cluster::decode(any.value.as_slice()).expect("a recorded cluster");
        // The server here speaks HTTP/1 only, in plain text.
        cluster.typed_extension_protocol_options.clear();
        cluster.transport_socket = None;
        cluster.transport_socket_matches.clear();
        any.value = cluster.encode_to_vec();
    }
    if any.type_url.ends_with(".ClusterLoadAssignment") {
        let mut assignment =
            ClusterLoadAssignment::decode(any.value.as_slice()).expect("a recorded assignment");
        let localities = assignment.endpoints.iter_mut();
        for endpoint in localities.flat_map(|locality| &mut locality.lb_endpoints) {
            if let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier {
                endpoint.address = Some(here(server));
            }
        }
        any.value = assignment.encode_to_vec();
    }
}

/// Who asks for what at which listener, and what comes back.
const TRAFFIC: &[(&str, &str, &str, u16, &str)] = &[
    (
        "0.0.0.0_80",
        "reviews.store.svc.cluster.local",
        "/r",
        200,
        "app /r",
    ),
    ("0.0.0.0_80", "reviews.store", "/r?x=1", 200, "app /r?x=1"),
    ("0.0.0.0_80", "shop.store.svc.cluster.local", "/", 200, "app /"),
    ("0.0.0.0_80", "shop.store", "/moved", 308, ""),
    (
        "0.0.0.0_8081",
        "reviews.store.svc.cluster.local:8081",
        "/x",
        200,
        "app /x",
    ),
    (
        "0.0.0.0_9000",
        "shop.store.svc.cluster.local:9000",
        "/",
        200,
        "app /",
    ),
    ("10.96.1.11_5000", "anything", "/five", 200, "app /five"),
];

/// Hosts that no route of the listener knows.
const STRANGERS: &[(&str, &str)] = &[("0.0.0.0_80", "unknown.example"), ("0.0.0.0_8081", "shop.store")];

/// `stranger` is what the mesh answers where it knows no host: by its own word, or because nothing told where it wanted to go.
fn traffic_runs(mesh: &'static str, api: &str, stranger: u16) {
    let listeners: Vec<&str> = TRAFFIC.iter().map(|row| row.0).collect();
    let ports: HashMap<String, u16> = listeners
        .iter()
        .map(|name| ((*name).to_owned(), free_port()))
        .collect();
    let (admin_port, sds, authority) = (free_port(), Sds::start(), Authority::new());
    let identity = authority.issue("pod", &["spiffe://cluster.local/ns/store/sa/client"]);
    sds.put_identity(&identity);
    let (verdicts, app, taken) = (Verdicts::default(), server("app"), ports.clone());
    let replay = Replay::new(mesh, verdicts.clone());
    let (_runtime, xds) = serve(replay.moved(move |any| moved(any, &taken, app)));
    let proxy = Proxy::start(&redplane(), &bootstrap(api, admin_port, xds, &sds), admin_port);
    for (listener, host, path, status, body) in TRAFFIC {
        let (got, text) = once(ports[*listener], host, path);
        assert_eq!(
            (got, text.as_str()),
            (*status, *body),
            "{mesh} {api}: {listener} {host}{path}"
        );
    }
    for (listener, host) in STRANGERS {
        let (got, _) = once(ports[*listener], host, "/");
        assert_eq!(got, stranger, "{mesh} {api}: {listener} {host}");
    }
    for (type_url, verdict) in verdicts.lock().expect("nobody panicked").iter() {
        assert_eq!(verdict, &Ok(()), "{mesh} {api}: {type_url} was refused");
    }
    let routes = section(&proxy, ".RoutesConfigDump").to_string();
    for name in names(mesh, "rds") {
        assert!(
            routes.contains(&format!("\"name\":\"{name}\"")),
            "{mesh} {api}: {name} is not told"
        );
    }
}

#[test]
fn http_runs_through_the_recorded_listeners() {
    for (mesh, stranger) in [("http-client", 502), ("http-server", 503)] {
        for api in ["DELTA_GRPC", "GRPC"] {
            traffic_runs(mesh, api, stranger);
        }
    }
}
