//! The same HTTP requests to redplane and to real Envoy 1.40 from the same bootstrap, in front of one raw server that
//! prints what it got; the answers of each are stated in `tests/http/*.case`. The format is told in
//! `tests/http/README.md`.
//!
//! `REDPLANE_HTTP=fill` writes Envoy's answers anew; any other value runs only the cases whose name contains it.

mod http {
    use super::redplane;

    pub(crate) mod case;
    pub(crate) mod client;
    pub(crate) mod h2_client;
    pub(crate) mod h2_server;
    mod protocols;
    pub(crate) mod server;
    pub(crate) mod stage;
}

use std::path::PathBuf;
use std::time::Duration;

use http::case::{Case, read_folder, write_folder};
use http::stage::Stage;
use redplane_testkit::{Proxy, ProxyKind, free_port, http_get, repository_root};

/// Statistics that have to be the same after all cases. Tokens are not cached here, so that `jwt_cache_*` stays 0.
const COUNTED: &str = concat!(
    r"^(http\.access\.(rbac|jwt_authn\.t\.(allowed|cors|denied|jwks))",
    r"|http\.h\.(fault\.(aborts|delays)|cors\.|no_cluster|downstream_rq_(ws|non_rel))",
    r"|http\.access\.(no_|rq_(direct|total))",
    r"|cluster\.oneach\.upstream_cx_(max|destroy_local$)",
    r"|cluster\.(norequests|nopending|noconnections|noretries|budget|outlier|split|tenth)\.",
    r"((external\.|retry\.)?upstream_rq_\d|upstream_rq_(active_overflow|pending_(overflow|total)|retry|total|completed)|upstream_cx_overflow|outlier_detection\.ejections_(active|enforced_(total|cons)|overflow)))",
);

fn redplane() -> ProxyKind {
    ProxyKind::Redplane(PathBuf::from(env!("CARGO_BIN_EXE_redplane")))
}

fn folder() -> PathBuf {
    repository_root().join("tests/http")
}

#[test]
fn both_answer_as_stated() {
    let wish = std::env::var("REDPLANE_HTTP").unwrap_or_default();
    let mut cases = read_folder(&folder());
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let envoy = Stage::start(&ProxyKind::Envoy);
    if wish == "fill" {
        cases.iter_mut().for_each(|case| case.envoy = envoy.play(case));
        return write_folder(&folder(), &cases);
    }
    cases.retain(|case| case.name.contains(&wish));
    let redplane = Stage::start(&redplane());
    let mut wrong = Vec::new();
    for case in &cases {
        compare(case, "envoy", &case.envoy, &envoy.play(case), &mut wrong);
        let stated = case.redplane.as_ref().map_or(&case.envoy, |(_, answer)| answer);
        compare(case, "redplane", stated, &redplane.play(case), &mut wrong);
    }
    // Both have been asked the same.
    let (stated, found) = (envoy.stats(COUNTED), redplane.stats(COUNTED));
    if stated != found {
        wrong.push(format!("== statistics\n-- envoy\n{stated}\n-- redplane\n{found}"));
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// One connection, two places to wait for it, four requests: three are served one after the other, one is turned away.
#[test]
fn requests_wait_for_a_connection() {
    let outcomes = [ProxyKind::Envoy, redplane()].map(|kind| {
        let stage = Stage::start(&kind);
        let ask = || {
            let answer = stage.ask("http", b"GET /narrow/pause HTTP/1.1\r\nHost: a.test\r\n\r\n");
            answer.lines().next().unwrap_or_default().to_owned()
        };
        let mut statuses = std::thread::scope(|scope| {
            // The first one has its connection when the others come.
            let mut asked = vec![scope.spawn(ask)];
            std::thread::sleep(Duration::from_millis(150));
            asked.extend((0..3).map(|_| scope.spawn(ask)));
            asked
                .into_iter()
                .map(|asked| asked.join().expect("it does not panic"))
                .collect::<Vec<_>>()
        });
        statuses.sort();
        let counted =
            stage.stats(r"^cluster\.narrow\.upstream_(cx_total|rq_(total|pending_(total|overflow)))");
        (statuses, counted)
    });
    assert_eq!(outcomes[0], outcomes[1]);
    let statuses = ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 503"];
    assert_eq!(outcomes[1].0, statuses);
}

fn compare(case: &Case, who: &str, stated: &str, found: &str, wrong: &mut Vec<String>) {
    if stated.trim_end() != found.trim_end() {
        wrong.push(format!(
            "== {} ({who})\n-- stated\n{stated}\n-- found\n{found}",
            case.name
        ));
    }
}

/// The bootstrap that pilot-agent wrote, without a control plane: the ports that kubelet and Prometheus ask.
#[test]
fn the_ports_of_pilot_agent_answer() {
    let file = repository_root().join("tests/golden/istio-pushes/envoy-rev.json");
    let text = std::fs::read_to_string(file).expect("the bootstrap is there");
    let (admin, ready, stats) = (free_port(), free_port(), free_port());
    let agent = http::server::start().port();
    let ports = [
        ("15000", admin),
        ("15021", ready),
        ("15090", stats),
        ("15020", agent),
    ];
    let text = ports
        .iter()
        .fold(text, |text, (old, new)| text.replace(old, &new.to_string()));
    let mut bootstrap: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let fields = bootstrap.as_object_mut().expect("it is an object");
    fields.remove("dynamic_resources");
    let flags = ["--concurrency", "1", "--allow-unknown-static-fields"];
    let proxy =
        Proxy::start_without_waiting(&redplane(), &bootstrap.to_string(), admin, &flags).wait_until_ready();
    let get = |port: u16, path: &str| http_get(([127, 0, 0, 1], port).into(), path).expect("it answers");
    let answer = get(ready, "/healthz/ready");
    assert_eq!(answer.status, 200, "{answer:?}\n{}", proxy.process().output());
    assert!(
        answer.body.starts_with("GET /healthz/ready HTTP/1.1\n"),
        "{answer:?}"
    );
    assert_eq!(get(ready, "/other").status, 404);
    let answer = get(stats, "/stats/prometheus");
    assert!(
        answer.status == 200 && answer.body.contains("# TYPE envoy_server_live gauge"),
        "{answer:?}"
    );
    assert_eq!(get(stats, "/stats").status, 404);
}
