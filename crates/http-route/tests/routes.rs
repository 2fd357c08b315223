//! Which route requests take: one configuration, a table of requests.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::{HeaderMap, Method};
use redplane_config::http::RouteConfiguration;
use redplane_config::http::route::Action;
use redplane_http_route::request::Certificate;
use redplane_http_route::{Choice, Head, RouteTable, rewrite, table};
use redplane_proto::pb::envoy::config::route::v3::RouteConfiguration as Proto;
use redplane_proto::{Json, yaml_value};

const ROUTES: &str = "
name: r
ignore_port_in_host_matching: true
virtual_hosts:
- name: exact
  domains: [a.example, '[::1]']
  routes:
  - {name: header, match: {prefix: /, headers: [{name: x-canary, string_match: {exact: 'yes'}}]}, route: {cluster: c}}
  - {name: not, match: {prefix: /no, headers: [{name: x-no, present_match: true, invert_match: true}]}, route: {cluster: c}}
  - {name: method, match: {prefix: /m, headers: [{name: ':method', string_match: {exact: POST}}]}, route: {cluster: c}}
  - {name: query, match: {prefix: /, query_parameters: [{name: beta, string_match: {exact: '1'}}]}, route: {cluster: c}}
  - {name: cookie, match: {prefix: /, cookies: [{name: s, string_match: {prefix: v}}]}, route: {cluster: c}}
  - {name: rr, match: {prefix: /rr}, route: {cluster: c, prefix_rewrite: /new}}
  - {name: rrx, match: {prefix: /rrx}, route: {cluster: c}}
  - {name: path, match: {path: /exact}, redirect: {host_redirect: b.example, path_redirect: /there}}
  - {name: regex, match: {safe_regex: {regex: '/items/[0-9]+'}}, route: {cluster: c, regex_rewrite: {pattern: {regex: '/items/([0-9]+)'}, substitution: '/item?id=\\1'}}}
  - {name: separated, match: {path_separated_prefix: /sep}, route: {cluster: c}}
  - {name: case, match: {prefix: /CASE, case_sensitive: false}, redirect: {https_redirect: true, prefix_rewrite: /low}}
  - {name: grpc, match: {prefix: /, grpc: {}}, route: {cluster: c}}
- {name: suffix, domains: ['*.example'], routes: [{name: suffix, match: {prefix: /}, route: {cluster: c}}]}
- {name: longer, domains: ['*.b.example'], routes: [{name: longer, match: {prefix: /}, route: {cluster: c}}]}
- {name: prefix, domains: ['pre.*'], routes: [{name: prefix, match: {prefix: /}, route: {cluster: c}}]}
- {name: any, domains: ['*'], routes: [{name: any, match: {prefix: /any}, direct_response: {status: 200}}]}
";

fn routes(yaml: &str) -> RouteTable {
    let message: Proto = Json::load().message(yaml_value(yaml).unwrap()).unwrap();
    RouteTable::new(Arc::new(RouteConfiguration::from_proto(&message).unwrap()))
}

fn headers(lines: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn head<'a>(method: &'a Method, authority: &'a str, path: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    Head {
        method,
        path,
        authority,
        scheme: "http",
        headers,
        certificate: Certificate::default(),
    }
}

#[test]
fn the_first_route_that_fits() {
    let table = routes(ROUTES);
    let cases: &[(&Method, &str, &str, &[&'static str], &str)] = &[
        (&Method::GET, "a.example", "/x", &["x-canary: yes"], "header"),
        (
            &Method::GET,
            "a.example",
            "/x",
            &["x-canary: no", "x-canary: yes"],
            "header",
        ),
        (
            &Method::GET,
            "a.example",
            "/rr",
            &["x-canary: no,yes", "x-no: 1"],
            "rr",
        ),
        (&Method::GET, "A.Example:81", "/no", &[], "not"),
        (&Method::GET, "a.example", "/no", &["x-no: 1"], "none"),
        (&Method::POST, "a.example", "/m", &[], "method"),
        (&Method::GET, "a.example", "/q?beta=1", &[], "query"),
        (&Method::GET, "a.example", "/q?beta=1%20", &[], "none"),
        (&Method::GET, "a.example", "/c", &["cookie: t=1; s=v2"], "cookie"),
        (&Method::GET, "a.example", "/rrx", &[], "rr"),
        (&Method::GET, "a.example", "/exact?q", &[], "path"),
        (&Method::GET, "a.example", "/exact/", &[], "none"),
        (&Method::GET, "a.example", "/items/12?x", &[], "regex"),
        (&Method::GET, "a.example", "/items/12a", &[], "none"),
        (&Method::GET, "a.example", "/sep", &[], "separated"),
        (&Method::GET, "a.example", "/sep/a", &[], "separated"),
        (&Method::GET, "a.example", "/separate", &[], "none"),
        (&Method::GET, "a.example", "/case", &[], "case"),
        (
            &Method::POST,
            "a.example",
            "/g",
            &["content-type: application/grpc"],
            "grpc",
        ),
        (&Method::GET, "[::1]:80", "/sep", &[], "separated"),
        (&Method::GET, "x.example", "/", &[], "suffix"),
        (&Method::GET, ".example", "/any", &[], "any"),
        (&Method::GET, "x.b.example", "/", &[], "longer"),
        (&Method::GET, "pre.x", "/", &[], "prefix"),
        (&Method::GET, "pre.example", "/", &[], "suffix"),
        (&Method::GET, "other", "/any", &[], "any"),
        (&Method::GET, "other", "/", &[], "none"),
    ];
    for (method, authority, path, lines, expected) in cases {
        let headers = headers(lines);
        let found = match table.find(&head(method, authority, path, &headers), 0) {
            Choice::Route(_, route) => route.name.as_str(),
            Choice::NeedsTls => "tls",
            Choice::None => "none",
        };
        assert_eq!(found, *expected, "{method} {authority}{path} {lines:?}");
    }
}

#[test]
fn rewrites_and_redirects() {
    let table = routes(ROUTES);
    let cases = [
        ("/rr/a?b", "/new/a?b"),
        ("/items/7?x=1", "/item?id=7?x=1"),
        ("/exact?q", "http://b.example/there?q"),
        ("/Case/a?b", "https://a.example/low/a?b"),
        ("/sep", "unchanged"),
    ];
    for (path, expected) in cases {
        let headers = HeaderMap::new();
        let head = head(&Method::GET, "a.example", path, &headers);
        let Choice::Route(_, route) = table.find(&head, 0) else {
            panic!("{path} has a route")
        };
        let found = match &route.action {
            Action::Forward(forward) => {
                rewrite::path(forward, &route.matches, &head).unwrap_or_else(|| "unchanged".to_owned())
            }
            Action::Redirect(redirect) => rewrite::location(redirect, &route.matches, &head),
            Action::Direct(_) => panic!("{path} is forwarded"),
        };
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn weights_share_the_numbers() {
    let yaml = "virtual_hosts: [{name: h, domains: ['*'], routes: [{match: {prefix: /}, route: {weighted_clusters: \
                {clusters: [{name: a, weight: 1}, {name: z, weight: 0}, {name: b, weight: 3}]}}}]}]";
    let table = routes(yaml);
    let headers = HeaderMap::new();
    let head = head(&Method::GET, "h", "/", &headers);
    let Choice::Route(_, route) = table.find(&head, 0) else {
        panic!("there is one")
    };
    let Action::Forward(forward) = &route.action else {
        panic!("it forwards")
    };
    let drawn: Vec<_> = (0..8)
        .map(|draw| table::target(forward, &head, draw).unwrap().cluster)
        .collect();
    assert_eq!(drawn, ["a", "b", "b", "b", "a", "b", "b", "b"]);
}
