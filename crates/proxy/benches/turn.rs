//! The engine without sockets: what a request costs in a turn of fifty clients, how its reply finds its place, and how
//! its host is found.
//!
//! Run under an instruction counter (`valgrind --tool=callgrind`, with `--profile-time`) it says the same on every
//! machine; no socket and no clock is in it.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

#[path = "../tests/simulation/ground.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod ground;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ground::{Ground, at, even, opened, proxy};
use redplane_config::redis_proxy::ReadPolicy;
use redplane_proxy::{Action, ClientId, ConnId, Context, Engine, Peers};
use redplane_resp::encode;
use redplane_upstream::Want;

const CLIENTS: usize = 50;

struct Load {
    engine: Engine,
    clients: Vec<ClientId>,
    /// What each client sends in a turn.
    requests: Vec<Vec<u8>>,
    /// Bytes that one request has on its way to a server.
    request_len: usize,
    reply: Vec<u8>,
    replies: Vec<u8>,
    now: u64,
}

impl Load {
    /// Clients that each send `pipeline` commands of one key per turn.
    fn new(ground: &Ground, command: &[&[u8]], pipeline: usize, reply: &[u8]) -> Self {
        let mut engine = Engine::new(Context {
            store: ground.store.clone(),
            registry: ground.registry.clone(),
            zone: "".into(),
            seed: 1,
            peers: Peers::new(1, 1000),
            worker: 0,
            scripts: std::sync::Arc::default(),
        });
        engine.begin_turn(1);
        let clients: Vec<ClientId> = (0..CLIENTS)
            .map(|_| engine.client_opened(opened(&ground.store)))
            .collect();
        let mut request_len = 0;
        let requests = (0..CLIENTS).map(|client| {
            let mut bytes = Vec::new();
            for number in 0..pipeline {
                let key = format!("key:{:012}", client * 1009 + number * 17);
                let words: Vec<&[u8]> = [command[0], key.as_bytes()]
                    .into_iter()
                    .chain(command[1..].iter().copied())
                    .collect();
                let before = bytes.len();
                encode::request(&mut bytes, &words);
                request_len = bytes.len() - before;
            }
            bytes
        });
        Self {
            requests: requests.collect(),
            engine,
            clients,
            request_len,
            reply: reply.to_vec(),
            replies: Vec::new(),
            now: 1,
        }
    }

    /// All clients send, and all servers answer.
    fn round(&mut self) {
        self.now += 100;
        self.engine.begin_turn(self.now);
        for (client, bytes) in self.clients.iter().zip(&self.requests) {
            self.engine.client_received(*client, bytes, bytes.len());
        }
        for action in self.engine.actions() {
            if let Action::Connect(id, ..) = action {
                self.engine.connected(id);
            }
        }
        let sent = self.engine.take_dirty_connections();
        let counts: Vec<usize> = sent.iter().map(|id| self.write_upstream(ConnId(*id))).collect();
        self.now += 100;
        self.engine.begin_turn(self.now);
        for (id, count) in sent.iter().zip(counts) {
            self.replies.clear();
            (0..count).for_each(|_| self.replies.extend_from_slice(&self.reply));
            for chunk in self.replies.chunks(64 * 1024) {
                self.engine.upstream_received(ConnId(*id), chunk, chunk.len());
            }
        }
        self.engine.recycle_connections(sent);
        let answered = self.engine.take_dirty_clients();
        for id in &answered {
            let id = ClientId(*id);
            let count = self.engine.client_output(id).map_or(0, |out| out.unwritten());
            self.engine.client_wrote(id, count);
        }
        self.engine.recycle_clients(answered);
    }

    fn write_upstream(&mut self, id: ConnId) -> usize {
        let count = self.engine.upstream_output(id).map_or(0, |out| out.unwritten());
        self.engine.upstream_wrote(id, count);
        count / self.request_len
    }
}

fn turns(c: &mut Criterion) {
    let (ground, _cluster) = Ground::three_shards();
    let value = [b'x'; 64];
    let mut bulk = Vec::new();
    encode::bulk(&mut bulk, &value);
    let mut group = c.benchmark_group("turn of 50 clients");
    for pipeline in [1, 4, 16, 64] {
        type Case<'a> = (&'a str, &'a [&'a [u8]], &'a [u8]);
        let cases: [Case<'_>; 2] = [("GET", &[b"GET"], &bulk), ("SET", &[b"SET", &value], b"+OK\r\n")];
        for (name, command, reply) in cases {
            // Three carried pieces would be a case of their own: replies of a turn fit one read.
            let mut load = Load::new(&ground, command, pipeline, reply);
            load.round();
            group.throughput(Throughput::Elements((CLIENTS * pipeline) as u64));
            group.bench_function(format!("{name}, pipeline {pipeline}"), |b| {
                b.iter(|| load.round());
            });
        }
    }
    group.finish();
}

fn hosts(c: &mut Criterion) {
    let ground = Ground::new();
    let rows: Vec<_> = even(3)
        .into_iter()
        .zip([11, 12, 13])
        .map(|((first, last, primary, _), replica)| (first, last, primary, vec![at(replica)]))
        .collect();
    let (_cluster, topologies) = ground.slots("slots", &[rows]);
    let topology = &topologies[0];
    let hashed = ground.hashed("hashed", &[at(1), at(2), at(3)]);
    let ring = hashed.topology();
    ground.publish(&[], &proxy("slots"));
    c.bench_function("host of a slot, primary", |b| {
        b.iter(|| topology.by_slot(black_box(12_345), Want::Primary));
    });
    c.bench_function("host of a slot, replica", |b| {
        b.iter(|| topology.by_slot(black_box(12_345), Want::Read(ReadPolicy::Replica, "", 7)));
    });
    c.bench_function("host of a hash, ring", |b| {
        b.iter(|| ring.by_hash(black_box(0x9e37_79b9_7f4a_7c15), 7));
    });
}

criterion_group!(benches, turns, hosts);
criterion_main!(benches);
