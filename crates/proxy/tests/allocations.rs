//! What a request and an idle client may cost in memory: nothing, and one kibibyte.
//!
//! The engine is driven by hand here: whatever is allocated is the engine's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod simulation {
    #[allow(dead_code, reason = "shared with the simulation")]
    pub(crate) mod ground;
}

use std::sync::{Arc, Mutex, PoisonError};

use redplane_proxy::{Action, ClientId, ConnId, Context, Engine, Peers};
use redplane_world::Store;
use simulation::ground::{Ground, opened};

/// A network without memory of its own: servers answer what they are asked within the turn.
struct Wire {
    engine: Engine,
    store: Arc<Store>,
    now: u64,
    replies: Vec<u8>,
    written: usize,
}

impl Wire {
    fn new(ground: &Ground) -> Self {
        let engine = Engine::new(Context {
            store: ground.store.clone(),
            registry: ground.registry.clone(),
            zone: "".into(),
            seed: 1,
            peers: Peers::new(1, 1000),
            worker: 0,
            scripts: Arc::default(),
        });
        Self {
            engine,
            store: ground.store.clone(),
            now: 1_000_000,
            replies: Vec::with_capacity(64 * 1024),
            written: 0,
        }
    }

    /// Bytes from some clients, to the servers, and back.
    fn turn(&mut self, clients: &[ClientId], bytes: &[u8]) {
        self.begin();
        for client in clients {
            self.engine.client_received(*client, bytes, bytes.len());
        }
        self.act();
        let connections = self.engine.take_dirty_connections();
        for &id in &connections {
            self.serve(ConnId(id));
        }
        self.engine.recycle_connections(connections);
        self.begin();
        let clients = self.engine.take_dirty_clients();
        for &id in &clients {
            let id = ClientId(id);
            while let Some(output) = self.engine.client_output(id)
                && output.unwritten() > 0
            {
                let count = output.next_slice().len();
                self.written += count;
                self.engine.client_wrote(id, count);
            }
        }
        self.engine.recycle_clients(clients);
        self.act();
    }

    fn begin(&mut self) {
        self.now += 100;
        self.engine.begin_turn(self.now);
    }

    fn act(&mut self) {
        for action in self.engine.actions() {
            if let Action::Connect(id, ..) = action {
                self.engine.connected(id);
            }
        }
    }

    /// Writes what waits for a server and hands in a reply to each request.
    fn serve(&mut self, id: ConnId) {
        self.replies.clear();
        while let Some(output) = self.engine.upstream_output(id)
            && output.unwritten() > 0
        {
            let slice = output.next_slice();
            let count = slice.len();
            for start in slice.split(|byte| *byte == b'*') {
                match start.get(7..10) {
                    Some(b"SET") => self.replies.extend_from_slice(b"+OK\r\n"),
                    Some(b"GET") => self.replies.extend_from_slice(b"$5\r\nvalue\r\n"),
                    _ => {}
                }
            }
            self.engine.upstream_wrote(id, count);
        }
        let length = self.replies.len();
        self.engine.upstream_received(id, &self.replies, length);
    }

    fn open(&mut self, count: usize) -> Vec<ClientId> {
        self.begin();
        (0..count)
            .map(|_| self.engine.client_opened(opened(&self.store)))
            .collect()
    }
}

/// So many SETs and GETs in turn, over all shards.
fn pipeline(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..depth {
        let key = format!("key:{at}");
        let words: &[&[u8]] = match at % 2 {
            0 => &[b"GET", key.as_bytes()],
            _ => &[b"SET", key.as_bytes(), b"value"],
        };
        redplane_resp::encode::request(&mut bytes, words);
    }
    bytes
}

/// Topologies are counted for the whole process: one that another test publishes is a change to look into.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn requests_allocate_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (ground, _cluster) = Ground::three_shards();
    for depth in [1, 16] {
        let mut wire = Wire::new(&ground);
        let clients = wire.open(10);
        let bytes = pipeline(depth);
        for _ in 0..50 {
            wire.turn(&clients, &bytes);
        }
        let before = wire.written;
        let cost = allocation_counter::measure(|| {
            for _ in 0..200 {
                wire.turn(&clients, &bytes);
            }
        });
        let replies = (wire.written - before) / (200 * 10);
        assert_eq!(
            replies,
            depth.div_ceil(2) * 11 + depth / 2 * 5,
            "bytes of replies"
        );
        assert_eq!(cost.count_total, 0, "pipeline {depth}: {cost:?}");
    }
}

#[test]
fn an_idle_client_owns_little() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (ground, _cluster) = Ground::three_shards();
    for depth in [1, 16, 300] {
        let mut wire = Wire::new(&ground);
        let bytes = pipeline(depth);
        let first = wire.open(50);
        wire.turn(&first, &bytes);
        let mut clients = Vec::with_capacity(2000);
        let cost = allocation_counter::measure(|| {
            clients = wire.open(2000);
            for some in clients.chunks(50) {
                wire.turn(some, &bytes);
            }
        });
        let each = cost.bytes_current / 2000;
        assert!(each <= 1024, "pipeline {depth}: {each} bytes");
        // And nothing is left of them.
        let cost = allocation_counter::measure(|| {
            for client in &clients {
                wire.engine.client_closed(*client);
            }
            wire.act();
        });
        let rest = each + cost.bytes_current / 2000;
        assert!(rest <= 800, "pipeline {depth}: {rest} bytes stay in the table");
    }
}
