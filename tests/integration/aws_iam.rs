//! IAM tokens as passwords: on every connection, discovery's too, and never the same one for long.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use redplane_testkit::{Act, Backend, Proxy, ProxyKind, Request, free_port, until, until_some};

use crate::front::{EAGER, Front, all_to, discovered, listener, redis_filter};
use crate::stage::{PATIENCE, admin, ask, client, static_resources};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A node that owns all slots, believes every token, and lets no connection live longer than one GET.
fn node() -> Backend {
    let bound = Backend::bind();
    let port = bound.addr().port();
    bound.serve(move |request: &Request| match request.name().as_str() {
        "auth" => Act::reply("+OK"),
        "cluster" => Act::reply(&format!(
            "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$40\r\n{:040}",
            7
        )),
        "get" => {
            let mut acts = Act::bulk(b"v");
            acts.push(Act::Close);
            acts
        }
        _ => Act::reply("-ERR unknown command"),
    })
}

#[test]
fn tokens_open_every_connection_and_are_renewed() {
    let node = node();
    let options = format!(
        ", typed_extension_protocol_options: {{envoy.filters.network.redis_proxy: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions, auth_username: \
         {{inline_string: iam-user}}, aws_iam: {{cache_name: my-cache, region: eu-west-1, expiration_time: 2s, \
         credential_provider: {{inline_credential: {{access_key_id: AKIDEXAMPLE, secret_access_key: \
         {SECRET}}}}}}}}}}}"
    );
    let clusters = [discovered("c", &[node.addr().port()], EAGER, &options)];
    let front = Front::start(&redis_filter("r", "op_timeout: 5s", &all_to("c")), &clusters);
    crate::stage::until_answered(front.port, "GET k", "v");
    let mut client = front.client();
    let seen = || -> BTreeSet<String> {
        let logins = node
            .requests()
            .into_iter()
            .filter(|request| request.name() == "auth");
        logins.map(|request| request.word(2)).collect()
    };
    until(
        "three tokens on connections of data and discovery",
        PATIENCE,
        || {
            ask(&mut client, "GET k");
            seen().len() >= 3
        },
    );
    let requests = node.requests();
    for request in &requests {
        if request.index == 0 {
            let expected = "my-cache/?Action=connect&User=iam-user&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                            &X-Amz-Credential=AKIDEXAMPLE%2F";
            assert_eq!(
                (request.name(), request.word(1)),
                ("auth".into(), "iam-user".into())
            );
            assert!(request.word(2).starts_with(expected), "{}", request.line());
            assert!(
                request
                    .word(2)
                    .contains("%2Feu-west-1%2Felasticache%2Faws4_request&")
            );
        }
    }
    let behind = |name: &str| {
        requests
            .iter()
            .any(|request| request.index == 1 && request.name() == name)
    };
    assert!(behind("get") && behind("cluster"), "{requests:?}");
    for page in ["/config_dump", "/clusters", "/stats"] {
        let body = front.proxy.page(page).body;
        assert!(
            !body.contains(SECRET) && !body.contains("X-Amz-Signature"),
            "{page}"
        );
    }
    let log = front.proxy.process().output();
    assert!(!log.contains(SECRET) && !log.contains("X-Amz-Signature"), "{log}");
}

#[test]
fn without_credentials_nothing_is_sent_and_all_is_counted() {
    let node = node();
    let options = ", typed_extension_protocol_options: {envoy.filters.network.redis_proxy: {\"@type\": \
                   type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions, \
                   auth_username: {inline_string: iam-user}, aws_iam: {cache_name: my-cache, region: eu-west-1, \
                   credential_provider: {custom_credential_provider_chain: true, credentials_file_provider: \
                   {credentials_data_source: {inline_string: nothing}}}}}}";
    let hosts = crate::front::hosts("c", &[node.addr().port()], options);
    let front = Front::start(&redis_filter("r", "op_timeout: 5s", &all_to("c")), &[hosts]);
    let mut client = front.client();
    assert_eq!(ask(&mut client, "GET k"), "upstream failure");
    assert!(front.stat("cluster.c.redis_cluster.upstream_auth_failure") >= 1);
    assert_eq!(node.requests().len(), 0);
    until("the reason in the log", PATIENCE, || {
        let log = front.proxy.process().output();
        log.contains("credentials file: profile `default` has no credentials")
    });
}

#[test]
fn the_first_command_waits_for_the_first_token() {
    let node = node();
    let service = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let uri = format!(
        "http://{}/credentials",
        service.local_addr().expect("it is bound")
    );
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let program = folder.path().join("redplane");
    let real = env!("CARGO_BIN_EXE_redplane");
    let script = format!("#!/bin/sh\nAWS_CONTAINER_CREDENTIALS_FULL_URI={uri} exec {real} \"$@\"\n");
    std::fs::write(&program, script).expect("the folder can be written");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let options = ", typed_extension_protocol_options: {envoy.filters.network.redis_proxy: {\"@type\": \
                   type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions, \
                   auth_username: {inline_string: iam-user}, aws_iam: {cache_name: my-cache, region: eu-west-1, \
                   credential_provider: {custom_credential_provider_chain: true, container_credential_provider: {}}}}}";
    let hosts = crate::front::hosts("c", &[node.addr().port()], options);
    let (port, admin_port) = (free_port(), free_port());
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("c"));
    let text = format!(
        "node: {{id: n, cluster: c}}\n{}{}",
        admin(admin_port),
        static_resources(&[listener("redis", port, &filter)], &[hosts])
    );
    let kind = ProxyKind::Redplane(program);
    let proxy = Proxy::start_without_waiting(&kind, &text, admin_port, &["--concurrency", "1"]);
    let (mut asked, _) = service.accept().expect("credentials are asked for");
    let status = until_some("the admin pages", PATIENCE, || {
        let ready = redplane_testkit::http_get(proxy.admin(), "/ready");
        ready.ok().map(|reply| reply.status)
    });
    assert_eq!(status, 503, "it serves without a token");
    let body = format!(
        "{{\"AccessKeyId\": \"AKIDEXAMPLE\", \"SecretAccessKey\": \"{SECRET}\", \"Token\": \"t\", \
         \"Expiration\": \"2099-01-01T00:00:00Z\"}}"
    );
    let _ = asked.read(&mut [0; 4096]).expect("a request");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    asked.write_all((head + &body).as_bytes()).expect("it is read");
    let _proxy = proxy.wait_until_ready();
    assert_eq!(ask(&mut client(port), "GET k"), "v");
}
