//! Where in a JSON document the reader stands, and the error that says so.

use std::fmt::Write as _;

/// JSON that is not the message it should be. Its text goes to the operator, or to the control plane in a NACK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct JsonError {
    path: String,
    reason: String,
}

impl JsonError {
    pub(crate) fn new(path: &Path, reason: impl Into<String>) -> Self {
        let path = if path.text.is_empty() {
            "(root)".to_owned()
        } else {
            path.text.clone()
        };
        Self {
            path,
            reason: reason.into(),
        }
    }

    /// The field, as in `static_resources.clusters[0].name`; `(root)` for the whole document.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong with it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// A path that grows and shrinks while the reader walks.
#[derive(Debug, Default)]
pub(crate) struct Path {
    text: String,
}

impl Path {
    /// Steps into a field; the result goes to [`Self::leave`].
    pub(crate) fn field(&mut self, name: &str) -> usize {
        let before = self.text.len();
        if before > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        before
    }

    /// Steps into an element of a list.
    pub(crate) fn index(&mut self, index: usize) -> usize {
        let before = self.text.len();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "[{index}]");
        before
    }

    pub(crate) fn leave(&mut self, before: usize) {
        self.text.truncate(before);
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
