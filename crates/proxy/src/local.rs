//! Commands that the proxy answers itself: from the connection's state, its configuration or the clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use redplane_command::{Command, Local, RequestPolicy, error};
use redplane_merge::Own;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::muting::ReplyMode;
use redplane_redis_core::pool::Greeting;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served};
use redplane_resp::encode;

use crate::engine::Engine;
use crate::session::admit;

fn quit(core: &mut Core, key: usize) {
    core.answer(key, b"+OK\r\n");
    core.clients[key].inlet.rest(Rest::End);
}

/// A cluster of one node, at the address the client came to: cluster clients work through the proxy, not around it.
fn one_node_cluster(core: &mut Core, key: usize, local: Local) {
    let client = &core.clients[key];
    let at = client
        .session
        .socket
        .local
        .unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    let (ip, port) = (at.ip().to_string(), at.port());
    let id = node_id(&core.filters[client.filter].listener);
    let resp3 = core.is_resp3(key);
    core.answer_with(key, |out| match local {
        Local::ClusterSlots => {
            out.extend_from_slice(b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n");
            encode::bulk(out, ip.as_bytes());
            encode::integer(out, i64::from(port));
            encode::bulk(out, id.as_bytes());
            encode::map(out, 0, resp3);
        }
        Local::ClusterShards => shards(out, resp3, &id, (&ip, port)),
        Local::ClusterNodes => {
            let line = format!("{id} {ip}:{port}@{port} myself,master - 0 0 1 connected 0-16383\n");
            encode::text(out, line.as_bytes(), resp3);
        }
        Local::ClusterInfo => encode::text(out, CLUSTER_INFO.as_bytes(), resp3),
        _ => encode::bulk(out, id.as_bytes()),
    });
}

/// Whether a command is one that the proxy answers without looking at faults or transactions.
pub(crate) fn is_local(served: Served) -> bool {
    matches!(served, Served::Known(command) if matches!(command.request, RequestPolicy::Local(_)))
}

impl Engine {
    /// One local command.
    pub(crate) fn local(
        &mut self,
        key: usize,
        local: Local,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        match local {
            Local::Ping if self.pubsub.pong_in_pubsub(&mut self.core, key, request) => {}
            Local::Ping => self.core.answer_with(key, |out| match request.len() {
                1 => out.extend_from_slice(b"+PONG\r\n"),
                2 => encode::bulk(out, request.arg(1)),
                _ => error::wrong_arity(out, command),
            }),
            Local::Echo => self
                .core
                .answer_with(key, |out| encode::bulk(out, request.arg(1))),
            Local::Time => self.core.answer_with(key, time),
            Local::Auth => self.auth(key, request),
            Local::Hello => self.hello(key, request),
            Local::Quit => quit(&mut self.core, key),
            Local::Reset => self.reset(key),
            Local::Select => self.core.select(key, command, request),
            Local::Readonly | Local::Readwrite | Local::Asking => self.core.answer(key, b"+OK\r\n"),
            Local::Role => self.core.answer(key, b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            Local::AclWhoAmI => {
                let user = self.core.clients[key].session.user().to_vec();
                self.core.answer_with(key, |out| encode::bulk(out, &user));
            }
            Local::Command
            | Local::CommandCount
            | Local::CommandDocs
            | Local::CommandGetKeys
            | Local::CommandGetKeysAndFlags
            | Local::CommandInfo
            | Local::CommandList => self.introspect(key, local, command, request),
            Local::ClusterKeySlot => {
                let slot = redplane_command::slot(request.arg(2));
                self.core
                    .answer_with(key, |out| encode::integer(out, i64::from(slot)));
            }
            Local::ClusterSlots
            | Local::ClusterShards
            | Local::ClusterNodes
            | Local::ClusterInfo
            | Local::ClusterMyId
            | Local::ClusterMyShardId => one_node_cluster(&mut self.core, key, local),
            Local::ClusterReplicas | Local::ClusterLinks => self.core.answer(key, b"*0\r\n"),
            _ => self.client_command(key, local, command, request),
        }
    }

    fn reset(&mut self, key: usize) {
        self.transactions.drop_transaction(&mut self.core, key);
        self.pubsub.unsubscribe_all(&mut self.core, key);
        self.tracking.untrack(&mut self.core, key);
        let client = &mut self.core.clients[key];
        client.session.name = Box::default();
        client.session.user = Box::default();
        (client.session.no_evict, client.session.no_touch) = (false, false);
        client.replies.set_mode(ReplyMode::On);
        client.session.logged_in = self.core.filters[client.filter].proxy.auth.is_none();
        self.core.greet_with(key, Greeting::default());
        admit(&mut self.core, key);
        self.core.answer(key, b"+RESET\r\n");
    }

    /// What INFO says to a client of the proxy itself.
    pub(crate) fn own_figures(&self, key: usize) -> Own {
        let peers = self.peer.peers();
        let local = self.core.clients[key].session.socket.local;
        Own {
            clients: peers.clients() as u64,
            blocked: peers.blocked() as u64,
            tracking: peers.tracking() as u64,
            max_clients: peers.max_clients(),
            port: local.map_or(0, |local| u64::from(local.port())),
            uptime: self.core.now / 1_000_000,
        }
    }
}

const CLUSTER_INFO: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\ncluster_current_epoch:1\r\n\
cluster_my_epoch:1\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
total_cluster_links_buffer_limit_exceeded:0\r\n";

fn shards(out: &mut Vec<u8>, resp3: bool, id: &str, (ip, port): (&str, u16)) {
    encode::array(out, 1);
    encode::map(out, 2, resp3);
    out.extend_from_slice(b"$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n");
    encode::map(out, 7, resp3);
    let text = |out: &mut Vec<u8>, name: &str, value: &str| {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    };
    text(out, "id", id);
    encode::bulk(out, b"port");
    encode::integer(out, i64::from(port));
    text(out, "ip", ip);
    text(out, "endpoint", ip);
    text(out, "role", "master");
    encode::bulk(out, b"replication-offset");
    encode::integer(out, 0);
    text(out, "health", "online");
}

/// 40 hex digits that all workers and restarts agree on: made of the listener's name.
fn node_id(listener: &str) -> String {
    (0..5_u8)
        .map(|part| {
            let seeded = [listener.as_bytes(), &[part]].concat();
            format!("{:08x}", redplane_command::murmur2(&seeded) as u32)
        })
        .collect()
}

fn time(out: &mut Vec<u8>) {
    // The wall clock is asked for by the client itself here.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    encode::array(out, 2);
    encode::bulk(out, now.as_secs().to_string().as_bytes());
    encode::bulk(out, now.subsec_micros().to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_are_stable_and_forty_digits() {
        let id = node_id("0.0.0.0_6379");
        assert_eq!(id.len(), 40);
        assert_eq!(id, node_id("0.0.0.0_6379"));
        assert_ne!(id, node_id("0.0.0.0_6380"));
    }
}
