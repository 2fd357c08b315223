//! Model Redis nodes: small, but with a real dictionary, slots, redirections, MULTI and WATCH.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use redplane_resp::encode;
use redplane_resp::request::{Args, Decoded, decode};

use super::bus::{Post, Subscribed};
use super::ground::Row;

pub(crate) type Words = Vec<Vec<u8>>;
type Script = Box<dyn FnMut(&[Vec<u8>]) -> Option<Vec<u8>>>;

/// Whether a node can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    #[default]
    Up,
    /// Connections are refused.
    Refuses,
    /// Connections never open, bytes vanish.
    Blackhole,
}

#[derive(Default)]
pub(crate) struct Node {
    pub(crate) data: BTreeMap<Vec<u8>, Vec<u8>>,
    versions: HashMap<Vec<u8>, u64>,
    pub(crate) reach: Reach,
    /// Microseconds before a reply leaves.
    pub(crate) delay: u64,
    /// It takes no bytes in.
    pub(crate) stalled: bool,
    /// Answers before the dictionary does.
    pub(crate) script: Option<Script>,
    /// Every command it ran, where a test wants to know.
    pub(crate) log: Option<Vec<Words>>,
    pub(crate) password: Option<Vec<u8>>,
    /// SCAN walks its keys from the last to the first.
    pub(crate) reversed: bool,
    /// SCAN's cursors need so many bits more.
    pub(crate) cursor_shift: u32,
    pub(crate) lists: BTreeMap<Vec<u8>, VecDeque<Vec<u8>>>,
    /// A script runs (`EVAL endless …`) until SCRIPT KILL.
    busy: bool,
}

/// One connection as the node sees it.
#[derive(Default)]
pub(crate) struct Session {
    input: Vec<u8>,
    queue: Option<Vec<Words>>,
    spoiled: bool,
    watched: Vec<(Vec<u8>, u64)>,
    asking: bool,
    granted: bool,
    pub(crate) subscribed: Subscribed,
    /// A BLPOP that waits, and until when.
    blocked: Option<(Words, u64)>,
    /// The script that runs came from here.
    runs: bool,
}

impl Session {
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some() || self.runs
    }
}

/// All nodes and who owns what.
#[derive(Default)]
pub(crate) struct Fabric {
    pub(crate) nodes: BTreeMap<SocketAddr, Node>,
    /// By slot; empty where there are no slots.
    pub(crate) owners: Vec<SocketAddr>,
    /// Slots under migration, and where to.
    pub(crate) moving: HashMap<u16, SocketAddr>,
    /// Microseconds.
    pub(crate) now: u64,
    /// What was published and is to be sent to the sessions it concerns.
    pub(crate) posts: Vec<Post>,
    /// What each session is subscribed to; for counting.
    pub(crate) sessions: Vec<(SocketAddr, Subscribed)>,
}

impl Fabric {
    pub(crate) fn new(rows: &[Row]) -> Self {
        let mut fabric = Self {
            owners: vec![SocketAddr::from(([0, 0, 0, 0], 0)); 16384],
            ..Self::default()
        };
        for (first, last, primary, replicas) in rows {
            for slot in *first..=*last {
                fabric.owners[usize::from(slot)] = *primary;
            }
            fabric.nodes.entry(*primary).or_default();
            for replica in replicas {
                fabric.nodes.entry(*replica).or_default();
            }
        }
        fabric
    }

    /// Nodes without slots.
    pub(crate) fn plain(nodes: &[SocketAddr]) -> Self {
        Self {
            nodes: nodes.iter().map(|node| (*node, Node::default())).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn node(&mut self, address: SocketAddr) -> &mut Node {
        self.nodes.entry(address).or_default()
    }

    pub(crate) fn owner(&mut self, key: &[u8]) -> &mut Node {
        let owner = self.owners[usize::from(redplane_command::slot(key))];
        self.node(owner)
    }

    /// Gives a slot and its keys to another node.
    pub(crate) fn hand_over(&mut self, slot: u16, to: SocketAddr) {
        let from = std::mem::replace(&mut self.owners[usize::from(slot)], to);
        self.moving.remove(&slot);
        self.posts.push(Post::slot_left(from, slot));
        let keys: Vec<Vec<u8>> = self.node(from).data.keys().cloned().collect();
        for key in keys.iter().filter(|key| redplane_command::slot(key) == slot) {
            self.move_key(from, to, key);
        }
    }

    /// Moves one key during a migration.
    pub(crate) fn move_key(&mut self, from: SocketAddr, to: SocketAddr, key: &[u8]) {
        if from != to
            && let Some(value) = self.node(from).data.remove(key)
        {
            self.node(from).touch(key);
            self.node(to).data.insert(key.to_vec(), value);
        }
    }

    /// Bytes that reached a node; what it answers.
    pub(crate) fn take(&mut self, at: SocketAddr, session: &mut Session, bytes: &[u8]) -> Vec<u8> {
        session.input.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut args = Args::default();
        if session.blocked.is_some() && !self.wake(at, session, &mut out) {
            return out;
        }
        loop {
            if session.runs {
                if self.node(at).busy {
                    return out;
                }
                session.runs = false;
                out.extend_from_slice(b"-ERR script killed by user\r\n");
            }
            let (end, words): (usize, Words) =
                match decode(&session.input, &mut args, &mut None, true).expect("the proxy speaks RESP") {
                    Decoded::Frame(end) => (
                        end,
                        (0..args.len())
                            .map(|i| args.arg(&session.input, i).to_vec())
                            .collect(),
                    ),
                    Decoded::Incomplete(_) => return out,
                    Decoded::Inline(..) => panic!("the proxy sends no inline commands"),
                };
            session.input.drain(..end);
            self.command(at, session, words, &mut out);
            if session.blocked.is_some() && !self.wake(at, session, &mut out) {
                return out;
            }
        }
    }

    /// Whether the wait of a BLPOP is over: there is something, it is too late, or the slot has gone.
    fn wake(&mut self, at: SocketAddr, session: &mut Session, out: &mut Vec<u8>) -> bool {
        let Some((words, until)) = session.blocked.take() else {
            return true;
        };
        if let Some(refusal) = self.refuse(at, &words, true) {
            out.extend_from_slice(&refusal);
            return true;
        }
        let (now, node) = (self.now, self.node(at));
        let full = words[1..words.len() - 1]
            .iter()
            .find(|key| node.lists.contains_key(*key));
        if let Some(key) = full {
            encode::array(out, 2);
            encode::bulk(out, key);
            node.pop(key, out);
            return true;
        }
        if now >= until {
            out.extend_from_slice(b"*-1\r\n");
            return true;
        }
        session.blocked = Some((words, until));
        false
    }

    fn command(&mut self, at: SocketAddr, session: &mut Session, mut words: Words, out: &mut Vec<u8>) {
        words[0].make_ascii_lowercase();
        let node = self.nodes.entry(at).or_default();
        if let Some(log) = &mut node.log {
            log.push(words.clone());
        }
        if let Some(script) = &mut node.script
            && let Some(reply) = script(&words)
        {
            return out.extend_from_slice(&reply);
        }
        let asked = session.asking;
        match words[0].as_slice() {
            b"script" if node.busy && words[1].eq_ignore_ascii_case(b"kill") => {
                node.busy = false;
                return out.extend_from_slice(b"+OK\r\n");
            }
            _ if node.busy => {
                return out.extend_from_slice(b"-BUSY Redis is busy running a script.\r\n");
            }
            b"eval" if words[1] == b"endless" => {
                (node.busy, session.runs) = (true, true);
                return;
            }
            b"auth" => {
                session.granted = node.password.as_deref() == words.last().map(Vec::as_slice);
                let reply: &[u8] = if session.granted {
                    b"+OK\r\n"
                } else {
                    b"-WRONGPASS no\r\n"
                };
                return out.extend_from_slice(reply);
            }
            _ if node.password.is_some() && !session.granted => {
                return out.extend_from_slice(b"-NOAUTH Authentication required.\r\n");
            }
            b"asking" => {
                session.asking = true;
                return out.extend_from_slice(b"+OK\r\n");
            }
            b"multi" => {
                session.queue = Some(Vec::new());
                session.spoiled = false;
                return out.extend_from_slice(b"+OK\r\n");
            }
            b"exec" => {
                self.exec(at, session, out);
                session.asking = false;
                return;
            }
            _ => {}
        }
        if session.queue.is_none() {
            session.asking = false;
        }
        if let Some(refusal) = self.refuse(at, &words, asked) {
            session.spoiled |= session.queue.is_some();
            return out.extend_from_slice(&refusal);
        }
        if let Some(queue) = &mut session.queue {
            queue.push(words);
            return out.extend_from_slice(b"+QUEUED\r\n");
        }
        let now = self.now;
        if session.subscribed.take(&words, out) || self.publish(at, &words, out) {
            return;
        }
        let node = self.node(at);
        match words[0].as_slice() {
            b"blpop" => {
                let seconds: f64 = std::str::from_utf8(&words[words.len() - 1])
                    .unwrap()
                    .parse()
                    .unwrap();
                let until = if seconds == 0.0 {
                    u64::MAX
                } else {
                    now + (seconds * 1e6) as u64
                };
                session.blocked = Some((words, until));
            }
            b"watch" => {
                for key in &words[1..] {
                    let version = node.versions.get(key).copied().unwrap_or(0);
                    session.watched.push((key.clone(), version));
                }
                out.extend_from_slice(b"+OK\r\n");
            }
            b"unwatch" => {
                session.watched.clear();
                out.extend_from_slice(b"+OK\r\n");
            }
            _ => node.run(&words, out),
        }
    }

    fn publish(&mut self, at: SocketAddr, words: &[Vec<u8>], out: &mut Vec<u8>) -> bool {
        let Some(post) = Post::read(at, words) else {
            return false;
        };
        let own = self.sessions.iter().filter(|(node, _)| *node == at);
        let count: usize = own.map(|(_, subscribed)| subscribed.matching(&post)).sum();
        encode::integer(out, count as i64);
        self.posts.push(post);
        true
    }

    fn exec(&mut self, at: SocketAddr, session: &mut Session, out: &mut Vec<u8>) {
        let Some(queue) = session.queue.take() else {
            return out.extend_from_slice(b"-ERR EXEC without MULTI\r\n");
        };
        let watched = std::mem::take(&mut session.watched);
        if let Some(refusal) = self.refuse_block(at, &queue, session.asking) {
            return out.extend_from_slice(&refusal);
        }
        let node = self.node(at);
        if session.spoiled {
            return out
                .extend_from_slice(b"-EXECABORT Transaction discarded because of previous errors.\r\n");
        }
        if watched
            .iter()
            .any(|(key, version)| node.versions.get(key).copied().unwrap_or(0) != *version)
        {
            return out.extend_from_slice(b"*-1\r\n");
        }
        encode::array(out, queue.len());
        for words in queue {
            match node.script.as_mut().and_then(|script| script(&words)) {
                Some(reply) => out.extend_from_slice(&reply),
                None => node.run(&words, out),
            }
        }
    }

    /// What EXEC says when the keys of its commands are not all here any more.
    fn refuse_block(&mut self, at: SocketAddr, queue: &[Words], asked: bool) -> Option<Vec<u8>> {
        let mut all: Words = vec![b"exists".to_vec()];
        for key in queue.iter().flat_map(|words| keys(words)) {
            if !all[1..].iter().any(|known| known == key) {
                all.push(key.to_vec());
            }
        }
        if all.len() > 1 {
            self.refuse(at, &all, asked)
        } else {
            None
        }
    }

    /// Errors of a cluster node.
    fn refuse(&mut self, at: SocketAddr, words: &[Vec<u8>], asked: bool) -> Option<Vec<u8>> {
        if self.owners.is_empty() {
            return None;
        }
        let keys = keys(words);
        let slot = redplane_command::slot(keys.first()?);
        if keys.iter().any(|key| redplane_command::slot(key) != slot) {
            return Some(b"-CROSSSLOT Keys in request don't hash to the same slot\r\n".to_vec());
        }
        let owner = self.owners[usize::from(slot)];
        let importing = self.moving.get(&slot) == Some(&at);
        if owner != at && !(importing && asked) {
            return Some(format!("-MOVED {slot} {owner}\r\n").into_bytes());
        }
        let to = *self.moving.get(&slot)?;
        let data = &self.node(at).data;
        let missing = keys.iter().filter(|key| !data.contains_key(**key)).count();
        match missing {
            0 => None,
            all if owner == at && all == keys.len() => Some(format!("-ASK {slot} {to}\r\n").into_bytes()),
            _ if owner == at || keys.len() > 1 => Some(b"-TRYAGAIN Multiple keys\r\n".to_vec()),
            _ => None,
        }
    }
}

/// The keys of the commands that the model knows.
fn keys(words: &[Vec<u8>]) -> Vec<&[u8]> {
    let all = words[1..].iter().map(Vec::as_slice);
    match words[0].as_slice() {
        b"get" | b"fetch" | b"set" | b"incr" | b"getset" | b"append" | b"rpush" | b"llen" | b"ssubscribe"
        | b"spublish" => all.take(1).collect(),
        b"blpop" => all.take(words.len() - 2).collect(),
        b"mset" => all.step_by(2).collect(),
        b"mget" | b"del" | b"exists" | b"unlink" | b"touch" | b"watch" => all.collect(),
        _ => Vec::new(),
    }
}

impl Node {
    fn touch(&mut self, key: &[u8]) {
        *self.versions.entry(key.to_vec()).or_default() += 1;
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.touch(key);
        self.data.insert(key.to_vec(), value);
    }

    fn bulk(&self, key: &[u8], out: &mut Vec<u8>) {
        match self.data.get(key) {
            Some(value) => encode::bulk(out, value),
            None => encode::null_bulk(out),
        }
    }

    fn pop(&mut self, key: &[u8], out: &mut Vec<u8>) {
        let list = self.lists.get_mut(key).unwrap();
        encode::bulk(out, &list.pop_front().unwrap());
        if list.is_empty() {
            self.lists.remove(key);
        }
    }

    fn run(&mut self, words: &[Vec<u8>], out: &mut Vec<u8>) {
        match words[0].as_slice() {
            // FETCH is a name that only the node knows.
            b"get" | b"fetch" => self.bulk(&words[1], out),
            b"set" => {
                self.put(&words[1], words[2].clone());
                out.extend_from_slice(b"+OK\r\n");
            }
            b"incr" => {
                let old = self
                    .data
                    .get(&words[1])
                    .map_or(Some(0), |v| std::str::from_utf8(v).ok()?.parse().ok());
                match old {
                    None => {
                        out.extend_from_slice(b"-ERR value is not an integer or out of range\r\n");
                    }
                    Some(old) => {
                        let new: i64 = old + 1;
                        self.put(&words[1], new.to_string().into_bytes());
                        encode::integer(out, new);
                    }
                }
            }
            b"mget" => {
                encode::array(out, words.len() - 1);
                words[1..].iter().for_each(|key| self.bulk(key, out));
            }
            b"mset" => {
                for pair in words[1..].chunks(2) {
                    self.put(&pair[0], pair[1].clone());
                }
                out.extend_from_slice(b"+OK\r\n");
            }
            b"del" | b"unlink" => {
                let mut count = 0;
                for key in &words[1..] {
                    count += i64::from(self.data.remove(key).is_some());
                    self.touch(key);
                }
                encode::integer(out, count);
            }
            b"exists" | b"touch" => {
                let count = words[1..]
                    .iter()
                    .filter(|key| self.data.contains_key(*key))
                    .count();
                encode::integer(out, count as i64);
            }
            b"rpush" => {
                let list = self.lists.entry(words[1].clone()).or_default();
                list.extend(words[2..].iter().cloned());
                encode::integer(out, list.len() as i64);
            }
            b"llen" => encode::integer(out, self.lists.get(&words[1]).map_or(0, VecDeque::len) as i64),
            // As in a transaction: it does not wait there.
            b"blpop" => match self.lists.contains_key(&words[1]) {
                true => {
                    encode::array(out, 2);
                    encode::bulk(out, &words[1]);
                    self.pop(&words[1].clone(), out);
                }
                false => out.extend_from_slice(b"*-1\r\n"),
            },
            b"keys" => {
                encode::array(out, self.data.len());
                self.data.keys().for_each(|key| encode::bulk(out, key));
            }
            b"scan" => self.scan(words, out),
            b"dbsize" => encode::integer(out, self.data.len() as i64),
            b"ping" => out.extend_from_slice(b"+PONG\r\n"),
            b"echo" => encode::bulk(out, &words[1]),
            b"randomkey" => match self.data.keys().next() {
                Some(key) => encode::bulk(out, key),
                None => encode::null_bulk(out),
            },
            b"flushall" => {
                self.data.clear();
                out.extend_from_slice(b"+OK\r\n");
            }
            b"readonly" | b"select" => out.extend_from_slice(b"+OK\r\n"),
            _ => out.extend_from_slice(b"-ERR unknown command\r\n"),
        }
    }

    fn scan(&self, words: &[Vec<u8>], out: &mut Vec<u8>) {
        let number = |word: &[u8]| std::str::from_utf8(word).unwrap().parse::<usize>().unwrap();
        let from = number(&words[1]) >> self.cursor_shift;
        let count = words.get(3).map_or(10, |word| number(word));
        let mut keys: Vec<&Vec<u8>> = self.data.keys().collect();
        if self.reversed {
            keys.reverse();
        }
        let page: Vec<&Vec<u8>> = keys.into_iter().skip(from).take(count).collect();
        let next = if from + page.len() < self.data.len() {
            from + page.len()
        } else {
            0
        };
        encode::array(out, 2);
        encode::bulk(out, (next << self.cursor_shift).to_string().as_bytes());
        encode::array(out, page.len());
        page.into_iter().for_each(|key| encode::bulk(out, key));
    }
}
