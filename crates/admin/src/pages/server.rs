//! `/server_info`, `/ready`, `/memory`, `/init_dump`.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::put;
use crate::reply::Reply;
use crate::request::Request;
use crate::{ServerState, Sources};

/// `/server_info`
pub(crate) fn info(sources: &Sources, _: &Request) -> Reply {
    let server = (sources.views.server)();
    let uptime = format!("{}s", server.uptime.as_secs());
    Reply::json(&json!({
        "version": server.version,
        "state": server.state.word(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": server.command_line_options,
        "node": server.node,
    }))
}

/// `/ready`
pub(crate) fn ready(sources: &Sources, _: &Request) -> Reply {
    let state = (sources.views.server)().state;
    let status = if state == ServerState::Live {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Reply::error(status, format!("{}\n", state.word()))
}

/// `/memory`, from the kernel's view of the process: what the allocator holds free but has not given back counts as
/// allocated.
pub(crate) fn memory(_: &Sources, _: &Request) -> Reply {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |key: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    let (anonymous, data, resident) = (bytes("RssAnon"), bytes("VmData"), bytes("VmRSS"));
    Reply::json(&json!({
        "allocated": anonymous.to_string(),
        "heap_size": data.to_string(),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": resident.to_string(),
    }))
}

/// `/init_dump`: `{}` when nothing is waited for.
pub(crate) fn init_dump(sources: &Sources, request: &Request) -> Reply {
    // The mask names a component (`listener`); components carry its word in their names.
    let mask = request.params.filled("mask").unwrap_or_default();
    let unready = (sources.views.init)()
        .into_iter()
        .filter(|component| component.name.contains(mask));
    let dumps = unready.map(|component| json!({"name": component.name, "target_names": component.targets}));
    let mut page = Map::new();
    put(&mut page, "unready_targets_dumps", dumps.collect::<Vec<Value>>());
    Reply::json(&Value::Object(page))
}
