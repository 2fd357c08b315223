//! Conformance cases as data: the reader of `tests/conformance/*.case`, whose format is described for people in
//! `tests/conformance/README.md`.
//!
//! A file is lines of `key: value`. The reader refuses what it does not understand, with file and line; it knows
//! nothing of servers.

mod notation;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::client::command_bytes;
use crate::reply::Reply;

pub use crate::escape::{escape, unescape};
pub use notation::{Pattern, split_words};

/// Which server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leg {
    /// A plain Redis, asked directly.
    Redis,
    /// A node of the real cluster, asked directly; only where a case says what it answers.
    Node,
    /// Envoy 1.40.
    Envoy,
    /// The proxy under test.
    Redplane,
}

impl Leg {
    /// All legs, in the order in which reports name them.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Node, Self::Envoy, Self::Redplane];

    /// The key of this leg in a case file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Node => "node",
            Self::Envoy => "envoy",
            Self::Redplane => "redplane",
        }
    }

    fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|leg| leg.key() == key)
    }
}

/// One line of what is expected after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A reply.
    Reply(Pattern),
    /// The peer closes the connection.
    Closed,
    /// Whatever comes, until the peer closes: for what depends on which side is faster.
    Whatever,
    /// No reply to this write; anything that comes shows up as a surplus.
    Nothing,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reply(pattern) => write!(f, "{pattern}"),
            Self::Closed => f.write_str("closed"),
            Self::Whatever => f.write_str("whatever"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// One write and what is expected of it.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Commands that a second connection runs first, through the same leg.
    pub other: Vec<Vec<Vec<u8>>>,
    /// The bytes of the write.
    pub bytes: Vec<u8>,
    /// Whether the client closes its side behind the write.
    pub finish: bool,
    /// The write as the file has it.
    pub shown: String,
    /// The line behind which a missing expectation belongs, from 1.
    pub line: usize,
    /// What every leg without its own lines answers.
    pub all: Vec<Expected>,
    /// What a leg answers that has its own lines.
    pub own: BTreeMap<Leg, Vec<Expected>>,
}

impl Step {
    /// What is expected of a leg; empty when the file does not say. A cluster node is only asked where it is named.
    #[must_use]
    pub fn expected(&self, leg: Leg) -> &[Expected] {
        match self.own.get(&leg) {
            Some(own) => own,
            None if leg == Leg::Node => &[],
            None => &self.all,
        }
    }
}

/// One case.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Its file's name without the folder.
    pub file: String,
    /// The line of its name.
    pub line: usize,
    /// Its name, unique over all files.
    pub name: String,
    /// The listener and servers it wants.
    pub topology: String,
    /// Commands run before, on the server behind the leg.
    pub setup: Vec<Vec<Vec<u8>>>,
    /// The writes.
    pub steps: Vec<Step>,
    /// Why the legs differ.
    pub why: Vec<String>,
    /// Only with a Redis of this version or newer.
    pub since: Option<Vec<u32>>,
    /// Only with a Redis older than this version.
    pub until: Option<Vec<u32>>,
}

impl Case {
    /// Whether every step says what this leg answers.
    #[must_use]
    pub fn states(&self, leg: Leg) -> bool {
        self.steps.iter().all(|step| !step.expected(leg).is_empty())
    }

    /// Whether the case holds for a Redis of this version.
    #[must_use]
    pub fn holds_for(&self, version: &[u32]) -> bool {
        self.since.as_deref().is_none_or(|since| version >= since)
            && self.until.as_deref().is_none_or(|until| version < until)
    }
}

/// Reads all `.case` files of a folder, in the order of their names.
///
/// # Errors
/// The first line that is not understood, as `file:line: reason`.
pub fn read_folder(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "case"));
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        cases.extend(read(&file, &text)?);
    }
    let mut names = BTreeSet::new();
    match cases.iter().find(|case| !names.insert(case.name.as_str())) {
        Some(twice) => Err(format!(
            "{}:{}: there is already a case named {}",
            twice.file, twice.line, twice.name
        )),
        None => Ok(cases),
    }
}

/// Reads the cases of one file.
///
/// # Errors
/// The first line that is not understood, as `file:line: reason`.
pub fn read(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut reader = Reader {
        file,
        topology: "cluster".to_owned(),
        ..Reader::default()
    };
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (key, value) = trimmed
            .split_once(':')
            .ok_or_else(|| format!("{file}:{}: no key", at + 1))?;
        reader
            .line(at + 1, key, value.trim())
            .map_err(|reason| format!("{file}:{}: {reason}", at + 1))?;
    }
    reader.cases.iter().try_for_each(|case| check(file, case))?;
    Ok(reader.cases)
}

#[derive(Default)]
struct Reader<'a> {
    file: &'a str,
    topology: String,
    cases: Vec<Case>,
}

impl Reader<'_> {
    fn line(&mut self, line: usize, key: &str, value: &str) -> Result<(), String> {
        if key == "case" {
            let (file, name) = (self.file.to_owned(), value.to_owned());
            let topology = self.topology.clone();
            self.cases.push(Case {
                file,
                line,
                name,
                topology,
                ..Case::default()
            });
            return Ok(());
        }
        let Some(case) = self.cases.last_mut() else {
            if key != "topology" {
                return Err(format!("{key} before the first case"));
            }
            value.clone_into(&mut self.topology);
            return Ok(());
        };
        match key {
            "topology" => value.clone_into(&mut case.topology),
            "setup" => case.setup.push(words(value)?),
            "why" => case.why.push(value.to_owned()),
            "since" => case.since = Some(version(value)?),
            "until" => case.until = Some(version(value)?),
            "other" => other(case, words(value)?),
            "send" => write(case, line, value, command_bytes(&words(value)?)),
            "finish" => {
                write(case, line, value, command_bytes(&words(value)?));
                last_step(case)?.finish = true;
            }
            "raw" => write(case, line, value, unescape(value)?),
            "and" => write_more(case, line, value, &command_bytes(&words(value)?))?,
            "expect" => last_step(case)?.all.push(expected(value)?),
            _ => {
                let leg = Leg::from_key(key).ok_or_else(|| format!("unknown key {key}"))?;
                last_step(case)?
                    .own
                    .entry(leg)
                    .or_default()
                    .push(expected(value)?);
            }
        }
        Ok(())
    }
}

fn other(case: &mut Case, words: Vec<Vec<u8>>) {
    if case.steps.last().is_none_or(|step| !step.bytes.is_empty()) {
        case.steps.push(Step::default());
    }
    let step = case.steps.last_mut().expect("a step was pushed just now");
    step.other.push(words);
}

/// Begins a step, or completes the one that so far only says what the second connection does.
fn write(case: &mut Case, line: usize, shown: &str, bytes: Vec<u8>) {
    let mut step = case
        .steps
        .pop_if(|step| step.bytes.is_empty())
        .unwrap_or_default();
    shown.clone_into(&mut step.shown);
    (step.bytes, step.line) = (bytes, line);
    case.steps.push(step);
}

/// Adds to the write of the last step.
fn write_more(case: &mut Case, line: usize, shown: &str, bytes: &[u8]) -> Result<(), String> {
    let step = last_step(case)?;
    if !step.all.is_empty() || !step.own.is_empty() {
        return Err("and: stands before the expectations".to_owned());
    }
    step.shown.push_str(" & ");
    step.shown.push_str(shown);
    step.bytes.extend_from_slice(bytes);
    step.line = line;
    Ok(())
}

fn last_step(case: &mut Case) -> Result<&mut Step, String> {
    case.steps
        .last_mut()
        .ok_or_else(|| "an expectation before anything was sent".to_owned())
}

fn words(value: &str) -> Result<Vec<Vec<u8>>, String> {
    let words = split_words(value)?;
    if words.is_empty() {
        Err("no command".to_owned())
    } else {
        Ok(words)
    }
}

fn version(value: &str) -> Result<Vec<u32>, String> {
    value
        .split('.')
        .map(|part| part.parse().map_err(|_| format!("{value} is no version")))
        .collect()
}

fn expected(value: &str) -> Result<Expected, String> {
    match value {
        "closed" => Ok(Expected::Closed),
        "whatever" => Ok(Expected::Whatever),
        "nothing" => Ok(Expected::Nothing),
        _ => Pattern::read(value).map(Expected::Reply),
    }
}

fn check(file: &str, case: &Case) -> Result<(), String> {
    let at = format!("{file}:{}: {}", case.line, case.name);
    if case.steps.is_empty() || case.steps.iter().any(|step| step.bytes.is_empty()) {
        return Err(format!("{at}: sends nothing"));
    }
    if case.steps.iter().any(|step| !step.own.is_empty()) && case.why.is_empty() {
        return Err(format!("{at}: the legs differ and no why: says for what reason"));
    }
    Ok(())
}

/// What a leg answered, as lines of a case file.
#[must_use]
pub fn lines_of(replies: &[Reply], closed: bool) -> Vec<String> {
    let mut lines: Vec<String> = replies.iter().map(ToString::to_string).collect();
    if closed {
        lines.push("closed".to_owned());
    }
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests;
