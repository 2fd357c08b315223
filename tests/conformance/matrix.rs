//! Plays scenes in both protocols and compares what the proxies answer with what the servers answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redplane_testkit::scene::{Behind, Meant, Request, Rule, Scene};
use redplane_testkit::{Client, Reply, command_bytes};
use serde_json::Value;

use super::stage::{Cast, Stage};

/// What came of all scenes.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Answers compared.
    pub(crate) compared: usize,
    /// Differences, one line each.
    pub(crate) differences: Vec<String>,
    /// Requests that are known to be answered wrongly, and how often they were.
    pub(crate) owed: BTreeMap<String, usize>,
}

impl Outcome {
    /// A known difference is counted, any other is told.
    fn differs(&mut self, scene: &Scene, request: &Request, difference: String) {
        if request.owed.is_empty() {
            self.differences
                .push(format!("{}:{} {difference}", scene.file, request.line));
        } else {
            *self.owed.entry(place(scene, request)).or_default() += 1;
        }
    }
}

fn place(scene: &Scene, request: &Request) -> String {
    format!("{}:{} {}", scene.file, request.line, request.owed)
}

/// Plays every scene in RESP2 and in RESP3.
pub(crate) fn play_all(stage: &mut Stage, scenes: &[Scene]) -> Outcome {
    let mut outcome = Outcome::default();
    let owing = scenes
        .iter()
        .flat_map(|scene| scene.requests.iter().map(move |request| (scene, request)));
    for (scene, request) in owing.filter(|(_, request)| !request.owed.is_empty()) {
        outcome.owed.insert(place(scene, request), 0);
    }
    for scene in scenes {
        for protocol in [2, 3] {
            if let Err(reason) = play(stage, scene, protocol, &mut outcome) {
                let line = format!("{} {} RESP{protocol}: {reason}", scene.file, scene.name);
                outcome.differences.push(line);
            }
            if let Some(end) = stage.obituary() {
                panic!("{} {} ended the process: {end}", scene.file, scene.name);
            }
        }
    }
    outcome
}

/// Plays one scene; an error is one that says nothing about a single request.
fn play(stage: &mut Stage, scene: &Scene, protocol: u8, outcome: &mut Outcome) -> Result<(), String> {
    let mut cast = stage.set(protocol)?;
    for request in &scene.requests {
        let answers = ask(&mut cast, request);
        for (behind, got) in [
            (Behind::Cluster, &answers.cluster),
            (Behind::Single, &answers.single),
        ] {
            outcome.compared += 1;
            if let Some(difference) = difference(request, behind, protocol, &answers, got) {
                outcome.differs(scene, request, difference);
            }
        }
        if answers.are_out_of_step(request) {
            return Ok(());
        }
    }
    no_more(&mut cast)
}

/// Nothing may come behind the last answer.
fn no_more(cast: &mut Cast) -> Result<(), String> {
    let all = [
        &mut cast.plain,
        &mut cast.node,
        &mut cast.cluster,
        &mut cast.single,
    ];
    for (who, client) in ["plain", "node", "cluster", "single"].into_iter().zip(all) {
        client.half_close();
        let (surplus, closed) = client.read_until_close();
        if !surplus.is_empty() || !closed {
            return Err(format!(
                "{who} sent too much: {}",
                String::from_utf8_lossy(&surplus)
            ));
        }
    }
    Ok(())
}

struct Answers {
    plain: Vec<Reply>,
    node: Vec<Reply>,
    cluster: Vec<Reply>,
    single: Vec<Reply>,
}

impl Answers {
    /// Whether a peer still owes replies, so that all further ones would be compared with others'.
    fn are_out_of_step(&self, request: &Request) -> bool {
        let counts = [
            self.cluster.len(),
            self.single.len(),
            self.plain.len(),
            self.node.len(),
        ];
        let asked = if request.rule == Rule::Alone { 2 } else { 4 };
        counts[..asked].iter().any(|count| *count != counts[0])
    }
}

/// Sends one request to everyone, then reads from everyone, so that those who wait do so together.
fn ask(cast: &mut Cast, request: &Request) -> Answers {
    let bytes = command_bytes(&request.words);
    let alone = request.rule == Rule::Alone;
    // A peer that has closed is noticed by what does not come back.
    let send = |client: &mut Client| drop(client.send(&bytes));
    if !alone {
        send(&mut cast.plain);
        send(&mut cast.node);
    }
    send(&mut cast.cluster);
    send(&mut cast.single);
    let judge = |client: &mut Client| match alone {
        true => Vec::new(),
        false => client.read_replies(request.replies),
    };
    Answers {
        plain: judge(&mut cast.plain),
        node: judge(&mut cast.node),
        cluster: cast.cluster.read_replies(request.replies),
        single: cast.single.read_replies(request.replies),
    }
}

fn difference(
    request: &Request,
    behind: Behind,
    protocol: u8,
    answers: &Answers,
    got: &[Reply],
) -> Option<String> {
    let (same, wanted) = match request.meant(behind, protocol) {
        Some(Meant::Reply(pattern)) => {
            let same = got.len() == 1 && got.iter().all(|reply| pattern.matches(reply));
            (same, pattern.to_string())
        }
        Some(Meant::AsNode) => (are_alike(request.rule, &answers.node, got), shown(&answers.node)),
        None => (
            are_alike(request.rule, &answers.plain, got),
            shown(&answers.plain),
        ),
    };
    (!same).then(|| {
        format!(
            "{behind:?} RESP{protocol}  sent {}  expected {wanted}  got {}",
            request.shown,
            shown(got)
        )
    })
}

fn are_alike(rule: Rule, expected: &[Reply], got: &[Reply]) -> bool {
    let essences = |replies: &[Reply]| {
        replies
            .iter()
            .map(|reply| rule.essence(reply))
            .collect::<Vec<_>>()
    };
    essences(expected) == essences(got)
}

fn shown(replies: &[Reply]) -> String {
    let text = replies
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" | ");
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None if text.is_empty() => "nothing".to_owned(),
        None => text,
    }
}

/// One record of the command table: its words and its arity.
pub(crate) struct Record {
    pub(crate) words: Vec<String>,
    arity: i64,
    since: String,
}

/// The command table as the repository has it.
pub(crate) fn table(root: &Path) -> Vec<Record> {
    let text = std::fs::read(root.join("crates/command/redis-commands.json")).expect("the table is there");
    let rows: Value = serde_json::from_slice(&text).expect("the table is JSON");
    let record = |row: &Value| Record {
        words: row["name"]
            .as_str()
            .unwrap_or_default()
            .split(' ')
            .map(str::to_owned)
            .collect(),
        arity: row["arity"].as_i64().unwrap_or_default(),
        since: row["since"].as_str().unwrap_or_default().to_owned(),
    };
    rows.as_array()
        .expect("an array of records")
        .iter()
        .map(record)
        .collect()
}

/// Names of the table that no request of any scene names.
pub(crate) fn without_scene(table: &[Record], scenes: &[Scene]) -> Vec<String> {
    let upper = |word: &Vec<u8>| String::from_utf8_lossy(word).to_uppercase();
    let requests = scenes.iter().flat_map(|scene| &scene.requests);
    let heads: BTreeSet<Vec<String>> = requests
        .flat_map(|request| {
            let words: Vec<String> = request.words.iter().take(2).map(upper).collect();
            [words[..1].to_vec(), words]
        })
        .collect();
    let missing = table.iter().filter(|record| !heads.contains(&record.words));
    missing.map(|record| record.words.join(" ")).collect()
}

/// A scene for each record: one word too few, one too many. A server that is older than the command cannot judge.
pub(crate) fn arity_scenes(table: &[Record]) -> Vec<Scene> {
    let version = |text: &str| -> Vec<u32> { text.split('.').map_while(|part| part.parse().ok()).collect() };
    let known = version("7.0.15");
    let newer = |record: &&Record| version(&record.since) > known || record.words[0] == "SENTINEL";
    table
        .iter()
        .filter(|record| !newer(record))
        .filter_map(|record| {
            let wanted = record.arity.unsigned_abs() as usize;
            let too_many = (record.arity > 0).then_some(wanted + 1);
            let counts = [wanted.checked_sub(1), too_many].into_iter().flatten();
            let requests: Vec<Request> = counts
                .filter(|count| *count >= record.words.len())
                .map(|count| bare_request(record, count))
                .collect();
            (!requests.is_empty()).then(|| Scene {
                file: "arity of".to_owned(),
                name: record.words.join(" "),
                requests,
            })
        })
        .collect()
}

/// Groups whose commands may stand in a transaction and answer there as they do elsewhere.
const IN_BLOCKS: [&str; 10] = [
    "connection.scene",
    "generic.scene",
    "geo.scene",
    "hashes.scene",
    "lists.scene",
    "scripting.scene",
    "sets.scene",
    "streams.scene",
    "strings.scene",
    "zsets.scene",
];

/// The same scenes with every request in a transaction of its own, but those that redplane is meant to answer in its own
/// way. A cluster's node judges what is before a cluster.
pub(crate) fn in_blocks(scenes: &[Scene]) -> Vec<Scene> {
    let chosen = scenes
        .iter()
        .filter(|scene| IN_BLOCKS.contains(&scene.file.as_str()))
        // What an older server refuses at once has another arity here.
        .filter(|scene| !scene.name.contains("came with"));
    let scene = |scene: &Scene| Scene {
        file: scene.file.clone(),
        name: format!("{}, in transactions", scene.name),
        requests: scene.requests.iter().flat_map(in_block).collect(),
    };
    chosen.map(scene).collect()
}

fn in_block(request: &Request) -> Vec<Request> {
    let own = request
        .meant
        .iter()
        .any(|(.., meant)| matches!(meant, Meant::Reply(_)));
    if own || request.rule == Rule::Alone || request.replies != 1 {
        return Vec::new();
    }
    let around = |word: &str, rule: Rule| Request {
        shown: format!("{word} around {}", request.shown),
        words: vec![word.as_bytes().to_vec()],
        rule,
        ..as_a_node(request)
    };
    let deep = match request.rule {
        Rule::Sorted | Rule::Pairs => Rule::Deep,
        rule => rule,
    };
    let itself = Request {
        rule: Rule::Exact,
        ..as_a_node(request)
    };
    vec![around("MULTI", Rule::Exact), itself, around("EXEC", deep)]
}

fn as_a_node(request: &Request) -> Request {
    Request {
        replies: 1,
        meant: vec![(Some(Behind::Cluster), None, Meant::AsNode)],
        ..request.clone()
    }
}

fn bare_request(record: &Record, count: usize) -> Request {
    let mut words = record.words.clone();
    words.resize(count, "x".to_owned());
    Request {
        line: count,
        shown: words.join(" "),
        words: words.into_iter().map(String::into_bytes).collect(),
        replies: 1,
        rule: Rule::Exact,
        meant: Vec::new(),
        why: String::new(),
        owed: String::new(),
    }
}
