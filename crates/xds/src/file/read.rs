//! Reads a file into a response, if it is not the one that was read before.
//!
//! Formats by ending, as Envoy's `MessageUtil::loadFromFile`: JSON, YAML, else a binary protobuf. Text protobuf (`.pb_text`)
//! is refused: it needs the whole descriptor set at run time and nobody writes xDS files in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use prost::Message as _;
use redplane_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use redplane_proto::{Ignored, Json, yaml_value};

use crate::subscriptions::Response;
use crate::wire;

/// Tells one state of a file from another without reading it: a swap changes the target or the inode, a write the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    target: PathBuf,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Fingerprint {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            target: fs::canonicalize(path)?,
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

/// A failed reading: what was there, so that it is not read again, and what is wrong with it.
type Unreadable = (Option<Fingerprint>, String);

/// What a reading found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) fingerprint: Fingerprint,
    pub(super) response: Response,
    /// Fields that their messages do not have; Envoy ignores these in dynamic resources too.
    pub(super) ignored: Ignored,
}

/// The response in the file, or `None` when the file is the one seen `before`. Blocks.
pub(super) fn read(path: &Path, before: Option<&Fingerprint>) -> Result<Option<Found>, Unreadable> {
    let fingerprint = Fingerprint::of(path).map_err(|error| (None, error.to_string()))?;
    if before == Some(&fingerprint) {
        return Ok(None);
    }
    let parsed = fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|bytes| parse(path, &bytes));
    match parsed {
        Ok((message, ignored)) => {
            let response = wire::sotw_response(message);
            Ok(Some(Found {
                fingerprint,
                response,
                ignored,
            }))
        }
        Err(reason) => Err((Some(fingerprint), reason)),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<(DiscoveryResponse, Ignored), String> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => from_value(&serde_json::from_slice(bytes).map_err(text)?),
        Some("yaml" | "yml") => {
            from_value(&yaml_value(std::str::from_utf8(bytes).map_err(text)?).map_err(text)?)
        }
        Some("pb_text") => Err("text protobuf is not supported; use .yaml, .json or .pb".to_owned()),
        _ => {
            let message = DiscoveryResponse::decode(bytes).map_err(text)?;
            Ok((message, Ignored::default()))
        }
    }
}

fn from_value(value: &serde_json::Value) -> Result<(DiscoveryResponse, Ignored), String> {
    let read = Json::load()
        .message_lenient::<DiscoveryResponse>(value)
        .map_err(text)?;
    Ok((read.message, read.ignored))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
