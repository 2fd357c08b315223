//! `envoy.extensions.path.match.uri_template.v3`: paths with wildcards for segments.
//!
//! A template becomes a regular expression, as in Envoy: `*` and `{name}` stand for one segment or a part of one, `**`
//! for any rest.

use redplane_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use redplane_proto::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;

use super::FullRegex;
use crate::extension::{Extension, type_name};
use crate::{Ignored, Invalid};

/// Characters of a path that wildcards stand for (RFC 3986 `pchar`), in a class of a regular expression.
const CHARACTERS: &str = r"a-zA-Z0-9\-._~%!$&'()*+,;:@=";

/// A path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriTemplate(FullRegex);

impl UriTemplate {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// One clause: what is wrong with it.
    pub fn new(template: &str) -> Result<Self, String> {
        let mut regex = String::with_capacity(template.len() * 2);
        if !template.starts_with('/') {
            return Err("Invalid literal in URI template: it must start with /".to_owned());
        }
        pattern(template, &mut regex)?;
        FullRegex::new(&regex).map(Self)
    }

    /// Reads the extension; other kinds of templates are not known.
    pub fn from_proto(message: &TypedExtensionConfig, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let extension = Extension::new(&message.name, message.typed_config.as_ref());
        let wanted = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
        if type_name(&extension.type_url) != wanted {
            return Err(Invalid::new(
                "typed_config",
                format!("`{}` is not a URI template", extension.label()),
            ));
        }
        let config: UriTemplateMatchConfig = extension.decode(ignored)?;
        Self::new(&config.path_template).map_err(|reason| Invalid::new("typed_config.path_template", reason))
    }

    /// Whether the path, without its query, fits.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.is_match(path)
    }
}

/// Writes the expression of a template, or of what stands behind the `=` of a variable.
fn pattern(template: &str, regex: &mut String) -> Result<(), String> {
    let mut rest = template;
    let mut is_over = false;
    while let Some(next) = rest.chars().next() {
        // Behind `**` only literals may stand.
        if is_over && matches!(next, '*' | '{') {
            return Err("Implicit variable path glob after text glob".to_owned());
        }
        if let Some(behind) = rest.strip_prefix("**") {
            regex.push_str(&format!("[/{CHARACTERS}]*"));
            (rest, is_over) = (behind, true);
        } else if let Some(behind) = rest.strip_prefix('*') {
            regex.push_str(&format!("[{CHARACTERS}]+"));
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('{') {
            let (variable, behind) = behind.split_once('}').ok_or("Unclosed variable")?;
            is_over = self::variable(variable, regex)?;
            rest = behind;
        } else {
            if !next.is_ascii() || !(next == '/' || is_literal(next)) {
                return Err(format!("Invalid literal in URI template: {next}"));
            }
            if !next.is_ascii_alphanumeric() && next != '/' {
                regex.push('\\');
            }
            regex.push(next);
            rest = &rest[1..];
        }
    }
    Ok(())
}

fn is_literal(next: char) -> bool {
    next.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(next)
}

/// `name` or `name=pattern`; whether it ends with a glob of several segments.
fn variable(text: &str, regex: &mut String) -> Result<bool, String> {
    let (name, inner) = text.split_once('=').unwrap_or((text, "*"));
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.len() <= 16
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(format!("Invalid variable name: {name}"));
    }
    if inner.is_empty() || inner.contains(['{', '}']) {
        return Err(format!("Invalid variable pattern: {inner}"));
    }
    pattern(inner, regex)?;
    Ok(inner.contains("**"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let cases = [
            ("/x/*/y", "/x/a/y", true),
            ("/x/*/y", "/x//y", false),
            ("/x/*/y", "/x/a/b/y", false),
            ("/z/**", "/z/", true),
            ("/z/**", "/z/a/b", true),
            ("/z/**", "/z", false),
            ("/**.mpd", "/a/b.mpd", true),
            ("/videos/*/*/*.m4s", "/videos/1/hls/2_3.m4s", true),
            ("/videos/{file}", "/videos/1.m4s", true),
            ("/videos/{file}", "/videos/a/b", false),
            ("/a/{rest=**}", "/a/b/c", true),
            ("/a/{two=x/*}/d", "/a/x/1/d", true),
            ("/api/v{version}/users", "/api/v2/users", true),
            ("/a.b", "/axb", false),
            ("/a/*", "/a/b?c", false),
            ("/a/*", "/a/\u{e9}", false),
        ];
        for (template, path, expected) in cases {
            let read = UriTemplate::new(template).unwrap_or_else(|reason| panic!("{template}: {reason}"));
            assert_eq!(read.matches(path.as_bytes()), expected, "{template} on {path}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for template in [
            "", "a", "/**/*", "/**/**", "/{", "/{}", "/{1a}", "/{a=}", "/{a={b}}", "/ ", "/[", "/a?b",
        ] {
            assert!(UriTemplate::new(template).is_err(), "{template}");
        }
    }
}
