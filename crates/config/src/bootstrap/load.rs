//! The bootstrap file and what is laid over it.
//!
//! JSON, YAML or binary protobuf, by Envoy's file name endings. The override is merged as protobuf merges: scalars
//! replace, messages merge, lists grow. Versions before v3 of the types inside are read as v3.

use std::path::Path;

use prost::Message;
use redplane_proto::pb::envoy::config::bootstrap::v3 as proto;
use redplane_proto::{Json, yaml_value};

use super::Bootstrap;
use crate::{Invalid, data_source};

/// A bootstrap that cannot be used: the file (or the flag), the field, the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {invalid}")]
pub struct LoadError {
    /// The path of the file, or `--config-yaml`.
    pub source_name: String,
    /// What is wrong with it; the path is empty when the text as a whole cannot be read.
    pub invalid: Invalid,
}

/// Largest bootstrap file. It is the operator's own and holds every static resource: some 20,000 clusters with their
/// listeners have 16 MiB. The bound only keeps a mistaken path from filling the memory.
const MAX_BYTES: u64 = 1 << 30;

/// What the override is called in messages.
const OVERRIDE: &str = "--config-yaml";

impl Bootstrap {
    /// Reads the file, the override or both. `allow_unknown` notes fields that the messages do not have, otherwise
    /// they are refused. The accepted message comes along for `/config_dump`.
    ///
    /// # Errors
    /// Names the source and the field at fault.
    pub fn load(
        file: Option<&Path>,
        config_yaml: Option<&str>,
        allow_unknown: bool,
    ) -> Result<(Self, proto::Bootstrap), LoadError> {
        let mut message = proto::Bootstrap::default();
        let mut unknown = Vec::new();
        let mut source_name = OVERRIDE.to_owned();
        if let Some(path) = file {
            source_name = path.display().to_string();
            let error = |invalid| LoadError {
                source_name: source_name.clone(),
                invalid,
            };
            message = from_file(path, allow_unknown, &mut unknown).map_err(error)?;
        }
        if let Some(text) = config_yaml.filter(|text| !text.trim().is_empty()) {
            let error = |invalid| LoadError {
                source_name: OVERRIDE.to_owned(),
                invalid,
            };
            let over = from_text(text, allow_unknown, &mut unknown).map_err(error)?;
            merge(&mut message, &over).map_err(error)?;
        } else if file.is_none() {
            let reason = "At least one of --config-path or --config-yaml should be non-empty";
            return Err(LoadError {
                source_name,
                invalid: Invalid::new("", reason),
            });
        }
        let mut bootstrap =
            Self::from_proto(&message).map_err(|invalid| LoadError { source_name, invalid })?;
        bootstrap.unknown = unknown;
        Ok((bootstrap, message))
    }
}

fn from_file(
    path: &Path,
    allow_unknown: bool,
    unknown: &mut Vec<String>,
) -> Result<proto::Bootstrap, Invalid> {
    let read = data_source::file(&path.to_string_lossy(), MAX_BYTES);
    let bytes = read.map_err(|reason| Invalid::new("", reason))?;
    if path.extension().is_some_and(|extension| extension == "pb") {
        let malformed = |error| Invalid::new("", format!("malformed Bootstrap: {error}"));
        return proto::Bootstrap::decode(bytes.as_slice()).map_err(malformed);
    }
    let text = String::from_utf8(bytes).map_err(|_| Invalid::new("", "is not valid UTF-8"))?;
    from_text(&text, allow_unknown, unknown)
}

fn from_text(
    text: &str,
    allow_unknown: bool,
    unknown: &mut Vec<String>,
) -> Result<proto::Bootstrap, Invalid> {
    let value = yaml_value(text).map_err(|error| Invalid::new("", error.to_string()))?;
    let json = Json::load();
    let refuse = |error: redplane_proto::JsonError| Invalid::new(error.path(), error.reason());
    if !allow_unknown {
        return json.message(&value).map_err(refuse);
    }
    let read = json.message_lenient(&value).map_err(refuse)?;
    unknown.extend(read.ignored.paths);
    Ok(read.message)
}

/// Merging is what protobuf does when the bytes of one message follow those of another.
fn merge(message: &mut proto::Bootstrap, over: &proto::Bootstrap) -> Result<(), Invalid> {
    let bytes = over.encode_to_vec();
    message
        .merge(bytes.as_slice())
        .map_err(|error| Invalid::new("", error.to_string()))
}
