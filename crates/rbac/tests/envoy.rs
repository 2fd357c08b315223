//! The same rules and the same requests put to `redplane_rbac` and to Envoy 1.40: both must let in and keep out alike.
//!
//! Each case is an HTTP RBAC filter of its own listener, in front of a direct response. Requests go over raw sockets.
//! Where redplane is stricter on purpose, the case says so.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use redplane_config::Ignored;
use redplane_config::rbac::HttpRbac;
use redplane_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use redplane_proto::pb::envoy::config::rbac::v3::Permission;
use redplane_proto::pb::envoy::config::rbac::v3::permission::Rule;
use redplane_proto::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use redplane_proto::{Any, Json, yaml_value};
use redplane_rbac::{Connection, Metadata, Request, http};
use redplane_testkit::{Proxy, ProxyKind, free_port};

/// Permissions, each alone in an ALLOW policy for everybody.
const PERMISSIONS: &[&str] = &[
    "header: {name: x-a, string_match: {exact: '1'}}",
    "header: {name: x-a, string_match: {exact: '1'}, invert_match: true}",
    "header: {name: x-a, string_match: {exact: '1'}, invert_match: true, treat_missing_header_as_empty: true}",
    "header: {name: x-a, present_match: true}",
    "header: {name: x-a, present_match: false}",
    "header: {name: x-a, present_match: true, invert_match: true}",
    "header: {name: x-a, present_match: true, treat_missing_header_as_empty: true}",
    "header: {name: X-A}",
    "header: {name: x-a, range_match: {start: -5, end: 10}}",
    "header: {name: x-a, string_match: {safe_regex: {regex: 'a|ab'}}}",
    "header: {name: x-a, string_match: {safe_regex: {regex: '\\d+'}}}",
    "header: {name: x-a, string_match: {safe_regex: {regex: '.'}}}",
    "header: {name: x-a, string_match: {safe_regex: {regex: 'a[^x]*b'}}}",
    "header: {name: x-a, string_match: {prefix: AB, ignore_case: true}}",
    "header: {name: x-a, string_match: {contains: AB, ignore_case: true}}",
    "header: {name: host, string_match: {exact: h.example}}",
    "header: {name: ':authority', string_match: {exact: H.EXAMPLE, ignore_case: true}}",
    "header: {name: ':method', string_match: {exact: GET}}",
    "header: {name: ':path', string_match: {exact: '/api/x?q=1'}}",
    "url_path: {path: {exact: /api/x}}",
    "url_path: {path: {prefix: /api}}",
    "url_path: {path: {suffix: /x}}",
    "url_path: {path: {exact: /API/X, ignore_case: true}}",
    "url_path: {path: {safe_regex: {regex: '/api/.*'}}}",
    "not_rule: {url_path: {path: {prefix: /api/admin}}}",
    "and_rules: {rules: [{url_path: {path: {prefix: /api}}}, {not_rule: {header: {name: x-a}}}]}",
    "or_rules: {rules: [{url_path: {path: {exact: /b}}}, {header: {name: x-a}}]}",
    "metadata: {filter: f, path: [{key: k}], value: {string_match: {exact: a}}}",
    "metadata: {filter: f, path: [{key: k}], value: {string_match: {exact: a}}, invert: true}",
    "metadata: {filter: f, path: [{key: k}], value: {null_match: {}}}",
    "metadata: {filter: f, path: [{key: k}], value: {present_match: true}}",
    "sourced_metadata: {metadata_source: ROUTE, metadata_matcher: {filter: f, path: [{key: k}], value: {string_match: {exact: v}}}}",
    "sourced_metadata: {metadata_source: ROUTE, metadata_matcher: {filter: f, path: [{key: num}], value: {double_match: {range: {start: 1, end: 2}}}}}",
    "sourced_metadata: {metadata_source: ROUTE, metadata_matcher: {filter: f, path: [{key: l}], value: {list_match: {one_of: {string_match: {exact: b}}}}}}",
    "sourced_metadata: {metadata_source: ROUTE, metadata_matcher: {filter: f, path: [{key: l}], value: {string_match: {exact: b}}}}",
    "requested_server_name: {exact: ''}",
    "destination_ip: {address_prefix: 127.0.0.0, prefix_len: 8}",
    "destination_ip: {address_prefix: '::', prefix_len: 0}",
    "destination_port_range: {start: 1, end: 2}",
    "destination_port_range: {start: 1, end: 65536}",
];

/// Templates of paths, each alone in an ALLOW policy for everybody.
const TEMPLATES: &[&str] = &[
    "/api/*",
    "/api/**",
    "/api/*/y",
    "/**.mpd",
    "/api/{name}",
    "/api/{rest=**}",
    "/api/{two=x/*}",
    "/a/*.b",
];

/// Principals, each alone in an ALLOW policy for everything.
const PRINCIPALS: &[&str] = &[
    "authenticated: {}",
    "authenticated: {principal_name: {safe_regex: {regex: '.*'}}}",
    "not_id: {authenticated: {principal_name: {exact: a}}}",
    "source_ip: {address_prefix: 127.0.0.1, prefix_len: 32}",
    "direct_remote_ip: {address_prefix: 127.0.0.0, prefix_len: 8}",
    "remote_ip: {address_prefix: 10.0.0.0, prefix_len: 8}",
    "remote_ip: {address_prefix: 0.0.0.0, prefix_len: 0}",
    "and_ids: {ids: [{any: true}, {header: {name: x-a}}]}",
    "url_path: {path: {prefix: /b}}",
];

/// A path and further headers, as bytes.
type Ask = (&'static str, &'static [(&'static str, &'static [u8])]);

const ASKS: &[Ask] = &[
    ("/api/x?q=1", &[]),
    ("/api/x", &[("x-a", b"1")]),
    ("/api/x", &[("x-a", b"1"), ("x-a", b"2")]),
    ("/api/x", &[("x-a", b"2"), ("x-a", b"1")]),
    ("/api/x", &[("x-a", b"1,2")]),
    ("/api/x", &[("x-a", b"")]),
    ("/api", &[("x-a", b"-1")]),
    ("/apix", &[("x-a", b"+3")]),
    ("/api/", &[("x-a", b"3x")]),
    ("/api/x/y", &[("x-a", b"10")]),
    ("/API/X", &[("x-a", b"ab")]),
    ("/a/c.b", &[("x-a", b"xABy")]),
    ("/a/b.mpd", &[("x-a", b"\xff")]),
    ("/api/%41", &[("x-a", b"a\xffb")]),
    ("/b/../api/admin", &[]),
    ("/b", &[("x-a", "\u{e9}".as_bytes())]),
    ("/api//admin", &[]),
    ("/api/admin;x", &[]),
    ("/api/a\"b", &[]),
    ("/api/a|b", &[]),
    ("/api/[x]", &[]),
];

const TEMPLATE: &str =
    "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

/// What stands at the route.
const ROUTE: &str = "{f: {k: v, num: 1, l: [a, b]}}";

fn rules() -> Vec<String> {
    let policy = |action: &str, permission: &str, principal: &str| {
        format!(
            "{{rules: {{action: {action}, policies: {{p: {{permissions: [{{{permission}}}], principals: [{{{principal}}}]}}}}}}}}"
        )
    };
    let template = |template: &&str| {
        let template = format!(
            "uri_template: {{name: t, typed_config: {{'@type': {TEMPLATE}, path_template: '{template}'}}}}"
        );
        policy("ALLOW", &template, "any: true")
    };
    let permissions = PERMISSIONS.iter().map(|one| policy("ALLOW", one, "any: true"));
    let principals = PRINCIPALS.iter().map(|one| policy("ALLOW", "any: true", one));
    let denying = PERMISSIONS[..3]
        .iter()
        .map(|one| policy("DENY", one, "any: true"));
    let others = [
        "{}".to_owned(),
        "{rules: {}}".into(),
        "{rules: {action: DENY}}".into(),
        "{rules: {action: LOG}}".into(),
        "{shadow_rules: {}}".into(),
        policy("LOG", "any: true", "any: true"),
    ];
    let templates = TEMPLATES.iter().map(template);
    permissions
        .chain(templates)
        .chain(principals)
        .chain(denying)
        .chain(others)
        .collect()
}

/// The YAML without its outer braces.
fn fields(rules: &str) -> &str {
    &rules[1..rules.len() - 1]
}

fn bootstrap(rules: &[(u16, String)], admin: u16) -> String {
    let url = "type.googleapis.com/envoy.extensions.filters";
    let mut text = format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}\n\
         static_resources:\n  listeners:\n"
    );
    for (port, rules) in rules {
        let separator = if fields(rules).is_empty() { "" } else { ", " };
        let rbac = format!("{{'@type': {url}.http.rbac.v3.RBAC{separator}{}}}", fields(rules));
        let route = format!(
            "{{match: {{prefix: /}}, metadata: {{filter_metadata: {ROUTE}}}, direct_response: {{status: 200}}}}"
        );
        let _ = writeln!(
            text,
            "  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}\n    \
             filter_chains: [{{filters: [{{name: h, typed_config: {{'@type': {url}.network.http_connection_manager.v3.HttpConnectionManager, \
             stat_prefix: s, route_config: {{virtual_hosts: [{{name: v, domains: ['*'], routes: [{route}]}}]}}, \
             http_filters: [{{name: r, typed_config: {rbac}}}, {{name: end, typed_config: {{'@type': {url}.http.router.v3.Router}}}}]}}}}]}}]"
        );
    }
    text
}

/// The status that Envoy answers.
fn answered(port: u16, (path, headers): &Ask) -> u16 {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect(address).expect("Envoy listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("it can be set");
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: h.example\r\nconnection: close\r\n").into_bytes();
    for (name, value) in *headers {
        head.extend_from_slice(format!("{name}: ").as_bytes());
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head).expect("Envoy reads");
    // The status is enough: Envoy closes a second later.
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).expect("Envoy answers");
    let line = String::from_utf8_lossy(&reply);
    let status = line
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no status in {line:?}"));
    status.parse().expect("a status is a number")
}

/// What redplane decides.
fn decided(filter: &HttpRbac, port: u16, (path, headers): &Ask, route: &Metadata) -> u16 {
    let fixed: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":authority", b"h.example"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
    ];
    let lookup = |name: &str, each: &mut dyn FnMut(&[u8])| {
        let values = fixed.iter().chain(*headers).filter(|(header, _)| *header == name);
        values.for_each(|(_, value)| each(value));
    };
    let client = Some(Ipv4Addr::LOCALHOST.into());
    let connection = Connection {
        direct_remote: client,
        remote: client,
        destination: Some((Ipv4Addr::LOCALHOST, port).into()),
        server_name: "",
        tls: None,
    };
    let request = Request {
        remote: client,
        headers: &lookup,
        metadata: &Metadata::new(),
        route_metadata: Some(route),
    };
    if http(filter, &connection, &request).is_allowed() {
        200
    } else {
        403
    }
}

fn from_yaml(rules: &str) -> Rbac {
    let value = yaml_value(rules).expect("it is YAML");
    Json::load().message(value).expect("it is the filter's message")
}

/// The filter's message. Templates are put in by hand: their kind of message is in no descriptor set.
fn message(rules: &str) -> Rbac {
    let Some((_, template)) = rules.split_once("path_template: '") else {
        return from_yaml(rules);
    };
    let template = template.split('\'').next().unwrap_or_default();
    let any = "{rules: {policies: {p: {permissions: [{any: true}], principals: [{any: true}]}}}}";
    let mut message = from_yaml(any);
    let length = u8::try_from(template.len()).expect("templates are short");
    let config = Any {
        type_url: TEMPLATE.to_owned(),
        value: [&[0x0a, length], template.as_bytes()].concat(),
    };
    let rule = Rule::UriTemplate(TypedExtensionConfig {
        name: "t".to_owned(),
        typed_config: Some(config),
    });
    let rules = message.rules.as_mut().expect("it has rules");
    for policy in rules.policies.values_mut() {
        policy.permissions = vec![Permission {
            rule: Some(rule.clone()),
        }];
    }
    message
}

#[test]
fn envoy_decides_alike() {
    let admin = free_port();
    let rules: Vec<_> = rules().into_iter().map(|rules| (free_port(), rules)).collect();
    let _envoy = Proxy::start(&ProxyKind::Envoy, &bootstrap(&rules, admin), admin);
    let route = yaml_value(ROUTE).unwrap();
    let route: Metadata = serde_json::from_value(serde_json::to_value(route).unwrap()).unwrap();
    let mut differ = Vec::new();
    let mut asked = 0;
    for (port, rules) in &rules {
        let message = message(rules);
        let mut ignored = Ignored::default();
        let filter = HttpRbac::from_proto(&message, &mut ignored).unwrap();
        assert!(ignored.0.is_empty(), "{rules}: {ignored:?}");
        for ask in ASKS {
            let (envoy, redplane) = (answered(*port, ask), decided(&filter, *port, ask, &route));
            asked += 1;
            if envoy != redplane {
                differ.push(format!("{rules} on {ask:?}: Envoy {envoy}, redplane {redplane}"));
            }
        }
    }
    assert!(
        differ.is_empty(),
        "{} of {asked} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
}
