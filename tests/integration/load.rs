//! Pipelining clients that check every answer and remember every acknowledged write.
//!
//! Each client has keys of its own. Every plain key is written once, so a write without an answer leaves no doubt
//! about the others; counters show writes that were lost or done twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redplane_testkit::{Client, Cluster, Reply, command_bytes, until};

use crate::front::since;
use crate::stage::{PATIENCE, client};

/// Counters of each client.
const COUNTERS: u64 = 20;
/// Groups of commands in one pipeline.
const GROUPS: u64 = 8;

/// What one client saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Acknowledged writes.
    pub(crate) written: BTreeMap<String, String>,
    /// For each counter its highest answer, and how many increments had an error for an answer.
    pub(crate) counters: BTreeMap<String, (i64, i64)>,
    /// Error replies by their text.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Answers that cannot be.
    pub(crate) wrong: Vec<String>,
    /// The longest time that one pipeline took.
    pub(crate) slowest: Duration,
    /// Pipelines sent.
    pub(crate) rounds: u64,
}

/// Clients at work until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Starts a client for each tag; its keys are `TAG:…`, so a tag in braces keeps a client on one shard.
    pub(crate) fn start(port: u16, tags: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds: Vec<_> = tags.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
        let one = |(tag, count): (&String, &Arc<AtomicU64>)| {
            let (tag, count, stop) = (tag.clone(), Arc::clone(count), Arc::clone(&stop));
            let mut connection = client(port);
            thread::spawn(move || {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    round(&mut connection, &tag, &mut tally);
                    count.store(tally.rounds, Ordering::Relaxed);
                    if connection.is_closed() {
                        tally.wrong.push("the connection was closed".to_owned());
                        break;
                    }
                }
                tally
            })
        };
        let threads = tags.iter().zip(&rounds).map(one).collect();
        Self {
            stop,
            rounds,
            threads,
        }
    }

    /// Waits until every client has sent so many pipelines more.
    pub(crate) fn go_on(&self, rounds: u64) {
        let now = || -> Vec<u64> { self.rounds.iter().map(|r| r.load(Ordering::Relaxed)).collect() };
        let before = now();
        until("the load to go on", PATIENCE, || {
            let done = |(at, start): (&u64, &u64)| *at >= start + rounds;
            now().iter().zip(&before).all(done) || self.threads.iter().any(JoinHandle::is_finished)
        });
    }

    /// Ends the clients and says what each saw.
    pub(crate) fn finish(self) -> Vec<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<Tally>| thread.join().expect("a client does not panic");
        self.threads.into_iter().map(join).collect()
    }
}

/// One pipeline: writes, increments, reads of what was written before, and commands over several keys.
fn round(client: &mut Client, tag: &str, tally: &mut Tally) {
    let mut asked: Vec<Vec<String>> = Vec::new();
    let start = tally.rounds * GROUPS;
    for at in start..start + GROUPS {
        let (key, pair) = (format!("{tag}:{at}"), format!("{tag}:pair:{at}"));
        asked.push(words(&["SET", &key, &value(&key)]));
        asked.push(words(&["INCR", &format!("{tag}:n:{}", at % COUNTERS)]));
        asked.push(words(&["GET", &key]));
        asked.push(words(&["MSET", &pair, &value(&pair), &format!("{pair}b"), "b"]));
        // A key from long ago, and two of the same pipeline.
        let old = format!("{tag}:{}", at / 2);
        asked.push(words(&["MGET", &key, &pair, &old]));
    }
    let bytes: Vec<u8> = asked.iter().flat_map(|words| command_bytes(words)).collect();
    let sent = Instant::now();
    let replies = match client.send(&bytes) {
        Ok(()) => client.read_replies(asked.len()),
        Err(_) => Vec::new(),
    };
    tally.slowest = tally.slowest.max(since(sent));
    tally.rounds += 1;
    if replies.len() < asked.len() {
        tally.wrong.push(format!(
            "{} of {} replies in {:?}",
            replies.len(),
            asked.len(),
            since(sent)
        ));
    }
    for (words, reply) in asked.iter().zip(&replies) {
        tally.check(words, reply);
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn value(key: &str) -> String {
    format!("value of {key}")
}

impl Tally {
    fn check(&mut self, words: &[String], reply: &Reply) {
        let errors = std::iter::once(reply).chain(reply.elements());
        for error in errors.filter(|reply| reply.is_error()) {
            *self.errors.entry(error.to_string()).or_default() += 1;
        }
        let right = match words[0].as_str() {
            "INCR" => self.counted(&words[1], reply),
            _ if reply.is_error() => true,
            "GET" => self.may_be(&words[1], reply),
            "MGET" => {
                let keys = words[1..].iter().zip(reply.elements());
                reply.elements().len() == words.len() - 1
                    && keys.into_iter().all(|(key, reply)| self.may_be(key, reply))
            }
            _ => {
                for pair in words[1..].chunks(2) {
                    self.written.insert(pair[0].clone(), pair[1].clone());
                }
                *reply == Reply::Simple(b"OK".to_vec())
            }
        };
        if !right {
            self.wrong.push(format!("{words:?} got {reply}"));
        }
    }

    /// Whether this can be the value of a key: certainly when it was acknowledged, perhaps when it was not.
    fn may_be(&self, key: &str, reply: &Reply) -> bool {
        let acknowledged = self.written.contains_key(key);
        let text = reply.text();
        reply.is_error() || text == Some(value(key)) || (text.is_none() && !acknowledged)
    }

    fn counted(&mut self, key: &str, reply: &Reply) -> bool {
        let (highest, failed) = self.counters.entry(key.to_owned()).or_default();
        let Some(count) = reply.integer() else {
            *failed += 1;
            return reply.is_error();
        };
        // Each increment without an answer may have been done or not.
        let right = count > *highest && count <= *highest + 1 + *failed;
        *failed -= (count - *highest - 1).clamp(0, *failed);
        *highest = count;
        right
    }

    /// Acknowledged writes that are not in what the servers hold.
    pub(crate) fn lost(&self, held: &BTreeMap<String, Reply>) -> Vec<String> {
        let is_there =
            |key: &String, value: &String| held.get(key).and_then(Reply::text).as_ref() == Some(value);
        let lost = self.written.iter().filter(|(key, value)| !is_there(key, value));
        let mut lost: Vec<String> = lost
            .map(|(key, _)| format!("{key} is {:?}", held.get(key)))
            .collect();
        for (key, (highest, failed)) in &self.counters {
            let count = held
                .get(key)
                .and_then(Reply::text)
                .and_then(|text| text.parse().ok());
            let right = |count: i64| (*highest..=highest + failed).contains(&count);
            if !count.is_some_and(right) {
                lost.push(format!("{key} is {count:?}, not {highest} (+{failed})"));
            }
        }
        lost
    }
}

/// All strings that the masters of a cluster hold, asked directly.
pub(crate) fn held(cluster: &Cluster) -> BTreeMap<String, Reply> {
    let mut held = BTreeMap::new();
    for node in cluster.masters() {
        let mut direct = node.client();
        let keys = direct.command(&["KEYS", "*"]).expect("the node answers");
        let keys: Vec<String> = keys.elements().iter().filter_map(Reply::text).collect();
        for some in keys.chunks(1000) {
            let bytes: Vec<u8> = some.iter().flat_map(|key| command_bytes(&["GET", key])).collect();
            direct.send(&bytes).expect("the node reads");
            held.extend(some.iter().cloned().zip(direct.read_replies(some.len())));
        }
    }
    held
}

/// Nothing wrong, nothing lost, and no error but those allowed.
#[track_caller]
pub(crate) fn assert_clean(tallies: &[Tally], cluster: &Cluster, allowed: &[&str], log: &str) {
    let held = held(cluster);
    for tally in tallies {
        let lost = tally.lost(&held);
        let strange = tally
            .errors
            .keys()
            .any(|error| !allowed.iter().any(|text| error.contains(text)));
        assert!(
            tally.wrong.is_empty() && lost.is_empty() && !strange,
            "wrong: {:?}\nlost: {} {:?}\nerrors: {:?}\nslowest: {:?}, rounds: {}\n{log}",
            &tally.wrong[..tally.wrong.len().min(10)],
            lost.len(),
            &lost[..lost.len().min(10)],
            tally.errors,
            tally.slowest,
            tally.rounds
        );
    }
}

/// A tag in braces whose slot a node serves.
pub(crate) fn tag_on(cluster: &Cluster, port: u16) -> String {
    (0..)
        .map(|at| format!("{{t{at}}}"))
        .find(|tag| cluster.master_of(tag).port() == port)
        .expect("every master serves some slot")
}
