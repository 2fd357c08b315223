//! Access logs: `envoy.config.accesslog.v3.AccessLog` with a file, stdout or stderr behind it.
//!
//! A log of another kind, or behind a filter that is not known, is not written: it is noted as ignored.

use redplane_proto::pb::envoy::config::accesslog::v3 as proto;
use redplane_proto::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use redplane_proto::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use redplane_proto::pb::envoy::config::core::v3::SubstitutionFormatString;
use redplane_proto::pb::envoy::config::core::v3::substitution_format_string::Format;
use redplane_proto::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use redplane_proto::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use redplane_proto::type_url;

use crate::extension::Extension;
use crate::field::non_empty;
use crate::invalid::ignore_fields;
use crate::metadata::pairs;
use crate::{Ignored, Invalid, data_source};

/// Envoy's own line.
const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A file access log (`envoy.access_loggers.file`, `stdout`, `stderr`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where lines go.
    pub path: std::path::PathBuf,
    /// Envoy's format: text with operators, or a JSON object whose string values hold operators.
    pub format: LogFormat,
    /// `response_flag_filter.flags`: written only when one of these flags is set; empty writes always.
    pub response_flags: Vec<String>,
}

/// The format of an access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text; the newline is part of it.
    Text(String),
    /// A JSON object, as pairs in order.
    Json(Vec<(String, String)>),
}

impl AccessLog {
    /// Reads the logs of a listener or filter; those that are not written are noted.
    pub fn list(messages: &[proto::AccessLog], ignored: &mut Ignored) -> Result<Vec<Self>, Invalid> {
        Ok(ignored
            .each("access_log", messages, Self::from_proto)?
            .into_iter()
            .flatten()
            .collect())
    }

    fn from_proto(message: &proto::AccessLog, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        let any = message
            .config_type
            .as_ref()
            .map(|ConfigType::TypedConfig(any)| any);
        let extension = Extension::new(&message.name, any);
        let sink = ignored.scope("typed_config", |ignored| {
            Sink::from_extension(&extension, ignored)
        })?;
        let Some(Sink { path, format }) = sink else {
            ignored.note(format!(
                "typed_config: {} is not known, the log is not written",
                extension.label()
            ));
            return Ok(None);
        };
        let specifier = message
            .filter
            .as_ref()
            .and_then(|filter| filter.filter_specifier.as_ref());
        let response_flags = match specifier {
            None => Vec::new(),
            Some(FilterSpecifier::ResponseFlagFilter(filter)) => filter.flags.clone(),
            Some(_) => {
                ignored.note("filter: not known, the log is not written");
                return Ok(None);
            }
        };
        Ok(Some(Self {
            path: path.into(),
            format,
            response_flags,
        }))
    }
}

/// Where lines go and what they are.
struct Sink {
    path: String,
    format: LogFormat,
}

impl Sink {
    fn from_extension(extension: &Extension<'_>, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        Ok(Some(match extension.type_url.as_str() {
            type_url::FILE_ACCESS_LOG => {
                let file: FileAccessLog = extension.decode(ignored)?;
                Self {
                    path: non_empty(&file.path, "path")?,
                    format: file_format(&file, ignored)?,
                }
            }
            type_url::STDOUT_ACCESS_LOG => {
                let stdout: StdoutAccessLog = extension.decode(ignored)?;
                let format = stdout.access_log_format.as_ref();
                let format = format.map(|stdout_access_log::AccessLogFormat::LogFormat(format)| format);
                Self {
                    path: "/dev/stdout".to_owned(),
                    format: log_format(format, ignored)?,
                }
            }
            type_url::STDERR_ACCESS_LOG => {
                let stderr: StderrAccessLog = extension.decode(ignored)?;
                let format = stderr.access_log_format.as_ref();
                let format = format.map(|stderr_access_log::AccessLogFormat::LogFormat(format)| format);
                Self {
                    path: "/dev/stderr".to_owned(),
                    format: log_format(format, ignored)?,
                }
            }
            _ => return Ok(None),
        }))
    }
}

fn file_format(file: &FileAccessLog, ignored: &mut Ignored) -> Result<LogFormat, Invalid> {
    use file_access_log::AccessLogFormat;
    match file.access_log_format.as_ref() {
        Some(AccessLogFormat::Format(text)) if !text.is_empty() => Ok(LogFormat::Text(text.clone())),
        None | Some(AccessLogFormat::Format(_)) => log_format(None, ignored),
        Some(AccessLogFormat::JsonFormat(object) | AccessLogFormat::TypedJsonFormat(object)) => {
            Ok(LogFormat::Json(pairs(object)))
        }
        Some(AccessLogFormat::LogFormat(format)) => log_format(Some(format), ignored),
    }
}

fn log_format(
    message: Option<&SubstitutionFormatString>,
    ignored: &mut Ignored,
) -> Result<LogFormat, Invalid> {
    let Some(message) = message else {
        return Ok(LogFormat::Text(DEFAULT_FORMAT.to_owned()));
    };
    ignored.scope("log_format", |ignored| {
        ignore_fields!(
            ignored,
            message,
            omit_empty_values,
            content_type,
            formatters,
            json_format_options
        );
        match message.format.as_ref() {
            None => Err(Invalid::new("format", "value is required")),
            Some(Format::TextFormat(text)) => Ok(LogFormat::Text(text.clone())),
            Some(Format::JsonFormat(object)) => Ok(LogFormat::Json(pairs(object))),
            Some(Format::TextFormatSource(source)) => {
                let text = ignored.scope("text_format_source", |ignored| {
                    data_source::read_text(source, ignored)
                })?;
                Ok(LogFormat::Text(text))
            }
        }
    })
}
