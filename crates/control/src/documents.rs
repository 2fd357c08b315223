//! A folder of YAML, taken apart into Kubernetes objects that know where they were written.
//!
//! Several documents per file, `kind: List` unfolded, files in the order of their names, sub-folders not
//! entered (as `kubectl apply -f` does it). Nothing here knows what a kind means.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::finding::{Faults, Finding, Location};

/// Larger files are refused before they are parsed.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// One object: `apiVersion`, `kind`, `metadata` and the rest.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) location: Location,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) labels: serde_json::Map<String, Value>,
    /// The whole object.
    pub(crate) value: Value,
    /// The document's own lines; the first of them is `location.line`.
    text: String,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: serde_json::Map<String, Value>,
}

impl Document {
    /// `kind namespace/name`, as messages name an object.
    pub(crate) fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    pub(crate) fn finding(&self, text: impl std::fmt::Display) -> Finding {
        self.location.finding(format!("{}: {text}", self.title()))
    }

    /// Reads one member of the object (`spec`, `subsets`); an absent one is read as an empty object.
    pub(crate) fn member<T: DeserializeOwned>(&self, member: &str) -> Result<T, Finding> {
        let empty = || Value::Object(serde_json::Map::new());
        let value = self
            .value
            .get(member)
            .filter(|v| !v.is_null())
            .cloned()
            .unwrap_or_else(empty);
        serde_json::from_value(value).map_err(|error| self.finding(format!("{member}: {error}")))
    }

    /// The line of the `nth` mention of `key:`, or the document's own line when it is not written that way.
    pub(crate) fn line_of(&self, key: &str, nth: usize) -> Location {
        let mention = |line: &str| {
            line.trim_start()
                .trim_start_matches("- ")
                .trim_start()
                .starts_with(key)
        };
        let offset = self
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| mention(line))
            .map(|(at, _)| at)
            .nth(nth);
        Location {
            file: self.location.file.clone(),
            line: self.location.line + offset.unwrap_or(0),
        }
    }
}

/// Reads every `.yaml`, `.yml` and `.json` file of a folder, all faults together.
pub(crate) fn read_dir(dir: &Path) -> Result<Vec<Document>, Faults> {
    let whole = |text: String| {
        Location {
            file: dir.display().to_string(),
            line: 1,
        }
        .finding(text)
    };
    let entries = std::fs::read_dir(dir).map_err(|error| whole(error.to_string()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| whole(error.to_string()))?.path();
        if is_read(&path) {
            files.push(path);
        }
    }
    files.sort();
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for path in files {
        match read_file(&path) {
            Ok(found) => documents.extend(found),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        Ok(documents)
    } else {
        Err(Faults(faults))
    }
}

/// Whether a file of this name is read. Editors keep their half-written copies under hidden names.
pub(crate) fn is_read(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !hidden
        && path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

fn read_file(path: &Path) -> Result<Vec<Document>, Finding> {
    let file = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let whole = |text: String| {
        Location {
            file: file.clone(),
            line: 1,
        }
        .finding(text)
    };
    let size = std::fs::metadata(path)
        .map_err(|error| whole(error.to_string()))?
        .len();
    if size > MAX_FILE_BYTES {
        return Err(whole(format!("{size} bytes; at most {MAX_FILE_BYTES} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| whole(error.to_string()))?;
    parse(&file, &text)
}

/// Takes one file's text apart.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Document>, Finding> {
    let mut documents = Vec::new();
    for (start, piece) in pieces(text) {
        let value = yaml(file, start, &piece)?;
        if !value.is_null() {
            unfold(file, start, &piece, value, &mut documents)?;
        }
    }
    Ok(documents)
}

/// The documents of a stream with the lines before each. A `---` at the start of a line always ends one, even
/// inside a block scalar.
fn pieces(text: &str) -> Vec<(usize, String)> {
    let mut pieces = vec![(0, String::new())];
    for (at, line) in text.lines().enumerate() {
        let rest = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = rest {
            pieces.push((at, String::new()));
            push_line(&mut pieces, rest);
        } else if line.trim_end() != "..." {
            push_line(&mut pieces, line);
        }
    }
    pieces
}

fn push_line(pieces: &mut [(usize, String)], line: &str) {
    if let Some((_, piece)) = pieces.last_mut() {
        piece.push_str(line);
        piece.push('\n');
    }
}

fn yaml(file: &str, start: usize, piece: &str) -> Result<Value, Finding> {
    let refused = |error: serde_norway::Error| {
        let line = start + error.location().map_or(1, |location| location.line());
        // The parser's own line is relative to the document; ours is the file's.
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or(&text);
        Location {
            file: file.to_owned(),
            line,
        }
        .finding(format!("not YAML: {text}"))
    };
    let mut value: serde_norway::Value = serde_norway::from_str(piece).map_err(refused)?;
    value.apply_merge().map_err(refused)?;
    serde_json::to_value(value).map_err(|error| {
        Location {
            file: file.to_owned(),
            line: start + 1,
        }
        .finding(error.to_string())
    })
}

fn unfold(
    file: &str,
    start: usize,
    piece: &str,
    value: Value,
    documents: &mut Vec<Document>,
) -> Result<(), Finding> {
    // The first line that says something, so that a comment at the head is not named.
    let lead = piece
        .lines()
        .take_while(|line| line.trim().is_empty() || line.starts_with('#'))
        .count();
    let location = Location {
        file: file.to_owned(),
        line: start + lead + 1,
    };
    let head: Head =
        serde_json::from_value(value.clone()).map_err(|error| location.finding(error.to_string()))?;
    if head.kind == "List" || head.kind.ends_with("List") && value.get("items").is_some() {
        let items = value
            .get("items")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        return items.into_iter().try_for_each(|item| {
            let nested = item
                .get("kind")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.ends_with("List"));
            if nested {
                return Err(location.finding("a List inside a List"));
            }
            unfold(file, start, piece, item, documents)
        });
    }
    if head.kind.is_empty() || head.metadata.name.is_empty() {
        return Err(location.finding("an object needs kind and metadata.name"));
    }
    let text = piece.lines().skip(lead).map(|line| format!("{line}\n")).collect();
    documents.push(Document {
        location,
        kind: head.kind,
        name: head.metadata.name,
        namespace: head.metadata.namespace.unwrap_or_else(|| "default".to_owned()),
        labels: head.metadata.labels,
        value,
        text,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_their_line() {
        let text = "# head\n---\n# why\nkind: A\nmetadata: {name: one}\n--- \nkind: B\nmetadata: {name: two, namespace: n}\n---\n";
        let documents = parse("f.yaml", text).unwrap();
        let seen: Vec<_> = documents.iter().map(|d| (d.title(), d.location.line)).collect();
        assert_eq!(seen, [("A default/one".to_owned(), 4), ("B n/two".to_owned(), 7)]);
    }

    #[test]
    fn a_broken_document_is_reported_with_file_and_line() {
        let fault = parse(
            "f.yaml",
            "kind: A\nmetadata: {name: one}\n---\nkind: B\nspec: [1, 2\n",
        )
        .unwrap_err();
        assert_eq!(fault.location.file, "f.yaml");
        assert!((4..=6).contains(&fault.location.line), "{fault}");
        let fault = parse("f.yaml", "---\nkind: A\n  bad: indent\n").unwrap_err();
        assert_eq!(fault.location.line, 3, "{fault}");
    }

    #[test]
    fn lists_are_unfolded_and_anchors_merged() {
        let text = "kind: List\nitems:\n- kind: A\n  metadata: &m {name: one}\n- kind: B\n  metadata: {<<: *m, namespace: n}\n";
        let titles: Vec<_> = parse("f", text).unwrap().iter().map(Document::title).collect();
        assert_eq!(titles, ["A default/one", "B n/one"]);
        assert!(parse("f", "kind: List\nitems: [{kind: List}]").is_err());
    }

    #[test]
    fn an_object_without_name_is_refused() {
        assert!(parse("f", "kind: A\n").is_err());
        assert!(parse("f", "just text\n").is_err());
        assert!(parse("f", "\n# only a comment\n").unwrap().is_empty());
    }

    #[test]
    fn the_line_of_a_patch_is_found() {
        let text = "---\n\nkind: A\nmetadata: {name: x}\nspec:\n- applyTo: ONE\n# applyTo: no\n- match: {}\n  applyTo: TWO\n";
        let document = &parse("f", text).unwrap()[0];
        assert_eq!(document.line_of("applyTo:", 0).line, 6);
        assert_eq!(document.line_of("applyTo:", 1).line, 9);
        assert_eq!(document.line_of("applyTo:", 2).line, 3);
    }
}
