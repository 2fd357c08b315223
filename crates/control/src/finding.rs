//! What the reader of a folder has to say about it, always with the file and the line.
//!
//! A *note* is something that was read, understood and left out (a kind that is not served, a patch that met
//! nothing). A *fault* makes the whole folder unusable, so that the last good configuration stays.

use std::fmt;

/// A place in a folder of YAML.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file's name inside the folder.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One remark about one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it was found.
    pub location: Location,
    /// What was found, in one line for a person.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.text)
    }
}

impl Location {
    pub(crate) fn finding(&self, text: impl Into<String>) -> Finding {
        Finding {
            location: self.clone(),
            text: text.into(),
        }
    }
}

/// Everything that makes a folder unusable; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Finding>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Finding> for Faults {
    fn from(fault: Finding) -> Self {
        Self(vec![fault])
    }
}
