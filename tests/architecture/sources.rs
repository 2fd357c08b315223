//! The product's sources, crate by crate, without their tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::root;

/// One file.
#[derive(Clone)]
pub(crate) struct Source {
    /// Seen from the crate's `src`.
    pub(crate) path: PathBuf,
    /// `a/b.rs` is `a`, `b`; the root has none.
    pub(crate) modules: Vec<String>,
    /// Without the test module, comments included.
    pub(crate) text: String,
    /// Without comments.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        let text = without_tests(text);
        let code = text
            .lines()
            .map(|line| match line.trim_start().starts_with("//") {
                true => "\n".to_owned(),
                false => format!("{line}\n"),
            });
        let parts = path.with_extension("");
        let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
        Self {
            path: path.to_owned(),
            modules: parts
                .filter(|part| !matches!(part.as_str(), "lib" | "main"))
                .collect(),
            code: code.collect(),
            text,
        }
    }

    pub(crate) fn top_module(&self) -> Option<&str> {
        self.modules.first().map(String::as_str)
    }

    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

fn without_tests(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_test_module = |at: &usize| {
        lines[*at] == "#[cfg(test)]"
            && lines[at + 1..]
                .iter()
                .take(2)
                .any(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let end = (0..lines.len()).find(is_test_module).unwrap_or(lines.len());
    lines[..end].iter().map(|line| format!("{line}\n")).collect()
}

/// All product sources by the short name of their crate; the binary is `src`.
pub(crate) fn product() -> BTreeMap<String, Vec<Source>> {
    let mut found = BTreeMap::from([("src".to_owned(), read(&root().join("src")))]);
    let crates = std::fs::read_dir(root().join("crates")).expect("the folder of crates can be read");
    for folder in crates.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        found.insert(name, read(&folder.join("src")));
    }
    found
}

fn read(folder: &Path) -> Vec<Source> {
    let mut paths = Vec::new();
    crate::collect(folder, &mut paths);
    paths.sort();
    let kept = paths.iter().filter_map(|path| {
        let inside = path.strip_prefix(folder).ok()?;
        let is_test = inside.ends_with("tests.rs") || inside.iter().any(|part| part == "tests");
        (!is_test && !inside.starts_with("bin")).then(|| Source::new(inside, &crate::read(path)))
    });
    kept.collect()
}
