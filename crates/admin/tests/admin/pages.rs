//! Pages whose content Envoy cannot be made to show here.

use std::time::{Duration, SystemTime};

use redplane_admin::*;
use redplane_telemetry::stats::{cluster, redis_proxy};
use serde_json::json;

use crate::fixture::{Admin, cluster_view, empty, host, make_ready};

#[test]
fn a_redis_host_tells_its_role_and_slots() {
    let redis = |role, primary: Option<&str>| RedisHostView {
        role,
        slots: vec![0..=5460, 5462..=5462],
        primary: primary.map(str::to_owned),
    };
    let stats = HostStats {
        cx_active: 1,
        cx_total: 2,
        ..HostStats::default()
    };
    let health = HealthFlags {
        failed_outlier_check: true,
        eds: EdsHealth::Unhealthy,
        ..HealthFlags::default()
    };
    let hosts = vec![
        HostView {
            redis: Some(redis(Role::Primary, None)),
            stats,
            ..host(7000)
        },
        HostView {
            redis: Some(redis(Role::Replica, Some("127.0.0.1:7000"))),
            health,
            ..host(7001)
        },
    ];
    let eds_service_name = Some("svc".to_owned());
    let cluster = ClusterView {
        added_via_api: true,
        eds_service_name,
        ..cluster_view("c", hosts)
    };
    let admin = Admin::start(crate::fixture::World {
        clusters: vec![cluster],
        ..empty()
    });
    let text = admin.get("/clusters").body;
    for line in [
        "c::added_via_api::true",
        "c::eds_service_name::svc",
        "c::127.0.0.1:7000::cx_active::1",
        "c::127.0.0.1:7000::health_flags::healthy",
        "c::127.0.0.1:7000::redis_role::primary",
        "c::127.0.0.1:7000::redis_slots::0-5460,5462",
        "c::127.0.0.1:7001::health_flags::/failed_outlier_check/failed_eds_health",
        "c::127.0.0.1:7001::redis_role::replica",
        "c::127.0.0.1:7001::redis_primary::127.0.0.1:7000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let status = &admin.json("/clusters?format=json")["cluster_statuses"][0];
    assert_eq!(status["eds_service_name"], "svc");
    let replica = &status["host_statuses"][1];
    let place = json!({"role": "replica", "slots": [{"start": 0, "end": 5460}, {"start": 5462, "end": 5462}],
        "primary": "127.0.0.1:7000"});
    assert_eq!(replica["redis"], place);
    let health = json!({"failed_outlier_check": true, "eds_health_status": "UNHEALTHY"});
    assert_eq!(replica["health_status"], health);
}

#[test]
fn stats_in_every_form() {
    let admin = Admin::start(empty());
    let filter = admin.registry.scope("redis.p.", &redis_proxy::SCHEMA).block();
    filter.inc(redis_proxy::DOWNSTREAM_RQ_TOTAL);
    let line = "redis.p.downstream_rq_total: 1\n";
    assert_eq!(
        admin.get("/stats?usedonly&filter=rq_total").body.lines().count(),
        2,
        "ours and http.admin's"
    );
    assert_eq!(admin.get("/stats?usedonly&filter=^redis").body, line);
    assert_eq!(
        admin.get("/stats?usedonly&filter=%5Eredis&type=Counters").body,
        line
    );
    assert_eq!(admin.get("/stats?usedonly&filter=^redis&type=Gauges").body, "");
    let stats = admin.json("/stats?usedonly&filter=^redis&format=json");
    assert_eq!(
        stats,
        json!({"stats": [{"name": "redis.p.downstream_rq_total", "value": 1}]})
    );
    let prometheus = admin.get("/stats/prometheus?usedonly&filter=^redis");
    let family = "envoy_redis_downstream_rq_total";
    assert_eq!(
        prometheus.body,
        format!("# TYPE {family} counter\n{family}{{envoy_redis_prefix=\"p\"}} 1\n")
    );
    assert!(
        prometheus
            .head
            .contains("content-type: text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(
        admin.get("/stats?format=prometheus&usedonly&filter=^redis").body,
        prometheus.body
    );
    assert!(admin.get("/stats?format=html&usedonly").body.contains(line));
    assert!(
        admin
            .get("/stats?usedonly&filter=server.state")
            .body
            .contains("server.state: 0"),
        "refreshed"
    );
}

#[test]
fn counters_are_reset() {
    let admin = Admin::start(empty());
    let block = admin.registry.scope("cluster.c.", &cluster::SCHEMA).block();
    block.add(cluster::UPSTREAM_CX_TOTAL, 7);
    assert_eq!(admin.post("/reset_counters").body, "OK\n");
    block.inc(cluster::UPSTREAM_CX_TOTAL);
    assert_eq!(
        admin.get("/stats?filter=c.upstream_cx_total").body,
        "cluster.c.upstream_cx_total: 1\n"
    );
}

#[test]
fn pilot_agents_readiness() {
    let admin = Admin::start(empty());
    let _stats = make_ready(&admin.registry);
    let updates = admin.get(
        "/stats?usedonly&filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|update_rejected)$",
    );
    assert_eq!(
        updates.body,
        "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 1\n"
    );
    let workers = admin.get("/stats?usedonly&filter=^(server\\.state|listener_manager\\.workers_started)");
    assert_eq!(
        workers.body,
        "listener_manager.workers_started: 1\nserver.state: 0\n"
    );
}

#[test]
fn orders_carry_what_was_asked_for() {
    let runtime = RuntimeView {
        admin_layer: true,
        ..RuntimeView::default()
    };
    let admin = Admin::start(crate::fixture::World { runtime, ..empty() });
    for path in [
        "/drain_listeners?inboundonly&graceful",
        "/drain_listeners?graceful&skip_exit",
        "/runtime_modify?a=1&b=",
        "/quitquitquit",
    ] {
        let reply = admin.post(path);
        assert_eq!((reply.status, reply.body.as_str()), (200, "OK\n"), "{path}");
    }
    let drain = |inbound_only, graceful, skip_exit| Action::DrainListeners {
        inbound_only,
        graceful,
        skip_exit,
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let actions = &admin.world.lock().unwrap().actions;
    let expected = [
        drain(true, true, false),
        drain(false, true, true),
        Action::ModifyRuntime(vec![pair("a", "1"), pair("b", "")]),
        Action::Quit,
    ];
    assert_eq!(*actions, expected);
}

/// The fixture drops this order without an answer.
#[test]
fn an_order_that_is_not_carried_out_is_no_success() {
    let admin = Admin::start(empty());
    assert_eq!(admin.post("/reopen_logs").status, 503);
}

#[test]
fn ready_follows_the_server() {
    for (state, status, word) in [
        (ServerState::Live, 200, "LIVE\n"),
        (ServerState::Draining, 503, "DRAINING\n"),
        (ServerState::PreInitializing, 503, "PRE_INITIALIZING\n"),
        (ServerState::Initializing, 503, "INITIALIZING\n"),
    ] {
        let admin = Admin::start(crate::fixture::World { state, ..empty() });
        let reply = admin.get("/ready");
        assert_eq!((reply.status, reply.body.as_str()), (status, word));
        assert_eq!(admin.json("/server_info")["state"], word.trim());
    }
}

#[test]
fn runtime_init_and_memory() {
    let entries = [
        ("k".to_owned(), vec!["1".to_owned(), "2".to_owned()]),
        ("l".to_owned(), vec!["x".into(), "".into()]),
    ];
    let runtime = RuntimeView {
        layers: vec!["global config".to_owned(), "admin".to_owned()],
        entries: entries.into(),
        admin_layer: true,
    };
    let init = vec![InitTargets {
        name: "init manager Server".to_owned(),
        targets: vec!["LDS".to_owned()],
    }];
    let admin = Admin::start(crate::fixture::World {
        runtime,
        init,
        ..empty()
    });
    let expected = json!({
        "layers": ["global config", "admin"],
        "entries": {
            "k": {"layer_values": ["1", "2"], "final_value": "2"},
            "l": {"layer_values": ["x", ""], "final_value": "x"},
        },
    });
    assert_eq!(admin.json("/runtime"), expected);
    let dump = json!({"unready_targets_dumps": [{"name": "init manager Server", "target_names": ["LDS"]}]});
    assert_eq!(admin.json("/init_dump"), dump);
    assert_eq!(admin.json("/init_dump?mask=listener"), json!({}));
    let allocated = admin.json("/memory")["allocated"]
        .as_str()
        .unwrap()
        .parse::<u64>()
        .unwrap();
    assert!(allocated > 100_000, "{allocated}");
}

#[test]
fn log_levels_reach_the_process() {
    let admin = Admin::start(empty());
    let page = admin.post("/logging?redis=debug").body;
    assert!(
        page.starts_with("active loggers:\n") && page.ends_with("\n\n"),
        "{page}"
    );
    assert!(page.contains("  redis: debug\n") && page.contains("  upstream: info\n"));
    assert!(
        admin
            .world
            .lock()
            .unwrap()
            .levels
            .contains(&("redis", Level::Debug))
    );
    admin.post("/logging?level=warning");
    assert!(
        admin
            .world
            .lock()
            .unwrap()
            .levels
            .iter()
            .all(|(_, level)| *level == Level::Warning)
    );
}

#[test]
fn certificates_are_read() {
    let mut params =
        rcgen::CertificateParams::new(["redis.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    let spiffe = "spiffe://cluster.local/ns/a/sa/b";
    params
        .subject_alt_names
        .push(rcgen::SanType::URI(spiffe.try_into().unwrap()));
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x0a, 0xbc]));
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let file = |pem: Vec<u8>| CertificateFile {
        path: "<inline>".to_owned(),
        pem,
        now,
    };
    let context = TlsCertificates {
        ca_cert: vec![file(b"no certificate".to_vec())],
        cert_chain: vec![file(certificate.pem().into_bytes())],
    };
    let admin = Admin::start(crate::fixture::World {
        certificates: vec![context],
        ..empty()
    });
    let expected = json!({"certificates": [{"ca_cert": [], "cert_chain": [{
        "path": "<inline>",
        "serial_number": "abc",
        "subject_alt_names": [{"dns": "redis.example"}, {"ip_address": "10.0.0.1"}, {"uri": spiffe}],
        "days_until_expiration": "3652",
        "valid_from": "2026-01-01T00:00:00Z",
        "expiration_time": "2036-01-01T00:00:00Z",
    }]}]});
    assert_eq!(admin.json("/certs"), expected);
}

#[test]
fn the_home_page_reaches_every_endpoint() {
    let page = Admin::start(empty()).get("/").body;
    assert!(page.contains("<a href='certs'>certs</a>"));
    assert!(page.contains("<form action='drain_listeners' method='post'"));
    assert!(page.contains("<form action='config_dump' method='get'"));
    assert!(!page.contains("<logger_name1>"), "help is escaped");
}

#[test]
fn a_client_that_waits_says_where() {
    let admin = Admin::start(empty());
    let text = admin.get("/redis/waiting").body;
    assert_eq!(
        text,
        "worker 1 client 42 10.0.0.9:5000 redis: owed 5, backlog 1000 bytes, rests: upstream order; oldest: get for 250 ms, \
         attempt 2, at 10.0.0.1:6379 of c, connection 7, 3 before it\nand 3 more\n1 of 2 workers answered\n"
    );
    let page: serde_json::Value =
        serde_json::from_str(&admin.get("/redis/waiting?format=json").body).unwrap();
    assert_eq!(page["clients"][0]["rests"], json!(["upstream", "order"]));
    assert_eq!(page["clients"][0]["oldest"]["host"], "10.0.0.1:6379");
    assert_eq!(
        (&page["clients_left_out"], &page["workers_answered"]),
        (&json!(3), &json!(1))
    );
}
