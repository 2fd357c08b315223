//! Beside Envoy: limits of connections in front of the Redis filter, and admin pages that are not for everybody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use redplane_testkit::{Proxy, ProxyKind, Redis, free_port, http_get, http_post, until};

use crate::stage::{PATIENCE, admin, at, local, redplane, static_cluster, static_resources};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.network";

fn limited(name: &str, port: u16, filter: &str) -> String {
    format!(
        "{{name: {name}, {}, filter_chains: [{{filters: [{filter}, {{name: redis, typed_config: {{\"@type\": \
         {FILTERS}.redis_proxy.v3.RedisProxy, stat_prefix: r, settings: {{op_timeout: 5s}}, prefix_routes: \
         {{catch_all_route: {{cluster: c}}}}}}}}]}}]}}",
        at(port)
    )
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(local(port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    stream
}

/// Whether a command on it is answered; else the connection was closed.
fn is_served(stream: &mut TcpStream) -> bool {
    let mut reply = [0; 7];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut reply).is_ok() && &reply == b"+PONG\r\n"
}

/// Clients of both proxies meet the same limits and the same counts.
#[test]
fn connections_are_limited_as_by_envoy() {
    let redis = Redis::plain();
    for kind in [ProxyKind::Envoy, redplane()] {
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let limit = |more: &str| {
            format!(
                "{{name: limit, typed_config: {{\"@type\": {FILTERS}.connection_limit.v3.ConnectionLimit, \
                 stat_prefix: cl, max_connections: 2{more}}}}}"
            )
        };
        let rate = format!(
            "{{name: rate, typed_config: {{\"@type\": {FILTERS}.local_ratelimit.v3.LocalRateLimit, stat_prefix: \
             lr, share_key: k, token_bucket: {{max_tokens: 2, fill_interval: 3600s}}}}}}"
        );
        let off = ", runtime_enabled: {default_value: false, runtime_key: k}";
        let listeners = [
            limited("limit", ports[0], &limit(", delay: 0.3s")),
            limited("free", ports[1], &limit(off)),
            limited("rate", ports[2], &rate),
            limited("shared", ports[3], &rate),
        ];
        let admin_port = free_port();
        let clusters = [static_cluster("c", redis.port())];
        let text = format!("{}{}", admin(admin_port), static_resources(&listeners, &clusters));
        let proxy = Proxy::start(&kind, &text, admin_port);

        let mut within = [connect(ports[0]), connect(ports[0])];
        assert!(within.iter_mut().all(is_served), "{kind:?}");
        let begun = Instant::now();
        assert!(!is_served(&mut connect(ports[0])), "{kind:?}");
        let waited = Instant::now().duration_since(begun);
        assert!(waited >= Duration::from_millis(250), "{kind:?}");
        let stat = |name: &str| proxy.stat(name);
        assert_eq!(
            stat("connection_limit.cl.active_connections"),
            Some(2),
            "{kind:?}"
        );
        assert_eq!(
            stat("connection_limit.cl.limited_connections"),
            Some(1),
            "{kind:?}"
        );
        // A place that becomes free is given to the next.
        drop(within);
        until("the places are free", PATIENCE, || {
            stat("connection_limit.cl.active_connections") == Some(0)
        });
        assert!(is_served(&mut connect(ports[0])), "{kind:?}");

        let mut free = [connect(ports[1]), connect(ports[1]), connect(ports[1])];
        assert!(free.iter_mut().all(is_served), "{kind:?}");

        // Two tokens for both listeners: their filters share a key.
        let came = [ports[2], ports[3], ports[2], ports[3]];
        let served = came.map(|port| is_served(&mut connect(port)));
        assert_eq!(served, [true, true, false, false], "{kind:?}");
        assert_eq!(stat("local_rate_limit.lr.rate_limited"), Some(2), "{kind:?}");
    }
}

/// The path counts with its query, and before the method.
#[test]
fn admin_pages_that_are_not_allowed_answer_403() {
    let mut told = Vec::new();
    for kind in [ProxyKind::Envoy, redplane()] {
        let port = free_port();
        let text = admin(port).replacen("{", "{allow_paths: [{exact: /ready}, {prefix: /stats}], ", 1);
        let mut proxy = Proxy::start(&kind, &text, port);
        let mut answers = Vec::new();
        for path in [
            "/ready",
            "/ready?x",
            "/config_dump?a=b",
            "/none",
            "/stats?filter=^none$",
        ] {
            let reply = http_get(local(port), path).expect("an answer");
            answers.push((path, reply.status, reply.body));
        }
        for path in ["/quitquitquit", "/logging?level=info"] {
            let reply = http_post(local(port), path).expect("an answer");
            answers.push((path, reply.status, reply.body));
        }
        assert!(proxy.process_mut().ended().is_none(), "{kind:?}");
        told.push(answers);
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(
        told[1][5],
        (
            "/quitquitquit",
            403,
            "request to path /quitquitquit not allowed".to_owned()
        )
    );
}
