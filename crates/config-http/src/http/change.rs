//! Header changes: `request_headers_to_add` and its three siblings, as routes, virtual hosts and weighted clusters have
//! them.
//!
//! Envoy: `Router::HeaderParser`. Removal comes first, then what is added.

use http::{HeaderName, HeaderValue};
use redplane_proto::pb::envoy::config::core::v3::HeaderValueOption;
use redplane_proto::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;

use super::template::Template;
use crate::field::{enumeration, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// What is taken away and what is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Names that go.
    pub remove: Vec<HeaderName>,
    /// What comes, in order.
    pub add: Vec<HeaderAdd>,
}

/// One header that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAdd {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: Template,
    /// The value where it is the same for every request.
    pub constant: Option<HeaderValue>,
    /// What happens to values that are there.
    pub action: AppendAction,
    /// An empty value is added too.
    pub keep_empty: bool,
}

/// `append_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// One more value.
    #[default]
    Append,
    /// Only where there is none.
    AddIfAbsent,
    /// In place of those that are there, or new.
    Overwrite,
    /// In place of those that are there, else nothing.
    OverwriteIfExists,
}

impl HeaderChanges {
    /// Reads one pair of lists. `what` is `request` or `response`, for paths.
    pub(super) fn read(
        what: &str,
        add: &[HeaderValueOption],
        remove: &[String],
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let remove = remove.iter().enumerate().map(|(at, text)| {
            let path = format!("{what}_headers_to_remove[{at}]");
            changeable(text, "removed").map_err(|reason| Invalid::new(path, reason))
        });
        Ok(Self {
            remove: remove.collect::<Result<_, _>>()?,
            add: ignored.each(&format!("{what}_headers_to_add"), add, HeaderAdd::from_proto)?,
        })
    }

    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

impl HeaderAdd {
    pub(super) fn from_proto(message: &HeaderValueOption, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let header = required(message.header.as_ref(), "header")?;
        ignore_fields!(ignored, header, raw_value);
        let name =
            changeable(&header.key, "modified").map_err(|reason| Invalid::new("header.key", reason))?;
        let value = Template::parse(&header.value).map_err(|reason| Invalid::new("header.value", reason))?;
        let constant = match value.constant() {
            Some(text) => {
                let value = HeaderValue::from_str(text);
                Some(value.map_err(|_| Invalid::new("header.value", "is no header value"))?)
            }
            None => None,
        };
        let action = match (
            message.append,
            enumeration(message.append_action, "append_action")?,
        ) {
            (Some(append), HeaderAppendAction::AppendIfExistsOrAdd) if !append.value => {
                AppendAction::Overwrite
            }
            (Some(_), HeaderAppendAction::AppendIfExistsOrAdd)
            | (None, HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::Append,
            (Some(_), _) => {
                return Err(Invalid::new(
                    "append",
                    "Both append and append_action are set and it's not allowed",
                ));
            }
            (None, HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
            (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::Overwrite,
            (None, HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        };
        Ok(Self {
            name,
            value,
            constant,
            action,
            keep_empty: message.keep_empty_value,
        })
    }
}

/// Pseudo headers and Host have rules of their own.
fn changeable(text: &str, verb: &str) -> Result<HeaderName, String> {
    if text.starts_with(':') || text.eq_ignore_ascii_case("host") {
        return Err(format!(":-prefixed or host headers may not be {verb}"));
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("`{text}` is no header name"))
}
