//! `protocol_version: RESP3`, against Envoy: what clients may say before HELLO 3, and what they get after it.

use redplane_testkit::{Proxy, ProxyKind, Redis, RedisConfig, free_port};

use crate::external_auth::shown;
use crate::front::{all_to, hosts, listener, redis_filter};
use crate::stage::{admin, client, redplane, static_resources};

/// A proxy with a RESP3 listener, and one more that asks for a password.
struct Pair {
    _proxy: Proxy,
    open: u16,
    locked: u16,
}

impl Pair {
    fn start(kind: &ProxyKind, redis: &Redis) -> Self {
        let (admin_port, open, locked) = (free_port(), free_port(), free_port());
        let filter = |name: &str, fields: &str| {
            let fields = format!("protocol_version: RESP3, {fields}{}", all_to("c"));
            redis_filter(name, "op_timeout: 5s", &fields)
        };
        let password = "downstream_auth_passwords: [{inline_string: secret}], ";
        let listeners = [
            listener("o", open, &filter("o", "")),
            listener("l", locked, &filter("l", password)),
        ];
        let text = format!(
            "node: {{id: one, cluster: two}}\n{}{}",
            admin(admin_port),
            static_resources(&listeners, &[hosts("c", &[redis.port()], "")])
        );
        Self {
            _proxy: Proxy::start(kind, &text, admin_port),
            open,
            locked,
        }
    }
}

/// Commands on one connection each: two for the open listener, the others for the locked one.
const SCRIPTS: &[&[&str]] = &[
    &["PING", "NOSUCH", "GET k", "HELLO", "HELLO 2", "HELLO 4", "PING"],
    &[
        "HELLO 3",
        "HELLO 2",
        "HGETALL h",
        "GET none",
        "SMISMEMBER s a b",
        "ZSCORE z m",
    ],
    &["AUTH secret", "GET k", "HELLO 3", "GET none"],
    &["HELLO 3 AUTH default secret", "GET none"],
];

#[test]
fn resp3_is_what_envoy_means_by_it() {
    let redis = Redis::start(RedisConfig::default());
    let mut own = client(redis.port());
    for line in ["HSET h f v", "SADD s a", "ZADD z 1.5 m"] {
        let words: Vec<&str> = line.split(' ').collect();
        own.command(&words).expect("it is there");
    }
    let envoy = Pair::start(&ProxyKind::Envoy, &redis);
    let ours = Pair::start(&redplane(), &redis);
    let run = |port: u16, script: &[&str]| -> Vec<String> {
        let mut client = client(port);
        let one = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let reply = client.command(&words).expect("it answers");
            // What HELLO says of the server is each one's own.
            match line.starts_with("HELLO") && !matches!(reply, redplane_testkit::Reply::Error(_)) {
                true => "greeted".to_owned(),
                false => shown(&reply),
            }
        };
        script.iter().map(one).collect()
    };
    for script in &SCRIPTS[..2] {
        assert_eq!(run(ours.open, script), run(envoy.open, script), "{script:?}");
    }
    for script in &SCRIPTS[2..] {
        assert_eq!(run(ours.locked, script), run(envoy.locked, script), "{script:?}");
    }
}
