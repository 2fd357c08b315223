//! YAML or JSON text to JSON values, with the line of an error. Knows no messages.

use serde::Deserialize as _;
use serde_json::Value;

/// Text that is neither YAML nor JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct YamlError {
    line: Option<usize>,
    reason: String,
}

impl YamlError {
    /// The line, counted from one, where it is known.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl From<serde_norway::Error> for YamlError {
    fn from(error: serde_norway::Error) -> Self {
        Self {
            line: error.location().map(|location| location.line()),
            reason: error.to_string(),
        }
    }
}

impl From<serde_json::Error> for YamlError {
    fn from(error: serde_json::Error) -> Self {
        Self {
            line: Some(error.line()),
            reason: error.to_string(),
        }
    }
}

/// Reads one document. Empty text is null.
///
/// # Errors
/// With the line, when the text is neither YAML nor JSON or holds several documents.
pub fn yaml_value(text: &str) -> Result<Value, YamlError> {
    if !looks_like_json(text) {
        return Ok(serde_norway::from_str(text)?);
    }
    // JSON first: YAML forbids the tabs that JSON allows. An object may still be YAML's own form (`{a: b}`).
    serde_json::from_str(text).or_else(|error| serde_norway::from_str(text).map_err(|_| error.into()))
}

/// Reads all documents of a stream (`---` between them), without the empty ones.
///
/// # Errors
/// With the line, when the text is neither YAML nor JSON.
pub fn yaml_documents(text: &str) -> Result<Vec<Value>, YamlError> {
    if looks_like_json(text)
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(vec![value]);
    }
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

fn looks_like_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_both_forms() {
        let expected = json!({"admin": {"port": 15000}, "list": ["5s", true, 1.5]});
        assert_eq!(
            yaml_value("admin:\n  port: 15000\nlist: [5s, true, 1.5]\n").unwrap(),
            expected
        );
        assert_eq!(
            yaml_value("\t{\"admin\": {\"port\": 15000},\n\t\"list\": [\"5s\", true, 1.5]}").unwrap(),
            expected
        );
        assert_eq!(
            yaml_value("{admin: {port: 15000}, list: [5s, true, 1.5]}").unwrap(),
            expected
        );
        assert_eq!(yaml_value("").unwrap(), Value::Null);
    }

    #[test]
    fn names_the_line_of_an_error() {
        assert!(
            yaml_value("a: 1\nb: c: d\n")
                .unwrap_err()
                .to_string()
                .contains("at line 2 column")
        );
        assert_eq!(yaml_value("a: 1\nb: c: d\n").unwrap_err().line(), Some(2));
        assert_eq!(yaml_value("{\"a\": 1,\n\"b\" 2}").unwrap_err().line(), Some(2));
    }

    #[test]
    fn reads_every_document() {
        assert_eq!(
            yaml_documents("a: 1\n---\n---\nb: 2\n").unwrap(),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert!(yaml_documents("a: 1\n---\nb: [\n").is_err());
    }

    #[test]
    fn aliases_cannot_grow_without_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
        }
        assert!(yaml_value(&text).is_err());
    }
}
