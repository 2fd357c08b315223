//! The table of endpoints. `/help`, 404, 405 and the home page are made from it.
//!
//! Paths, methods and parameters are Envoy's; the sentences are ours. Envoy's profiler, heap dump and symbol table
//! endpoints are left out.

use hyper::StatusCode;

use crate::endpoint::{Endpoint, flag, get, help, one_of, post, text};
use crate::pages::{
    certs, clusters, config_dump, listeners, logging, orders, runtime, server, stats, waiting,
};
use crate::reply::Reply;
use crate::request::Request;
use crate::{Sources, home};

const FORMAT: &str = "the form of the answer";
const FILTER: &str = "show only stats whose name this regular expression finds something in";
const INVERT: &str = "show what the filter leaves out, not what it finds";
const USED_ONLY: &str = "show only stats that were written since the process began";
const BUCKETS: &str = "how histograms are shown";

/// All endpoints, sorted by path.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get("/", "this list as a page of links and forms", &[], |_, _| {
        home::page(ENDPOINTS)
    }),
    get(
        "/certs",
        "TLS certificates in use, with their validity",
        &[],
        certs::page,
    ),
    get(
        "/clusters",
        "clusters with their hosts: health, weight, connections, requests, Redis role and slots",
        &[
            text(
                "filter",
                "show only clusters whose name this regular expression finds something in",
            ),
            one_of("format", FORMAT, &["text", "json"]),
        ],
        clusters::page,
    ),
    get(
        "/config_dump",
        "the configuration that is in force, and what was refused of it",
        &[
            text(
                "resource",
                "show one list only, by its field: dynamic_active_clusters, static_listeners, ...",
            ),
            text(
                "mask",
                "show these fields only: paths with commas between them, seen from the dump or, with resource, from \
                 each element of that list",
            ),
            text(
                "name_regex",
                "show only resources whose whole name matches; goes together with resource and mask",
            ),
            flag("include_eds", "show the endpoints of EDS clusters as well"),
        ],
        config_dump::page,
    ),
    post(
        "/drain_listeners",
        "stop accepting connections and end those that are open",
        &[
            flag(
                "graceful",
                "end connections over the drain time (--drain-time-s) first, and close the listeners after it",
            ),
            flag(
                "skip_exit",
                "end connections, but keep the listeners; graceful changes nothing then",
            ),
            flag("inboundonly", "only listeners whose traffic_direction is INBOUND"),
        ],
        orders::drain_listeners,
    ),
    post(
        "/healthcheck/fail",
        "let /ready answer 503 from now on",
        &[],
        orders::fail_health_check,
    ),
    post(
        "/healthcheck/ok",
        "take /healthcheck/fail back",
        &[],
        orders::pass_health_check,
    ),
    get("/help", "this list as text", &[], |_, _| {
        Reply::text(help("admin endpoints:\n", ENDPOINTS))
    }),
    get(
        "/hot_restart_version",
        "always 'disabled': there is no hot restart",
        &[],
        |_, _| Reply::text("disabled"),
    ),
    get(
        "/init_dump",
        "what the start still waits for",
        &[text("mask", "show one kind only, for example listener")],
        server::init_dump,
    ),
    get(
        "/listeners",
        "listeners with the addresses that they accept on",
        &[one_of("format", FORMAT, &["text", "json"])],
        listeners::page,
    ),
    post(
        "/logging",
        "show log levels, or change them",
        &[
            text("paths", "several at once: logger:level,logger:level"),
            text("group", "one logger by its name: logger:level"),
            one_of(
                "level",
                "all loggers",
                &[
                    "", "trace", "debug", "info", "warning", "error", "critical", "off",
                ],
            ),
        ],
        logging::page,
    ),
    get(
        "/memory",
        "memory as the allocator counts it, in bytes",
        &[],
        server::memory,
    ),
    post("/quitquitquit", "end the process", &[], orders::quit),
    get(
        "/ready",
        "200 and LIVE when the proxy serves, else 503 and its state",
        &[],
        server::ready,
    ),
    get(
        "/redis/waiting",
        "which Redis clients wait, and for what",
        &[one_of("format", FORMAT, &["text", "json"])],
        waiting::page,
    ),
    post(
        "/reopen_logs",
        "open the access log files anew, after a rotation",
        &[],
        orders::reopen_logs,
    ),
    post(
        "/reset_counters",
        "let every counter start from 0 again",
        &[],
        orders::reset_counters,
    ),
    get(
        "/runtime",
        "runtime keys, with the value of each layer",
        &[],
        runtime::page,
    ),
    post(
        "/runtime_modify",
        "set runtime keys in the admin layer: ?key=value&key=value; an empty value takes a key out of that layer again",
        &[],
        runtime::modify,
    ),
    get(
        "/server_info",
        "version, state, uptime, flags and node",
        &[],
        server::info,
    ),
    get(
        "/stats",
        "all stats",
        &[
            flag("usedonly", USED_ONLY),
            text("filter", FILTER),
            flag("invert_filter", INVERT),
            one_of("format", FORMAT, &["html", "text", "json", "prometheus"]),
            one_of(
                "type",
                "show one kind of stats only",
                &["All", "Counters", "Histograms", "Gauges", "TextReadouts"],
            ),
            one_of(
                "histogram_buckets",
                BUCKETS,
                &["cumulative", "disjoint", "detailed", "summary"],
            ),
        ],
        stats::page,
    ),
    get(
        "/stats/prometheus",
        "all stats in Prometheus's text format, to be scraped",
        &[
            flag("usedonly", USED_ONLY),
            flag(
                "text_readouts",
                "show text readouts too, as gauges of value 0 with the text as a label",
            ),
            text("filter", FILTER),
            flag("invert_filter", INVERT),
            one_of("histogram_buckets", BUCKETS, &["cumulative", "summary"]),
        ],
        stats::prometheus,
    ),
];

/// The page of a request.
pub(crate) fn respond(sources: &Sources, request: &Request) -> Reply {
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == request.path) else {
        return Reply::error(
            StatusCode::NOT_FOUND,
            help("no such path; admin endpoints:\n", ENDPOINTS),
        );
    };
    if endpoint.mutates && request.method != "POST" {
        let refusal = format!("Method {} not allowed, POST required.", request.method);
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, refusal);
    }
    (endpoint.page)(sources, request)
}
