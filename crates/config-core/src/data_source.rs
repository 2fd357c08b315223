//! `envoy.config.core.v3.DataSource`: bytes that stand in the message, in a file or in the environment.
//!
//! Read once, when the configuration is read; files are not watched. The bytes are taken as they are: a newline at
//! the end of a password file is part of the password, as in Envoy.

use std::fs::File;
use std::io::Read;

use redplane_proto::pb::envoy::config::core::v3::DataSource;
use redplane_proto::pb::envoy::config::core::v3::data_source::Specifier;

use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Largest file of a data source: certificates and passwords are small, and a push may name many of them.
const MAX_BYTES: u64 = 16 << 20;

/// What a data source held, and where that was.
pub struct Data {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// A path, or `<inline>`, as Envoy prints it in `/certs`.
    pub source: String,
}

/// Reads a data source; paths are relative to it.
pub fn read(message: &DataSource, ignored: &mut Ignored) -> Result<Data, Invalid> {
    ignore_fields!(ignored, message, watched_directory);
    let inline = |bytes: &[u8]| Data {
        bytes: bytes.to_vec(),
        source: "<inline>".to_owned(),
    };
    match message.specifier.as_ref() {
        None => Err(Invalid::new("specifier", "value is required")),
        Some(Specifier::InlineBytes(bytes)) => Ok(inline(bytes)),
        Some(Specifier::InlineString(text)) => Ok(inline(text.as_bytes())),
        Some(Specifier::Filename(path)) => {
            let bytes = file(path, MAX_BYTES).map_err(|reason| Invalid::new("filename", reason))?;
            Ok(Data {
                bytes,
                source: path.clone(),
            })
        }
        Some(Specifier::EnvironmentVariable(name)) => {
            let value = variable(name).map_err(|reason| Invalid::new("environment_variable", reason))?;
            Ok(inline(value.as_bytes()))
        }
    }
}

/// Reads a data source that must be UTF-8.
pub fn read_text(message: &DataSource, ignored: &mut Ignored) -> Result<String, Invalid> {
    String::from_utf8(read(message, ignored)?.bytes).map_err(|_| Invalid::new("", "value is not valid UTF-8"))
}

/// Reads a regular file of at most `limit` bytes: a device or a pipe would never end.
pub fn file(path: &str, limit: u64) -> Result<Vec<u8>, String> {
    if path.is_empty() {
        return Err("value length must be at least 1 characters".to_owned());
    }
    let invalid = |error: &dyn std::fmt::Display| format!("Invalid path: {path} ({error})");
    let metadata = std::fs::metadata(path).map_err(|error| invalid(&error))?;
    if !metadata.is_file() {
        return Err(invalid(&"not a regular file"));
    }
    let mut bytes = Vec::new();
    let open = File::open(path).map_err(|error| invalid(&error))?;
    open.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| invalid(&error))?;
    if bytes.len() as u64 > limit {
        return Err(invalid(&format_args!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

fn variable(name: &str) -> Result<String, String> {
    // `std::env::var` panics on none of these, but answers oddly for names that no environment can hold.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("Environment variable doesn't exist: {name}"));
    }
    std::env::var(name).map_err(|_| format!("Environment variable doesn't exist: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(specifier: Specifier) -> DataSource {
        DataSource {
            watched_directory: None,
            specifier: Some(specifier),
        }
    }

    fn text(specifier: Specifier) -> Result<String, Invalid> {
        read_text(&source(specifier), &mut Ignored::default())
    }

    #[test]
    fn every_specifier_is_read() {
        assert_eq!(text(Specifier::InlineString("a\n".into())).unwrap(), "a\n");
        assert_eq!(text(Specifier::InlineBytes(b"b".to_vec())).unwrap(), "b");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned();
        assert!(text(Specifier::Filename(path)).unwrap().starts_with("[package]"));
        assert!(
            !text(Specifier::EnvironmentVariable("PATH".into()))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let gone = text(Specifier::Filename("/nonexistent/x".into())).unwrap_err();
        assert!(
            gone.to_string()
                .starts_with("filename: Invalid path: /nonexistent/x"),
            "{gone}"
        );
        let folder = text(Specifier::Filename("/".into())).unwrap_err();
        assert!(folder.reason.contains("not a regular file"));
        let device = text(Specifier::Filename("/dev/zero".into())).unwrap_err();
        assert!(device.reason.contains("not a regular file"));
        let huge = tempfile::NamedTempFile::new().unwrap();
        huge.as_file().set_len(MAX_BYTES + 1).unwrap();
        let huge = text(Specifier::Filename(huge.path().display().to_string())).unwrap_err();
        assert!(huge.reason.contains("larger than 16777216 bytes"), "{huge}");
        let unset = text(Specifier::EnvironmentVariable("REDPLANE_NEVER_SET".into())).unwrap_err();
        assert_eq!(unset.path, "environment_variable");
        assert!(text(Specifier::EnvironmentVariable("a=b\0".into())).is_err());
        let empty = read(&DataSource::default(), &mut Ignored::default())
            .err()
            .unwrap();
        assert_eq!(empty.to_string(), "specifier: value is required");
        assert!(text(Specifier::InlineBytes(vec![0xff])).is_err());
    }
}
