//! The driver of the tests: the engine's side of the network, turn by turn, on a clock that tests move.
//!
//! It does what the real driver does in the same order: in a turn ready sockets are read, then connections are
//! written, then clients; sockets that the engine wants closed are closed when its actions are taken, not before.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use redplane_config::cluster::DnsFamily;
use redplane_proxy::{
    Action, ClientId, ConnId, Context, Engine, Gone, LoginQuestion, Opened, Peers, Verdict,
};
use redplane_world::Store;

use super::ground::{Ground, opened};
use super::node::{Fabric, Reach, Session};

/// A client's end of its connection.
pub(crate) struct Peer {
    id: Option<ClientId>,
    outbox: VecDeque<u8>,
    finished: bool,
    /// What the proxy sent.
    pub(crate) inbox: Vec<u8>,
    /// Bytes that it will still take in.
    pub(crate) window: usize,
    /// The proxy closed the connection.
    pub(crate) closed: bool,
    blocked: bool,
}

struct Upstream {
    to: SocketAddr,
    connected: bool,
    to_node: VecDeque<u8>,
    session: Session,
    replies: VecDeque<(u64, Vec<u8>)>,
    to_proxy: VecDeque<u8>,
    broken: bool,
    blocked: bool,
}

/// Rounds of writing in a turn.
const ROUNDS: usize = 8;
/// What the buffers of a socket hold.
const SOCKET: usize = 256 * 1024;

pub(crate) struct World {
    pub(crate) engine: Engine,
    store: Arc<Store>,
    pub(crate) fabric: Fabric,
    /// Microseconds.
    pub(crate) now: u64,
    pub(crate) random: fastrand::Rng,
    /// Cut streams anywhere; otherwise everything moves whole.
    pub(crate) chops: bool,
    /// What names resolve to.
    pub(crate) names: HashMap<String, IpAddr>,
    /// Names that never resolve stay here.
    pub(crate) unresolved: Vec<(u64, String)>,
    /// The families that names were to be resolved to.
    pub(crate) families: Vec<Option<DnsFamily>>,
    /// Logins that a service was asked about and has not decided on.
    pub(crate) questions: Vec<LoginQuestion>,
    pub(crate) peers: Vec<Peer>,
    by_id: Vec<Option<usize>>,
    upstreams: Vec<Option<Upstream>>,
    /// Connections opened so far, and where to.
    pub(crate) dialled: Vec<SocketAddr>,
    shared: Vec<u8>,
    timer: Option<u64>,
    timer_is_near: bool,
}

enum Event {
    Client(usize),
    ClientRoom(usize),
    Upstream(usize),
    UpstreamRoom(usize),
    Opened(usize),
}

impl World {
    pub(crate) fn new(ground: &Ground, fabric: Fabric, seed: u64) -> Self {
        Self::among(ground, fabric, seed, (&Peers::new(1, 1000), 0))
    }

    /// The engine of one worker of several.
    pub(crate) fn among(
        ground: &Ground,
        fabric: Fabric,
        seed: u64,
        (peers, worker): (&Arc<Peers>, usize),
    ) -> Self {
        let engine = Engine::new(Context {
            store: ground.store.clone(),
            registry: ground.registry.clone(),
            zone: "".into(),
            seed,
            peers: Arc::clone(peers),
            worker,
            scripts: Default::default(),
        });
        Self {
            engine,
            store: ground.store.clone(),
            fabric,
            now: 1_000_000,
            random: fastrand::Rng::with_seed(seed),
            chops: false,
            names: HashMap::new(),
            unresolved: Vec::new(),
            families: Vec::new(),
            questions: Vec::new(),
            peers: Vec::new(),
            by_id: Vec::new(),
            upstreams: Vec::new(),
            dialled: Vec::new(),
            shared: vec![0; 64 * 1024],
            timer: None,
            timer_is_near: false,
        }
    }

    /// A new client.
    pub(crate) fn connect(&mut self) -> usize {
        let opened = opened(&self.store);
        self.connect_as(opened)
    }

    /// A client that the listener accepted like this.
    pub(crate) fn connect_as(&mut self, opened: Opened) -> usize {
        self.engine.begin_turn(self.now);
        let id = self.engine.client_opened(opened);
        let at = id.0 as usize;
        if self.by_id.len() <= at {
            self.by_id.resize(at + 1, None);
        }
        assert!(
            self.by_id[at].is_none(),
            "a client's place is given away while its socket is open"
        );
        self.by_id[at] = Some(self.peers.len());
        self.peers.push(Peer {
            id: Some(id),
            outbox: VecDeque::new(),
            finished: false,
            inbox: Vec::new(),
            window: usize::MAX,
            closed: false,
            blocked: false,
        });
        self.peers.len() - 1
    }

    /// Puts bytes on a client's wire.
    pub(crate) fn send(&mut self, peer: usize, bytes: &[u8]) {
        self.peers[peer].outbox.extend(bytes);
    }

    /// Puts a command of words on a client's wire.
    pub(crate) fn ask(&mut self, peer: usize, words: &str) {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let mut frame = Vec::new();
        redplane_resp::encode::request(&mut frame, &words);
        self.send(peer, &frame);
    }

    /// The client sends nothing more.
    pub(crate) fn finish(&mut self, peer: usize) {
        self.peers[peer].finished = true;
    }

    /// The client's connection breaks.
    pub(crate) fn break_off(&mut self, peer: usize) {
        if let Some(id) = self.peers[peer].id.take() {
            self.engine.client_closed(id);
            self.by_id[id.0 as usize] = None;
            self.peers[peer].closed = true;
        }
    }

    /// All that came since the last call, as text.
    pub(crate) fn got(&mut self, peer: usize) -> String {
        let bytes = std::mem::take(&mut self.peers[peer].inbox);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a command and waits for silence.
    pub(crate) fn call(&mut self, peer: usize, words: &str) -> String {
        self.ask(peer, words);
        self.calm();
        self.got(peer)
    }

    /// The service decides on the question that was asked first.
    pub(crate) fn decide(&mut self, verdict: &Verdict) {
        let question = self.questions.remove(0);
        self.engine.begin_turn(self.now);
        self.engine.authenticated(question.ticket, verdict);
        self.calm();
    }

    /// Bytes that a client has not been relieved of.
    pub(crate) fn unread(&self, peer: usize) -> usize {
        self.peers[peer].outbox.len()
    }

    /// Connections that are open or opening.
    pub(crate) fn connections(&self) -> usize {
        self.upstreams.iter().flatten().count()
    }

    pub(crate) fn is_connected_to(&self, node: SocketAddr) -> bool {
        self.upstreams
            .iter()
            .flatten()
            .any(|upstream| upstream.to == node)
    }

    /// Breaks every connection to a node, whatever is on it.
    pub(crate) fn cut(&mut self, node: SocketAddr) {
        for upstream in self.upstreams.iter_mut().flatten().filter(|u| u.to == node) {
            upstream.broken = true;
            upstream.to_node.clear();
            upstream.replies.clear();
        }
    }

    /// A node says something that nobody asked for, on every connection to it.
    pub(crate) fn blurt(&mut self, node: SocketAddr, bytes: &[u8]) {
        for upstream in self.upstreams.iter_mut().flatten().filter(|u| u.to == node) {
            upstream.to_proxy.extend(bytes);
        }
    }

    /// Breaks the first connection to a node that has something on its wire.
    pub(crate) fn cut_first(&mut self, node: SocketAddr) {
        let mut busy = self
            .upstreams
            .iter_mut()
            .flatten()
            .filter(|u| u.to == node && !u.to_node.is_empty());
        let first = busy.next().expect("a busy connection");
        first.broken = true;
        first.to_node.clear();
    }

    /// Steps until nothing moves.
    pub(crate) fn calm(&mut self) {
        for _ in 0..200_000 {
            // What has just been written moves on in the next step.
            if !self.step(10) && !self.step(10) {
                return;
            }
        }
        panic!("no end");
    }

    /// Lets time pass, in steps of half a millisecond.
    pub(crate) fn pass(&mut self, micros: u64) {
        let end = self.now + micros;
        while self.now < end {
            self.step(500);
            while self.step(0) {}
        }
    }

    /// Lets a long time pass in which nothing moves.
    pub(crate) fn sleep(&mut self, micros: u64) {
        self.now += micros;
        self.pass(100_000);
    }

    /// One turn; says whether anything moved.
    pub(crate) fn step(&mut self, micros: u64) -> bool {
        self.now += micros;
        self.fabric.now = self.now;
        let mut moved = self.network();
        self.engine.begin_turn(self.now);
        if self.timer.is_some_and(|due| due <= self.now) {
            self.timer = None;
            self.engine.tick();
        }
        let mut events = self.events();
        self.random.shuffle(&mut events);
        for event in events {
            moved |= self.handle(&event);
        }
        moved |= self.write_out();
        let waits = self.engine.is_waiting();
        if self.timer.is_none() || waits && !self.timer_is_near {
            let wait = self.engine.next_tick();
            self.timer = wait.map(|wait| self.now + wait.as_micros() as u64);
            self.timer_is_near = waits;
        }
        moved
    }

    fn some(&mut self, most: usize) -> usize {
        if most == 0 || !self.chops {
            return most;
        }
        match self.random.u8(..4) {
            0 => 1,
            1 => most.min(self.random.usize(1..=16)),
            2 => self.random.usize(1..=most),
            _ => most,
        }
    }

    /// Bytes between the wire and the nodes.
    fn network(&mut self) -> bool {
        let mut moved = self.broadcast();
        for at in 0..self.upstreams.len() {
            let Some(mut upstream) = self.upstreams[at].take() else {
                continue;
            };
            let node = self.fabric.node(upstream.to);
            let (reach, stalled, delay) = (node.reach, node.stalled, node.delay);
            if reach == Reach::Refuses && upstream.connected {
                upstream.broken = true;
            }
            let speaks = !upstream.to_node.is_empty() || upstream.session.is_blocked();
            if reach == Reach::Up && !stalled && !upstream.broken && speaks {
                let count = self.some(upstream.to_node.len());
                let bytes: Vec<u8> = upstream.to_node.drain(..count).collect();
                let reply = self.fabric.take(upstream.to, &mut upstream.session, &bytes);
                moved |= count > 0 || !reply.is_empty();
                if !reply.is_empty() {
                    upstream.replies.push_back((self.now + delay, reply));
                }
            }
            while reach == Reach::Up
                && let Some((due, _)) = upstream.replies.front()
                && *due <= self.now
            {
                let (_, bytes) = upstream.replies.pop_front().unwrap();
                upstream.to_proxy.extend(bytes);
                moved = true;
            }
            self.upstreams[at] = Some(upstream);
        }
        moved
    }

    /// What was published goes to the sessions that it concerns.
    fn broadcast(&mut self) -> bool {
        let posts = std::mem::take(&mut self.fabric.posts);
        self.fabric.sessions.clear();
        for upstream in self.upstreams.iter_mut().flatten() {
            let node = self.fabric.nodes.entry(upstream.to).or_default();
            for post in posts
                .iter()
                .filter(|_| node.reach == Reach::Up && !upstream.broken)
            {
                let bus = !self.fabric.owners.is_empty();
                let bytes = upstream.session.subscribed.receive(post, upstream.to, bus);
                if !bytes.is_empty() {
                    upstream.replies.push_back((self.now + node.delay, bytes));
                }
            }
            let subscribed = &upstream.session.subscribed;
            if !subscribed.is_empty() {
                let session = (upstream.to, subscribed.clone());
                self.fabric.sessions.push(session);
            }
        }
        !posts.is_empty()
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (at, peer) in self
            .peers
            .iter()
            .enumerate()
            .filter(|(_, peer)| peer.id.is_some())
        {
            if !peer.outbox.is_empty() || peer.finished {
                events.push(Event::Client(at));
            }
            if peer.blocked && peer.window > 0 {
                events.push(Event::ClientRoom(at));
            }
        }
        for (at, upstream) in self.upstreams.iter().enumerate() {
            let Some(upstream) = upstream else { continue };
            if !upstream.connected {
                events.push(Event::Opened(at));
            } else if !upstream.to_proxy.is_empty() || upstream.broken {
                events.push(Event::Upstream(at));
            }
            if upstream.blocked && upstream.to_node.len() < SOCKET {
                events.push(Event::UpstreamRoom(at));
            }
        }
        events
    }

    fn handle(&mut self, event: &Event) -> bool {
        match *event {
            Event::Client(at) => {
                if let Some(id) = self.peers[at].id.filter(|_| self.peers[at].finished) {
                    self.engine.client_hung_up(id);
                }
                self.read_client(at)
            }
            Event::ClientRoom(at) => {
                self.peers[at].blocked = false;
                self.write_client(at)
            }
            Event::Upstream(at) => self.read_upstream(at),
            Event::UpstreamRoom(at) => {
                if let Some(upstream) = &mut self.upstreams[at] {
                    upstream.blocked = false;
                }
                self.write_upstream(at)
            }
            Event::Opened(at) => self.opened(at),
        }
    }

    fn opened(&mut self, at: usize) -> bool {
        let Some(upstream) = &mut self.upstreams[at] else {
            return false;
        };
        let id = ConnId(at as u32);
        match self.fabric.node(upstream.to).reach {
            Reach::Blackhole => false,
            Reach::Refuses => {
                self.upstreams[at] = None;
                self.engine.upstream_gone(id, Gone::Refused);
                true
            }
            Reach::Up => {
                upstream.connected = true;
                self.engine.connected(id);
                true
            }
        }
    }

    fn read_client(&mut self, at: usize) -> bool {
        let mut moved = false;
        for _ in 0..16 {
            let Some(id) = self.peers[at].id else {
                return moved;
            };
            if !self.engine.client_readable(id) {
                return moved;
            }
            let waiting = self.peers[at].outbox.len();
            if waiting == 0 {
                if self.peers[at].finished {
                    self.peers[at].finished = false;
                    self.engine.client_finished(id);
                    return true;
                }
                return moved;
            }
            let most = self.some(waiting);
            let room = self.engine.client_room(id).unwrap_or(&mut self.shared);
            let count = most.min(room.len());
            self.peers[at].outbox.read_exact(&mut room[..count]).unwrap();
            self.engine.client_received(id, &self.shared, count);
            moved = true;
            if self.chops {
                return true;
            }
        }
        moved
    }

    fn read_upstream(&mut self, at: usize) -> bool {
        let id = ConnId(at as u32);
        let mut moved = false;
        for _ in 0..16 {
            let waiting = match &self.upstreams[at] {
                Some(upstream) => upstream.to_proxy.len(),
                None => return moved,
            };
            if waiting == 0 {
                if self.upstreams[at].as_ref().is_some_and(|u| u.broken) {
                    self.upstreams[at] = None;
                    self.engine.upstream_gone(id, Gone::Remote);
                    return true;
                }
                return moved;
            }
            let most = self.some(waiting);
            let Some(upstream) = &mut self.upstreams[at] else {
                return moved;
            };
            let room = self.engine.upstream_room(id).unwrap_or(&mut self.shared);
            let count = most.min(room.len());
            upstream.to_proxy.read_exact(&mut room[..count]).unwrap();
            self.engine.upstream_received(id, &self.shared, count);
            moved = true;
            if self.chops {
                return true;
            }
        }
        moved
    }

    /// As the real driver: actions, then connections, then clients, for some rounds.
    fn write_out(&mut self) -> bool {
        let mut moved = false;
        for _ in 0..ROUNDS {
            moved |= self.act();
            let upstreams = self.engine.take_dirty_connections();
            let clients = self.engine.take_dirty_clients();
            let done = upstreams.is_empty() && clients.is_empty();
            for &id in &upstreams {
                moved |= self.write_upstream(id as usize);
            }
            for &id in &clients {
                if let Some(Some(at)) = self.by_id.get(id as usize) {
                    moved |= self.write_client(*at);
                }
            }
            self.engine.recycle_connections(upstreams);
            self.engine.recycle_clients(clients);
            if done {
                return moved;
            }
        }
        self.act();
        true
    }

    fn write_upstream(&mut self, at: usize) -> bool {
        let most = if self.chops {
            self.random.usize(1..200)
        } else {
            usize::MAX
        };
        let Some(Some(upstream)) = self.upstreams.get_mut(at) else {
            return false;
        };
        let mut moved = false;
        while let Some(output) = self.engine.upstream_output(ConnId(at as u32)) {
            let waiting = output.unwritten();
            if waiting == 0 || upstream.blocked {
                break;
            }
            let slice = output.next_slice();
            let count = slice
                .len()
                .min(most)
                .min(SOCKET.saturating_sub(upstream.to_node.len()));
            if !upstream.broken {
                upstream.to_node.extend(&slice[..count]);
            }
            upstream.blocked = count < slice.len();
            moved |= count > 0;
            let more = self.engine.upstream_wrote(ConnId(at as u32), count);
            if !more || upstream.blocked {
                break;
            }
        }
        moved
    }

    fn write_client(&mut self, at: usize) -> bool {
        let most = if self.chops {
            self.random.usize(1..200)
        } else {
            usize::MAX
        };
        let mut moved = false;
        while let Some(id) = self.peers[at].id
            && let Some(output) = self.engine.client_output(id)
        {
            let peer = &mut self.peers[at];
            let slice = output.next_slice();
            let count = if peer.blocked {
                0
            } else {
                slice.len().min(most).min(peer.window)
            };
            peer.blocked |= count < slice.len();
            peer.inbox.extend_from_slice(&slice[..count]);
            peer.window -= count;
            moved |= count > 0;
            let more = self.engine.client_wrote(id, count);
            if !more || self.peers[at].blocked || count == 0 {
                break;
            }
        }
        moved
    }

    fn act(&mut self) -> bool {
        let mut moved = false;
        loop {
            let actions = self.engine.actions();
            if actions.is_empty() {
                return moved;
            }
            moved = true;
            for action in actions {
                self.action(action);
            }
        }
    }

    fn action(&mut self, action: Action) {
        match action {
            Action::Connect(id, _, host) => {
                let at = id.0 as usize;
                if self.upstreams.len() <= at {
                    self.upstreams.resize_with(at + 1, || None);
                }
                assert!(
                    self.upstreams[at].is_none(),
                    "a connection's place is given away while its socket is open"
                );
                let to = host.address.ip().unwrap();
                self.dialled.push(to);
                self.upstreams[at] = Some(Upstream {
                    to,
                    connected: false,
                    to_node: VecDeque::new(),
                    session: Session::default(),
                    replies: VecDeque::new(),
                    to_proxy: VecDeque::new(),
                    broken: false,
                    blocked: false,
                });
            }
            Action::CloseUpstream(id) => self.upstreams[id.0 as usize] = None,
            Action::CloseClient(id, _) => {
                let at = self.by_id[id.0 as usize].take().expect("an open client");
                self.peers[at].id = None;
                self.peers[at].closed = true;
            }
            // Whoever has bytes on its wire is read from in the next turn.
            Action::Resume(_) => {}
            Action::Authenticate(question) => self.questions.push(*question),
            Action::ForgetLogin(ticket) => self.questions.retain(|question| question.ticket != ticket),
            Action::Resolve {
                ticket, host, family, ..
            } => {
                self.families.push(family);
                match self.names.get(&host) {
                    Some(address) => self.engine.resolved(ticket, Some(*address)),
                    None => self.unresolved.push((ticket, host)),
                }
            }
        }
    }
}
