//! Reads a file into a response, if it is not the one that was read before.
//!
//! Formats by ending, as Envoy's `MessageUtil::loadFromFile`: JSON, YAML, else a binary protobuf. Text
//! protobuf (`.pb_text`) is refused: it needs the whole descriptor set at run time and nobody writes xDS
//! files in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prost::Message as _;
use redplane_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use redplane_proto::{Ignored, Json, yaml_value};
use twox_hash::XxHash3_128;

use crate::subscriptions::Response;
use crate::wire;

/// Tells one state of a file from another without reading it: a swap changes the target or the inode, a write
/// the rest.
#[derive(Clone, Debug)]
pub(super) struct Fingerprint {
    target: PathBuf,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
    /// Written so shortly before it was read that another write may have left the same time.
    fresh: bool,
    /// Hash of what was read.
    content: u128,
}

/// Far above the granularity of a file system's clock.
const FRESH: Duration = Duration::from_millis(100);

impl Fingerprint {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified().ok();
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Ok(Self {
            target: fs::canonicalize(path)?,
            inode: metadata.ino(),
            length: metadata.len(),
            modified,
            fresh: age.is_none_or(|age| age < FRESH),
            content: 0,
        })
    }

    /// Whether `now` is for certain the file that was read as `self`.
    fn still_is(&self, now: &Self) -> bool {
        let one = (&self.target, self.inode, self.length, self.modified);
        !self.fresh && one == (&now.target, now.inode, now.length, now.modified)
    }
}

/// A failed reading: what was there, so that it is not read again, and what is wrong with it.
type Unreadable = (Option<Fingerprint>, String);

/// What a reading found.
#[derive(Debug)]
pub(super) enum Look {
    /// The content that was read before, perhaps in another file.
    Same(Fingerprint),
    /// Other content.
    New(Box<Found>),
}

/// The content of a file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) fingerprint: Fingerprint,
    pub(super) response: Response,
    /// Fields that their messages do not have; Envoy ignores these in dynamic resources too.
    pub(super) ignored: Ignored,
}

/// Reads the file unless it is for certain the one seen `before`. Blocks.
pub(super) fn read(path: &Path, before: Option<&Fingerprint>) -> Result<Look, Unreadable> {
    let mut fingerprint = Fingerprint::of(path).map_err(|error| (None, error.to_string()))?;
    if let Some(before) = before.filter(|before| before.still_is(&fingerprint)) {
        return Ok(Look::Same(before.clone()));
    }
    let bytes = fs::read(path).map_err(|error| (None, error.to_string()))?;
    fingerprint.content = XxHash3_128::oneshot(&bytes);
    if before.is_some_and(|before| before.content == fingerprint.content) {
        return Ok(Look::Same(fingerprint));
    }
    match parse(path, &bytes) {
        Ok((message, ignored)) => {
            let response = wire::sotw_response(message);
            Ok(Look::New(Box::new(Found {
                fingerprint,
                response,
                ignored,
            })))
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
