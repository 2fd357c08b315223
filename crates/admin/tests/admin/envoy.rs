//! The same requests to a real Envoy 1.40 and to our server, over the same small configuration.

use redplane_testkit::{HttpReply, Proxy, ProxyKind, free_port, http_get, http_post};
use serde_json::Value;

use crate::fixture::{Admin, bootstrap, static_world};

struct Both {
    envoy: Proxy,
    ours: Admin,
}

impl Both {
    fn start() -> Self {
        let port = free_port();
        let envoy = Proxy::start(&ProxyKind::Envoy, &bootstrap(port).to_string(), port);
        Self {
            envoy,
            ours: Admin::start(static_world(port)),
        }
    }

    fn get(&self, path: &str) -> (HttpReply, HttpReply) {
        (http_get(self.envoy.admin(), path).unwrap(), self.ours.get(path))
    }

    /// What differs between the two answers, headers that move aside.
    fn difference(&self, method: &str, path: &str, part: Part) -> Option<String> {
        let exchange = if method == "GET" { http_get } else { http_post };
        let theirs = exchange(self.envoy.admin(), path).unwrap();
        let ours = exchange(self.ours.address, path).unwrap();
        let same_body = part == Part::Head || ours.body == theirs.body;
        let same = (ours.status, head(&ours)) == (theirs.status, head(&theirs)) && same_body;
        (!same).then(|| format!("{method} {path}\nours: {ours:?}\nEnvoy: {theirs:?}\n"))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Head,
    Whole,
}

/// The headers that do not depend on time or framing, sorted.
fn head(reply: &HttpReply) -> Vec<String> {
    let lines = reply.head.lines().skip(1).map(str::to_ascii_lowercase);
    let moving = ["date:", "content-length:", "transfer-encoding:", "connection:"];
    let mut lines: Vec<_> = lines
        .filter(|line| !moving.iter().any(|name| line.starts_with(name)))
        .collect();
    lines.sort();
    // Envoy sends nosniff twice with some refusals.
    lines.dedup();
    lines
}

#[test]
fn the_same_pages_as_envoy() {
    let both = Both::start();
    let exchanges: &[(&str, Part, &[&str])] = &[
        (
            "GET",
            Part::Whole,
            &[
                "/ready",
                "/listeners",
                "/listeners?format=json",
                "/init_dump",
                "/certs",
            ],
        ),
        ("GET", Part::Whole, &["/hot_restart_version"]),
        (
            "GET",
            Part::Head,
            &[
                "/memory",
                "/server_info",
                "/runtime",
                "/",
                "/help",
                "/nope",
                "/stats",
            ],
        ),
        ("GET", Part::Head, &["/stats?format=json", "/stats?filter=("]),
        (
            "GET",
            Part::Whole,
            &[
                "/logging",
                "/drain_listeners?graceful",
                "/quitquitquit",
                "/healthcheck/fail",
            ],
        ),
        (
            "GET",
            Part::Whole,
            &["/stats?type=x", "/stats?format=x", "/clusters?filter=("],
        ),
        (
            "GET",
            Part::Whole,
            &["/config_dump?resource=nope", "/config_dump?mask=nope"],
        ),
        (
            "GET",
            Part::Whole,
            &["/config_dump?mask=static_clusters.cluster.name"],
        ),
        ("GET", Part::Whole, &["/config_dump?resource=bootstrap"]),
        (
            "GET",
            Part::Whole,
            &["/config_dump?name_regex=none&resource=static_clusters"],
        ),
        (
            "GET",
            Part::Head,
            &[
                "/config_dump?name_regex=(",
                "/config_dump?resource=static_clusters&mask=nope",
            ],
        ),
        (
            "POST",
            Part::Whole,
            &[
                "/logging",
                "/logging?level=debug",
                "/logging?redis=trace",
                "/logging?level=bogus",
            ],
        ),
        (
            "POST",
            Part::Whole,
            &[
                "/logging?nope=info",
                "/logging?a=b&c=d",
                "/logging?paths=redis:debug,main:warning",
            ],
        ),
        (
            "POST",
            Part::Whole,
            &[
                "/logging?paths=redis:debug,nope:info",
                "/logging?paths=x",
                "/logging?group=redis:info",
            ],
        ),
        (
            "POST",
            Part::Whole,
            &["/reset_counters", "/runtime_modify", "/runtime_modify?a=b"],
        ),
        (
            "POST",
            Part::Whole,
            &[
                "/drain_listeners?inboundonly&graceful&skip_exit",
                "/healthcheck/fail",
            ],
        ),
        ("GET", Part::Whole, &["/ready"]),
        ("POST", Part::Whole, &["/healthcheck/ok", "/ready"]),
    ];
    let differences = exchanges.iter().flat_map(|(method, part, paths)| {
        paths
            .iter()
            .filter_map(|path| both.difference(method, path, *part))
    });
    let differences: Vec<String> = differences.collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Lists that Envoy prints in the order of a hash map.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_same_clusters_as_envoy() {
    let both = Both::start();
    let (theirs, ours) = both.get("/clusters");
    assert_eq!(head(&ours), head(&theirs));
    assert_eq!(sorted(&ours.body), sorted(&theirs.body));
    let (theirs, ours) = both.get("/clusters?filter=tcp");
    assert_eq!(ours.body, theirs.body);
    let (theirs, ours) = both.get("/clusters?format=json&filter=tcp");
    assert_eq!(ours.body, theirs.body);
}

/// Paths, methods, parameters and the words they take are Envoy's, as far as we have the endpoint; the sentences are ours.
#[test]
fn the_same_endpoints_as_envoy_in_other_words() {
    let both = Both::start();
    let (theirs, ours) = both.get("/help");
    let left_out = [
        "/allocprofiler",
        "/contention",
        "/cpuprofiler",
        "/heap_dump",
        "/heapprofiler",
        "/memory/tcmalloc",
        "/peak_heap_dump",
        "/stats/recentlookups",
    ];
    let rows = |body: &str| -> Vec<(String, String)> {
        let mut kept = true;
        let row = |line: &str| {
            let (name, sentence) = line.split_once(": ")?;
            if name.starts_with("  /") {
                kept = !left_out.iter().any(|path| name.trim().starts_with(path));
            }
            let (sentence, choices) = sentence.split_once("; One of ").unwrap_or((sentence, ""));
            kept.then(|| (format!("{name} {choices}"), sentence.to_owned()))
        };
        body.lines().skip(1).filter_map(row).collect()
    };
    let (theirs, mut ours) = (rows(&theirs.body), rows(&ours.body));
    // One page is ours alone.
    let own = ours
        .iter()
        .position(|row| row.0.starts_with("  /redis/waiting"))
        .expect("it is listed");
    ours.drain(own..own + 2);
    // Envoy takes `/clusters?format=` and `/stats?format=prometheus` without listing them, and has a live page of its own.
    let clusters = ours.iter().position(|row| row.0.starts_with("  /clusters"));
    let format = clusters.expect("it is listed") + 2;
    assert_eq!(ours.remove(format).0, "      format (text, json)");
    let words = |name: &str| match name {
        "      format (html, active-html, text, json)" => {
            "      format (html, text, json, prometheus)".to_owned()
        }
        same => same.to_owned(),
    };
    let names = |rows: &[(String, String)]| rows.iter().map(|row| words(&row.0)).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_ne!(ours.1.to_lowercase(), theirs.1.to_lowercase(), "{}", ours.0);
    }
}

/// Takes out what can never be equal: times, and what Envoy adds to its node.
fn comparable(mut dump: Value) -> Value {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.shift_remove("last_updated");
                for name in ["user_agent_name", "user_agent_build_version", "extensions"] {
                    fields.shift_remove(name);
                }
                fields.values_mut().for_each(clean);
            }
            Value::Array(list) => list.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut dump);
    // Without RDS Envoy leaves the route sections out; Istio's dumps have them.
    if let Some(configs) = dump["configs"].as_array_mut() {
        configs.retain(|config| {
            !config["@type"]
                .as_str()
                .unwrap_or_default()
                .contains("RoutesConfigDump")
        });
    }
    dump
}

#[test]
fn the_same_config_dump_as_envoy() {
    let both = Both::start();
    for path in [
        "/config_dump",
        "/config_dump?mask=bootstrap.node.id",
        "/config_dump?mask=static_clusters",
        "/config_dump?mask=dynamic_active_clusters,dynamic_warming_clusters,static_clusters",
        "/config_dump?resource=static_clusters",
        "/config_dump?resource=static_clusters&mask=cluster.name",
        "/config_dump?resource=static_listeners&name_regex=redis.*",
        "/config_dump?name_regex=tcp.",
    ] {
        let (theirs, ours) = both.get(path);
        assert_eq!(
            (ours.status, head(&ours)),
            (theirs.status, head(&theirs)),
            "{path}"
        );
        let parse = |reply: &HttpReply| comparable(serde_json::from_str(&reply.body).unwrap());
        let (theirs, ours) = (parse(&theirs), parse(&ours));
        assert_eq!(ours, theirs, "{path}:\n{ours:#}\n{theirs:#}");
    }
}

#[test]
fn server_info_has_envoys_fields() {
    let both = Both::start();
    let (theirs, ours) = both.get("/server_info");
    let fields = |reply: &HttpReply| -> Vec<String> {
        let value: Value = serde_json::from_str(&reply.body).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    };
    let mut expected = fields(&theirs);
    expected.retain(|field| field != "hot_restart_initializing");
    assert_eq!(fields(&ours), expected);
}
