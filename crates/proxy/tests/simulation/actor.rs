//! A client that knows what one sequential Redis would say, for keys that are its own.
//!
//! What it knows of a key is a set of possible values: one, until a command on it fails without an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use redplane_resp::encode;
use redplane_resp::value::{Value, decode};

use super::world::World;

type Possible = BTreeSet<Option<Vec<u8>>>;

/// A command and what it was meant to do.
#[derive(Clone, Debug)]
enum Op {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>),
    Incr(Vec<u8>),
    Del(Vec<Vec<u8>>),
    Mget(Vec<Vec<u8>>),
    Mset(Vec<(Vec<u8>, Vec<u8>)>),
    Exists(Vec<Vec<u8>>),
    Echo(Vec<u8>),
    Block(Vec<Self>),
}

/// What an actor does and how much it forgives.
#[derive(Clone, Copy)]
pub(crate) struct Temper {
    pub(crate) commands: usize,
    pub(crate) pipeline: usize,
    /// Servers fail: the proxy's errors are taken.
    pub(crate) patient: bool,
    /// Slots move: never two commands on one key at a time.
    pub(crate) careful: bool,
    pub(crate) large: bool,
}

pub(crate) struct Actor {
    name: usize,
    peer: usize,
    temper: Temper,
    random: fastrand::Rng,
    known: BTreeMap<Vec<u8>, Possible>,
    waiting: VecDeque<Op>,
    begun: usize,
    pub(crate) failures: usize,
}

impl Actor {
    pub(crate) fn new(world: &mut World, name: usize, temper: Temper, seed: u64) -> Self {
        Self {
            name,
            peer: world.connect(),
            temper,
            random: fastrand::Rng::with_seed(seed ^ (name as u64) << 32),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            begun: 0,
            failures: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.begun >= self.temper.commands && self.waiting.is_empty()
    }

    /// Reads what has come and sends what may be sent.
    pub(crate) fn go(&mut self, world: &mut World) {
        self.read(world);
        let room = self.temper.pipeline.saturating_sub(self.waiting.len());
        if room == 0 || self.begun >= self.temper.commands || self.random.u8(..3) == 0 {
            return;
        }
        let mut bytes = Vec::new();
        for _ in 0..self.random.usize(1..=room) {
            let op = self.invent();
            let busy = |key: &[u8]| self.waiting.iter().any(|op| op.keys().contains(&key));
            if self.temper.careful && op.keys().iter().any(|key| busy(key)) {
                continue;
            }
            op.encode(&mut bytes);
            self.waiting.push_back(op);
            self.begun += 1;
        }
        world.send(self.peer, &bytes);
    }

    fn key(&mut self) -> Vec<u8> {
        format!("a{}:{}", self.name, self.random.u8(..12)).into_bytes()
    }

    fn keys(&mut self) -> Vec<Vec<u8>> {
        (0..self.random.usize(1..6)).map(|_| self.key()).collect()
    }

    fn value(&mut self) -> Vec<u8> {
        let mut value = format!("v{}-{}", self.name, self.begun).into_bytes();
        let size = match self.random.u8(..40) {
            0 if self.temper.large => self.random.usize(20_000..120_000),
            1..8 => self.random.usize(0..400),
            _ => 0,
        };
        value.resize(value.len() + size, b'.');
        value
    }

    fn invent(&mut self) -> Op {
        match self.random.u8(..20) {
            0..5 => Op::Get(self.key()),
            5..10 => Op::Set(self.key(), self.value()),
            10..12 => Op::Incr([&self.key()[..], b"n"].concat()),
            12 => Op::Del(self.keys()),
            13..15 => Op::Mget(self.keys()),
            15 => Op::Mset(self.keys().into_iter().map(|key| (key, self.value())).collect()),
            16 => Op::Exists(self.keys()),
            17 => Op::Echo(format!("e{}-{}", self.name, self.begun).into_bytes()),
            _ => self.block(),
        }
    }

    fn block(&mut self) -> Op {
        let tag = self.random.u8(..4);
        let ops = (0..self.random.usize(1..4)).map(|_| {
            let key = format!("{{a{}t{tag}}}{}", self.name, self.random.u8(..3)).into_bytes();
            match self.random.u8(..3) {
                0 => Op::Get(key),
                1 => Op::Set(key, self.value()),
                _ => Op::Incr([&key[..], b"n"].concat()),
            }
        });
        let ops: Vec<Op> = ops.collect();
        Op::Block(ops)
    }

    fn read(&mut self, world: &mut World) {
        let mut at = 0;
        let inbox = std::mem::take(&mut world.peers[self.peer].inbox);
        while let Some(op) = self.waiting.front().cloned() {
            let Some(used) = self.judge_next(&op, &inbox[at..]) else {
                break;
            };
            at += used;
            self.waiting.pop_front();
        }
        assert!(
            !self.waiting.is_empty() || at == inbox.len(),
            "a reply that nobody asked for"
        );
        world.peers[self.peer].inbox = inbox[at..].to_vec();
    }

    /// Judges the reply of one command; `None` when it is not there yet.
    fn judge_next(&mut self, op: &Op, bytes: &[u8]) -> Option<usize> {
        let take = |at: usize| {
            decode(&bytes[at..])
                .expect("RESP")
                .map(|(value, used)| (value, at + used))
        };
        let Op::Block(ops) = op else {
            let (reply, end) = take(0)?;
            self.judge(op, &reply);
            return Some(end);
        };
        let (ok, mut at) = take(0)?;
        let mut queued = Vec::new();
        for _ in ops {
            let (reply, end) = take(at)?;
            queued.push(reply);
            at = end;
        }
        let (reply, end) = take(at)?;
        assert_eq!(ok, Value::Simple(b"OK".to_vec()));
        assert!(
            queued
                .iter()
                .all(|reply| *reply == Value::Simple(b"QUEUED".to_vec()))
        );
        match &reply {
            Value::Error(_) => ops.iter().for_each(|op| self.judge(op, &reply)),
            _ => {
                let replies = reply.elements().expect("EXEC's array");
                assert_eq!(replies.len(), ops.len());
                ops.iter()
                    .zip(replies)
                    .for_each(|(op, reply)| self.judge(op, reply));
            }
        }
        Some(end)
    }

    fn known(&mut self, key: &[u8]) -> &mut Possible {
        self.known
            .entry(key.to_vec())
            .or_insert_with(|| BTreeSet::from([None]))
    }

    fn judge(&mut self, op: &Op, reply: &Value) {
        if let Value::Error(text) = reply {
            return self.failed(op, &String::from_utf8_lossy(text));
        }
        let wrong =
            |known: &Possible| -> ! { panic!("{op:.200?} gave {reply:.200?}, possible is {known:.200?}") };
        match op {
            Op::Get(key) => self.narrow(op, key, reply),
            Op::Set(key, value) => {
                assert_eq!(*reply, Value::Simple(b"OK".to_vec()), "{op:.200?}");
                *self.known(key) = BTreeSet::from([Some(value.clone())]);
            }
            Op::Incr(key) => {
                let Some(n) = reply.integer() else {
                    panic!("{op:?} gave {reply:?}")
                };
                let known = self.known(key);
                if !known.iter().any(|value| next(value.as_deref()) == n) {
                    wrong(known);
                }
                *known = BTreeSet::from([Some(n.to_string().into_bytes())]);
            }
            Op::Del(keys) => {
                let distinct: BTreeSet<&Vec<u8>> = keys.iter().collect();
                let (least, most) = self.count(distinct.into_iter());
                assert!(
                    reply.integer().is_some_and(|n| (least..=most).contains(&n)),
                    "{op:?} gave {reply:?}"
                );
                keys.iter()
                    .for_each(|key| *self.known(key) = BTreeSet::from([None]));
            }
            Op::Exists(keys) => {
                let (least, most) = self.count(keys.iter());
                assert!(
                    reply.integer().is_some_and(|n| (least..=most).contains(&n)),
                    "{op:?} gave {reply:?}"
                );
            }
            Op::Mget(keys) => {
                let replies = reply.elements().expect("MGET's array");
                assert_eq!(replies.len(), keys.len());
                for (key, reply) in keys.iter().zip(replies) {
                    match reply {
                        Value::Error(_) => assert!(self.temper.patient, "{op:?} gave {reply:?}"),
                        _ => self.narrow(op, key, reply),
                    }
                }
            }
            Op::Mset(pairs) => {
                assert_eq!(*reply, Value::Simple(b"OK".to_vec()), "{op:.200?}");
                for (key, value) in pairs {
                    *self.known(key) = BTreeSet::from([Some(value.clone())]);
                }
            }
            Op::Echo(text) => assert_eq!(*reply, Value::Bulk(Some(text.clone()))),
            Op::Block(_) => unreachable!("judged by its parts"),
        }
    }

    fn narrow(&mut self, op: &Op, key: &[u8], reply: &Value) {
        let Value::Bulk(value) = reply else {
            panic!("{op:.200?} gave {reply:.200?}")
        };
        let known = self.known(key);
        assert!(
            known.contains(value),
            "{op:.200?} gave {reply:.200?}, possible is {known:.200?}"
        );
        *known = BTreeSet::from([value.clone()]);
    }

    fn count<'a>(&mut self, keys: impl Iterator<Item = &'a Vec<u8>>) -> (i64, i64) {
        let (mut least, mut most) = (0, 0);
        for key in keys {
            let known = self.known(key);
            least += i64::from(!known.contains(&None));
            most += i64::from(known.iter().any(Option::is_some));
        }
        (least, most)
    }

    /// No answer: it was done, or it was not.
    fn failed(&mut self, op: &Op, text: &str) {
        self.failures += 1;
        if self.temper.careful && (text.starts_with("TRYAGAIN") || text.starts_with("EXECABORT")) {
            // A split command may have done a part of its work elsewhere.
            if op.keys().len() < 2 {
                return;
            }
        } else {
            assert!(self.temper.patient, "{op:.200?} failed: {text}");
            assert!(
                text.starts_with("upstream failure")
                    || text.starts_with("finished with")
                    || text.starts_with("no upstream host"),
                "{op:.200?} failed: {text}"
            );
        }
        match op {
            Op::Get(_) | Op::Mget(_) | Op::Exists(_) | Op::Echo(_) => {}
            Op::Set(key, value) => {
                self.known(key).insert(Some(value.clone()));
            }
            Op::Incr(key) => {
                let known = self.known(key);
                let more: Vec<i64> = known.iter().map(|value| next(value.as_deref())).collect();
                known.extend(more.into_iter().map(|n| Some(n.to_string().into_bytes())));
            }
            Op::Del(keys) => keys.iter().for_each(|key| {
                self.known(key).insert(None);
            }),
            Op::Mset(pairs) => pairs.iter().for_each(|(key, value)| {
                self.known(key).insert(Some(value.clone()));
            }),
            Op::Block(ops) => ops.clone().iter().for_each(|op| self.failed(op, text)),
        }
    }
}

fn next(value: Option<&[u8]>) -> i64 {
    value.map_or(0, |v| std::str::from_utf8(v).unwrap().parse::<i64>().unwrap()) + 1
}

impl Op {
    fn keys(&self) -> Vec<&[u8]> {
        match self {
            Self::Get(key) | Self::Set(key, _) | Self::Incr(key) => vec![key],
            Self::Del(keys) | Self::Mget(keys) | Self::Exists(keys) => {
                keys.iter().map(Vec::as_slice).collect()
            }
            Self::Mset(pairs) => pairs.iter().map(|(key, _)| key.as_slice()).collect(),
            Self::Echo(_) => Vec::new(),
            Self::Block(ops) => ops.iter().flat_map(Self::keys).collect(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let with = |out: &mut Vec<u8>, name: &'static [u8], args: Vec<&[u8]>| {
            let words: Vec<&[u8]> = std::iter::once(name).chain(args).collect();
            encode::request(out, &words);
        };
        match self {
            Self::Get(key) => with(out, b"GET", vec![key]),
            Self::Set(key, value) => with(out, b"set", vec![key, value]),
            Self::Incr(key) => with(out, b"INCR", vec![key]),
            Self::Del(_) => with(out, b"DEL", self.keys()),
            Self::Mget(_) => with(out, b"MGET", self.keys()),
            Self::Exists(_) => with(out, b"EXISTS", self.keys()),
            Self::Mset(pairs) => {
                let args = pairs
                    .iter()
                    .flat_map(|(key, value)| [key.as_slice(), value.as_slice()]);
                with(out, b"MSET", args.collect());
            }
            Self::Echo(text) => with(out, b"ECHO", vec![text]),
            Self::Block(ops) => {
                with(out, b"MULTI", Vec::new());
                ops.iter().for_each(|op| op.encode(out));
                with(out, b"EXEC", Vec::new());
            }
        }
    }
}
