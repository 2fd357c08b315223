//! The table of endpoints: path, help, parameters, method, page. `/help`, 404, 405 and the home page are made from it.
//!
//! Paths, sentences and parameters are Envoy's. Envoy's profiler, heap dump and symbol table endpoints are left out.

use std::fmt::Write;

use hyper::StatusCode;

use crate::pages::{
    certs, clusters, config_dump, listeners, logging, orders, runtime, server, stats, waiting,
};
use crate::reply::Reply;
use crate::request::Request;
use crate::{Sources, home};

/// One endpoint.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    pub(crate) help: &'static str,
    /// It changes something: GET is refused.
    pub(crate) mutates: bool,
    pub(crate) params: &'static [Param],
    page: fn(&Sources, &Request) -> Reply,
}

/// One query parameter.
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: ParamKind,
}

/// How a parameter is entered on the home page.
pub(crate) enum ParamKind {
    Flag,
    Text,
    OneOf(&'static [&'static str]),
}

const fn flag(name: &'static str, help: &'static str) -> Param {
    Param {
        name,
        help,
        kind: ParamKind::Flag,
    }
}

const fn text(name: &'static str, help: &'static str) -> Param {
    Param {
        name,
        help,
        kind: ParamKind::Text,
    }
}

const fn one_of(name: &'static str, help: &'static str, words: &'static [&'static str]) -> Param {
    Param {
        name,
        help,
        kind: ParamKind::OneOf(words),
    }
}

const fn get(
    path: &'static str,
    help: &'static str,
    params: &'static [Param],
    page: fn(&Sources, &Request) -> Reply,
) -> Endpoint {
    Endpoint {
        path,
        help,
        mutates: false,
        params,
        page,
    }
}

const fn post(
    path: &'static str,
    help: &'static str,
    params: &'static [Param],
    page: fn(&Sources, &Request) -> Reply,
) -> Endpoint {
    Endpoint {
        path,
        help,
        mutates: true,
        params,
        page,
    }
}

const FILTER: &str = "Regular expression (Google re2) for filtering stats";
const USED_ONLY: &str = "Only include stats that have been written by system since restart";

/// All endpoints, sorted by path.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get("/", "Admin home page", &[], |_, _| home::page()),
    get("/certs", "print certs on machine", &[], certs::page),
    get(
        "/clusters",
        "upstream cluster status",
        &[
            text(
                "filter",
                "Regular expression (Google re2) for filtering clusters by name",
            ),
            one_of("format", "File format to use", &["text", "json"]),
        ],
        clusters::page,
    ),
    get(
        "/config_dump",
        "dump current Envoy configs",
        &[
            text("resource", "The resource to dump"),
            text(
                "mask",
                "The mask to apply. When both resource and mask are specified, the mask is applied to every element \
                 in the desired repeated field so that only a subset of fields are returned. The mask is parsed as a \
                 Protobuf::FieldMask",
            ),
            text(
                "name_regex",
                "Dump only the currently loaded configurations whose names match the specified regex. Can be used \
                 with both resource and mask query parameters.",
            ),
            flag(
                "include_eds",
                "Dump currently loaded configuration including EDS. See the response definition for more information",
            ),
        ],
        config_dump::page,
    ),
    post(
        "/drain_listeners",
        "drain listeners",
        &[
            flag(
                "graceful",
                "When draining listeners, enter a graceful drain period prior to closing listeners. This behaviour \
                 and duration is configurable via server options or CLI",
            ),
            flag(
                "skip_exit",
                "When draining listeners, drain the connections but never stop the listeners. The graceful parameter \
                 has no effect when this is set, since the drain period only delays stopping the listeners",
            ),
            flag(
                "inboundonly",
                "Drains all inbound listeners. traffic_direction field in envoy_v3_api_msg_config.listener.v3.Listener \
                 is used to determine whether a listener is inbound or outbound.",
            ),
        ],
        orders::drain_listeners,
    ),
    post(
        "/healthcheck/fail",
        "cause the server to fail health checks",
        &[],
        orders::fail_health_check,
    ),
    post(
        "/healthcheck/ok",
        "cause the server to pass health checks",
        &[],
        orders::pass_health_check,
    ),
    get("/help", "print out list of admin commands", &[], |_, _| {
        Reply::text(help("admin commands are:\n"))
    }),
    get(
        "/hot_restart_version",
        "print the hot restart compatibility version",
        &[],
        |_, _| Reply::text("disabled"),
    ),
    get(
        "/init_dump",
        "dump current Envoy init manager information (experimental)",
        &[text(
            "mask",
            "The desired component to dump unready targets. The mask is parsed as a Protobuf::FieldMask. For example, \
             get the unready targets of all listeners with /init_dump?mask=listener`",
        )],
        server::init_dump,
    ),
    get(
        "/listeners",
        "print listener info",
        &[one_of("format", "File format to use", &["text", "json"])],
        listeners::page,
    ),
    post(
        "/logging",
        "query/change logging levels",
        &[
            text(
                "paths",
                "Change multiple logging levels by setting to \
                 <logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>.",
            ),
            text(
                "group",
                "Change given logger group to desired level, set to <logger_group_name>:<desired_level>. \
                 logger_group_name must be a logger name.",
            ),
            one_of(
                "level",
                "desired logging level, this will change all loggers's level",
                &[
                    "", "trace", "debug", "info", "warning", "error", "critical", "off",
                ],
            ),
        ],
        logging::page,
    ),
    get(
        "/memory",
        "print current allocation/heap usage",
        &[],
        server::memory,
    ),
    post("/quitquitquit", "exit the server", &[], orders::quit),
    get(
        "/ready",
        "print server state, return 200 if LIVE, otherwise return 503",
        &[],
        server::ready,
    ),
    get(
        "/redis/waiting",
        "which Redis clients wait, and for what",
        &[one_of("format", "text or json", &["text", "json"])],
        waiting::page,
    ),
    post("/reopen_logs", "reopen access logs", &[], orders::reopen_logs),
    post(
        "/reset_counters",
        "reset all counters to zero",
        &[],
        orders::reset_counters,
    ),
    get("/runtime", "print runtime values", &[], runtime::page),
    post(
        "/runtime_modify",
        "Adds or modifies runtime values as passed in query parameters. To delete a previously added key, use an empty \
         string as the value. Note that deletion only applies to overrides added via this endpoint; values loaded from \
         disk can be modified via override but not deleted. E.g. ?key1=value1&key2=value2...",
        &[],
        runtime::modify,
    ),
    get(
        "/server_info",
        "print server version/status information",
        &[],
        server::info,
    ),
    get(
        "/stats",
        "print server stats",
        &[
            flag("usedonly", USED_ONLY),
            text("filter", FILTER),
            flag("invert_filter", "Invert the filter regex"),
            one_of("format", "Format to use", &["html", "text", "json", "prometheus"]),
            one_of(
                "type",
                "Stat types to include.",
                &["All", "Counters", "Histograms", "Gauges", "TextReadouts"],
            ),
            one_of(
                "histogram_buckets",
                "Histogram bucket display mode",
                &["cumulative", "disjoint", "detailed", "summary"],
            ),
        ],
        stats::page,
    ),
    get(
        "/stats/prometheus",
        "print server stats in prometheus format",
        &[
            flag("usedonly", USED_ONLY),
            flag(
                "text_readouts",
                "Render text_readouts as new gaugues with value 0 (increases Prometheus data size)",
            ),
            text("filter", FILTER),
            flag("invert_filter", "Invert the filter regex"),
            one_of(
                "histogram_buckets",
                "Histogram bucket display mode",
                &["cumulative", "summary"],
            ),
        ],
        stats::prometheus,
    ),
];

/// The page of a request.
pub(crate) fn respond(sources: &Sources, request: &Request) -> Reply {
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == request.path) else {
        return Reply::error(StatusCode::NOT_FOUND, help("invalid path. admin commands are:\n"));
    };
    if endpoint.mutates && request.method != "POST" {
        let refusal = format!("Method {} not allowed, POST required.", request.method);
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, refusal);
    }
    (endpoint.page)(sources, request)
}

/// The list of endpoints in Envoy's layout.
fn help(head: &str) -> String {
    let mut help = head.to_owned();
    for endpoint in ENDPOINTS {
        let method = if endpoint.mutates { " (POST)" } else { "" };
        // Writing into a String cannot fail.
        let _ = writeln!(help, "  {}{method}: {}", endpoint.path, endpoint.help);
        for param in endpoint.params {
            let words = match param.kind {
                ParamKind::OneOf(words) => format!("; One of ({})", words.join(", ")),
                ParamKind::Flag | ParamKind::Text => String::new(),
            };
            let _ = writeln!(help, "      {}: {}{words}", param.name, param.help);
        }
    }
    help
}
