//! Scenes as data: the reader of `tests/conformance/scenes/*.scene`, whose format is described for people in
//! `tests/conformance/README.md`.
//!
//! A scene is a row of requests on one connection. It holds no answers: real servers give them while it is played,
//! and a rule says how an answer is compared. Where a proxy is meant to answer otherwise, its answer stands below the
//! request, with the reason. The reader refuses what it does not understand, with file and line.

use std::path::Path;

use crate::case::{Pattern, split_words};
use crate::reply::Reply;

/// How the answers to one request are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Byte for byte.
    Exact,
    /// The elements of the outermost aggregate in any order: what hashes decide differs between servers.
    Sorted,
    /// The same, two by two: fields and values.
    Pairs,
    /// As `Sorted`, at every depth.
    Deep,
    /// Types, counts and nesting; texts and numbers may differ: times, ids, sizes.
    Shape,
    /// The type of the reply alone.
    Kind,
    /// No server is asked, because it would end, wait or know nothing of it.
    Alone,
}

impl Rule {
    fn read(word: &str) -> Option<Self> {
        Some(match word {
            "" => Self::Exact,
            "sorted" => Self::Sorted,
            "pairs" => Self::Pairs,
            "deep" => Self::Deep,
            "shape" => Self::Shape,
            "kind" => Self::Kind,
            "alone" => Self::Alone,
            _ => return None,
        })
    }

    /// What is left of a reply that must be equal.
    #[must_use]
    pub fn essence(self, reply: &Reply) -> Vec<u8> {
        match self {
            Self::Exact | Self::Alone => reply.encode(),
            Self::Sorted => sorted(reply, 1).encode(),
            Self::Pairs => sorted(reply, 2).encode(),
            Self::Deep => deep(reply).encode(),
            Self::Shape => shape(reply).encode(),
            Self::Kind => reply.encode().first().copied().into_iter().collect(),
        }
    }
}

/// The proxy's answer where it is meant to differ from a plain server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// This answer.
    Reply(Pattern),
    /// What one node that serves all slots of a cluster answers.
    AsNode,
}

/// A listener before a cluster, or before one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// A cluster.
    Cluster,
    /// One server.
    Single,
}

/// One request of a scene.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its line in the file.
    pub line: usize,
    /// The request as the file has it.
    pub shown: String,
    /// Its words.
    pub words: Vec<Vec<u8>>,
    /// How many replies it has.
    pub replies: usize,
    /// How answers are compared.
    pub rule: Rule,
    /// Answers of the proxy that are meant to differ, each with its place, and the protocol if it holds for one.
    pub meant: Vec<(Option<Behind>, Option<u8>, Meant)>,
    /// Why they differ.
    pub why: String,
    /// What is known to be wrong and not mended yet.
    pub owed: String,
}

impl Request {
    /// The answer that is meant in this place and protocol, if it is not the plain server's.
    #[must_use]
    pub fn meant(&self, behind: Behind, protocol: u8) -> Option<&Meant> {
        let holds = |place: &Option<Behind>, version: &Option<u8>| {
            place.is_none_or(|place| place == behind) && version.is_none_or(|version| version == protocol)
        };
        let found = self
            .meant
            .iter()
            .find(|(place, version, _)| holds(place, version));
        found.map(|(_, _, meant)| meant)
    }
}

/// One scene.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Its file's name without the folder.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Its requests, in order.
    pub requests: Vec<Request>,
}

/// Reads all `.scene` files of a folder, in the order of their names.
///
/// # Errors
/// The first line that is not understood, as `file:line: reason`.
pub fn read_folder(folder: &Path) -> Result<Vec<Scene>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "scene"));
    paths.sort();
    let mut scenes = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = path.file_name().map(|n| n.to_string_lossy().into_owned());
        scenes.extend(read(&file.unwrap_or_default(), &text)?);
    }
    Ok(scenes)
}

/// Reads the scenes of one file.
///
/// # Errors
/// The first line that is not understood, as `file:line: reason`.
pub fn read(file: &str, text: &str) -> Result<Vec<Scene>, String> {
    let mut scenes: Vec<Scene> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refused = |reason: String| format!("{file}:{}: {reason}", at + 1);
        if let Some(name) = line.strip_prefix("scene:") {
            scenes.push(Scene {
                file: file.to_owned(),
                name: name.trim().to_owned(),
                requests: Vec::new(),
            });
            continue;
        }
        let scene = scenes
            .last_mut()
            .ok_or_else(|| refused("no scene yet".to_owned()))?;
        one_line(scene, at + 1, line).map_err(refused)?;
    }
    for request in scenes.iter().flat_map(|scene| &scene.requests) {
        let alone = request.rule == Rule::Alone;
        if alone && request.meant.is_empty() || request.meant.is_empty() != request.why.is_empty() {
            return Err(format!(
                "{file}:{}: an answer and its why: belong together, and to every request that no server is asked",
                request.line
            ));
        }
    }
    Ok(scenes)
}

fn one_line(scene: &mut Scene, at: usize, line: &str) -> Result<(), String> {
    let head = line.split_once('>').filter(|(head, _)| !head.contains(' '));
    if let Some((head, words)) = head {
        scene.requests.push(request(at, head, words.trim())?);
        return Ok(());
    }
    let (key, value) = line.split_once(':').ok_or("neither a request nor a key")?;
    let (value, request) = (value.trim(), scene.requests.last_mut().ok_or("no request yet")?);
    let (place, protocol) = match key.strip_suffix(['2', '3']) {
        Some(place) => (place, key.bytes().last().map(|digit| digit - b'0')),
        None => (key, None),
    };
    let behind = match place {
        "why" => return append(&mut request.why, value),
        "owed" => return append(&mut request.owed, value),
        "proxy" => None,
        "cluster" => Some(Behind::Cluster),
        "single" => Some(Behind::Single),
        _ => return Err(format!("unknown key {key}")),
    };
    let meant = match value {
        "as a node" => Meant::AsNode,
        _ => Meant::Reply(Pattern::read(value)?),
    };
    request.meant.push((behind, protocol, meant));
    Ok(())
}

fn append(text: &mut String, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("a reason is missing".to_owned());
    }
    text.push_str(value);
    Ok(())
}

fn request(line: usize, head: &str, shown: &str) -> Result<Request, String> {
    let count = head.len() - head.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, rule) = head.split_at(count);
    let replies = if count.is_empty() { Ok(1) } else { count.parse() };
    let words = split_words(shown)?;
    if words.is_empty() {
        return Err("no request".to_owned());
    }
    Ok(Request {
        line,
        shown: shown.to_owned(),
        words,
        replies: replies.map_err(|_| format!("{count} replies"))?,
        rule: Rule::read(rule).ok_or_else(|| format!("unknown rule {rule}"))?,
        meant: Vec::new(),
        why: String::new(),
        owed: String::new(),
    })
}

/// The elements in the order of their bytes; those of a map, or of an array of `width` to an entry, stay together.
fn sorted(reply: &Reply, width: usize) -> Reply {
    let in_order = |elements: &[Reply], width: usize| {
        let mut entries: Vec<&[Reply]> = elements.chunks(width).collect();
        entries.sort_by_key(|entry| entry.iter().map(Reply::encode).collect::<Vec<_>>());
        entries.concat()
    };
    match reply {
        Reply::Array(Some(elements)) => Reply::Array(Some(in_order(elements, width))),
        Reply::Aggregate(b'%', elements) => Reply::Aggregate(b'%', in_order(elements, 2)),
        Reply::Aggregate(kind, elements) => Reply::Aggregate(*kind, in_order(elements, 1)),
        other => other.clone(),
    }
}

fn deep(reply: &Reply) -> Reply {
    let all = |elements: &[Reply]| elements.iter().map(deep).collect();
    let within = match reply {
        Reply::Array(Some(elements)) => Reply::Array(Some(all(elements))),
        Reply::Aggregate(kind, elements) => Reply::Aggregate(*kind, all(elements)),
        other => other.clone(),
    };
    sorted(&within, 1)
}

fn shape(reply: &Reply) -> Reply {
    match reply {
        Reply::Int(_) => Reply::Int(b"0".to_vec()),
        Reply::Bulk(Some(_)) => Reply::Bulk(Some(Vec::new())),
        Reply::Text(kind, _) => Reply::Text(*kind, Vec::new()),
        Reply::Simple(_) => Reply::Simple(Vec::new()),
        Reply::Line(text) => Reply::Line(text.get(..1).unwrap_or_default().to_vec()),
        Reply::Array(Some(elements)) => Reply::Array(Some(elements.iter().map(shape).collect())),
        Reply::Aggregate(kind, elements) => Reply::Aggregate(*kind, elements.iter().map(shape).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Decoded, decode};

    fn essence(rule: Rule, bytes: &[u8]) -> Vec<u8> {
        let Decoded::Reply(reply, _) = decode(bytes) else {
            panic!("incomplete: {bytes:?}")
        };
        rule.essence(&reply)
    }

    #[test]
    fn a_request_has_a_rule_a_count_and_what_is_meant() {
        let text = "scene: one\n> GET \"a b\"\n2sorted> KEYS *\ncluster3: as a node\nsingle: -ERR no\nwhy: because\n";
        let scenes = read("x.scene", text).expect("it is well-formed");
        let [get, keys] = &scenes[0].requests[..] else {
            panic!("two requests, not {scenes:?}")
        };
        assert_eq!(
            (get.rule, get.replies, get.words[1].as_slice()),
            (Rule::Exact, 1, &b"a b"[..])
        );
        assert_eq!((keys.rule, keys.replies), (Rule::Sorted, 2));
        assert_eq!(keys.meant(Behind::Cluster, 2), None);
        assert_eq!(keys.meant(Behind::Cluster, 3), Some(&Meant::AsNode));
        assert!(matches!(keys.meant(Behind::Single, 2), Some(Meant::Reply(_))));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, reason) in [
            ("> GET a", "x.scene:1: no scene yet"),
            ("scene: a\nodd> GET a", "x.scene:2: unknown rule odd"),
            (
                "scene: a\n> GET a\nproxy: +OK",
                "x.scene:2: an answer and its why:",
            ),
            ("scene: a\nalone> SHUTDOWN", "x.scene:2: an answer and its why:"),
            (
                "scene: a\n> GET a\nelsewhere: +OK",
                "x.scene:3: unknown key elsewhere",
            ),
        ] {
            let error = read("x.scene", text).expect_err(text);
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn rules_forget_what_they_name_and_nothing_else() {
        let (one, two) = (b"*2\r\n:1\r\n$1\r\na\r\n", b"*2\r\n$1\r\na\r\n:1\r\n");
        assert_ne!(essence(Rule::Exact, one), essence(Rule::Exact, two));
        assert_eq!(essence(Rule::Sorted, one), essence(Rule::Sorted, two));
        assert_ne!(essence(Rule::Pairs, one), essence(Rule::Pairs, two));
        let nested = (
            b"*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n",
            b"*2\r\n:3\r\n*2\r\n:2\r\n:1\r\n",
        );
        assert_ne!(essence(Rule::Sorted, nested.0), essence(Rule::Sorted, nested.1));
        assert_eq!(essence(Rule::Deep, nested.0), essence(Rule::Deep, nested.1));
        assert_eq!(essence(Rule::Shape, b":17\r\n"), essence(Rule::Shape, b":4\r\n"));
        assert_ne!(
            essence(Rule::Shape, b":17\r\n"),
            essence(Rule::Shape, b"$1\r\n4\r\n")
        );
        assert_eq!(
            essence(Rule::Kind, b"*1\r\n:4\r\n"),
            essence(Rule::Kind, b"*0\r\n")
        );
    }
}
