//! Access logs of listeners and of tcp_proxy: configuration turned into something that can write.
//!
//! Files are opened on the control thread when a listener is prepared; a worker only renders a line and hands it over.

use redplane_config::access_log::{AccessLog as Config, LogFormat};
use redplane_telemetry::access_log::{AccessLog, Files, Filter, Format, ResponseFlags};
use serde_json::{Map, Value};

/// Prepares the logs of a listener or filter. The error is the reason of the refusal.
pub(crate) fn prepare(logs: &[Config], files: &Files) -> Result<Vec<AccessLog>, String> {
    logs.iter().map(|log| open(log, files)).collect()
}

fn open(config: &Config, files: &Files) -> Result<AccessLog, String> {
    let path = config.path.to_string_lossy();
    let format = match &config.format {
        LogFormat::Text(text) => Format::text(text),
        LogFormat::Json(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, text)| (key.clone(), Value::String(text.clone())));
            Format::json(&Value::Object(pairs.collect::<Map<_, _>>()))
        }
    };
    Ok(AccessLog {
        filter: filter(&config.response_flags)?,
        format: format.map_err(|error| format!("access_log: {error}"))?.into(),
        sink: files
            .open(&path)
            .map_err(|error| format!("unable to open file '{path}': {error}"))?,
    })
}

fn filter(flags: &[String]) -> Result<Filter, String> {
    if flags.is_empty() {
        return Ok(Filter::Always);
    }
    let mut set = ResponseFlags::default();
    for flag in flags {
        let known = ResponseFlags::from_short(flag);
        set = set.with(known.ok_or_else(|| format!("access_log: unknown response flag {flag}"))?);
    }
    Ok(Filter::ResponseFlags(set))
}
