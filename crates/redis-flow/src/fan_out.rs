//! Commands that every shard or every node is asked, and those that any one will do for.
//!
//! Those for all visit the clusters of all routes ([`crate::servers`]). One that any server will do for is routed with the empty
//! key: it needs a catch-all.

use std::rc::Rc;

use redplane_command::{Command, Effect, Flags, ReplyPolicy, error};
use redplane_config::redis_proxy::ReadPolicy;
use redplane_merge::{Answer, Failure, Parts};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_core::split::Split;
use redplane_resp::encode;

use crate::answer::error_line;
use crate::core::Core;
use crate::request::{Request, Served, access_of, is_mirrored_write};
use crate::scripts::scripts_named;
use crate::send::{Outgoing, Payload, Sending};
use crate::servers::Server;

impl Core {
    /// The route of commands without keys.
    pub fn keyless_route(&self, key: usize) -> Option<Rc<RouteTo>> {
        self.filters[self.clients[key].filter].route(b"").cloned()
    }

    /// The pool that a command without keys goes to.
    pub(crate) fn keyless_pool(&self, key: usize, command: &Command) -> Option<(Rc<RouteTo>, usize)> {
        let route = self.keyless_route(key)?;
        let pool = route.pool_for(command.is_read());
        Some((route, pool))
    }

    fn addresses(&self, servers: &[Server]) -> Vec<String> {
        let address = |server: &Server| self.address_of(server.pool, server.target);
        servers
            .iter()
            .map(|server| address(server).map(ToString::to_string).unwrap_or_default())
            .collect()
    }

    fn mirror_everywhere(&mut self, pool: usize, command: &'static Command, request: &Request<'_>) {
        for target in self.targets(pool, command) {
            self.send_copy_to(pool, target, command.id, Payload::of(request));
        }
    }

    fn connection_apart(&mut self, pool: usize, target: Target) -> Result<u32, Failure> {
        let live = self.pools[pool].live.as_ref().ok_or(Failure::NoHost)?;
        let at = live.pick(target, Access::Primary, ReadPolicy::Master, "", 0)?;
        let host = live.topology.hosts.get(at).cloned().ok_or(Failure::NoHost)?;
        if let Some(&(id, opened)) = live.apart.get(&host.id)
            && let Some(connection) = self.connections.get(id as usize)
            && (connection.life.opened, connection.server.host.id) == (opened, host.id)
        {
            return Ok(id);
        }
        let own = host.id;
        let connection = self.connect(pool, host, false)?;
        if let Some(live) = &mut self.pools[pool].live {
            live.apart.insert(own, (connection, self.now));
        }
        Ok(connection)
    }

    /// INFO.SHARD.
    pub fn by_shard_index(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let Some((_, pool)) = self.keyless_pool(key, command) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let shards = self.pools[pool]
            .live
            .as_ref()
            .map_or(0, |live| live.topology.shard_count());
        let index = std::str::from_utf8(request.arg(1))
            .ok()
            .and_then(|text| text.parse::<usize>().ok());
        match index {
            None => self.answer(key, error::SHARD_NOT_A_NUMBER),
            Some(_) if shards == 0 => self.fail_now(key, command.id, Failure::NoHost),
            Some(index) if index >= shards => self.answer_with(key, |out| {
                error_line(
                    out,
                    &format!("ERR shard_id {index} out of range (0-{})", shards - 1),
                );
            }),
            Some(index) => {
                let mut frame = self.buffers.take_empty();
                encode::array(&mut frame, request.len() - 1);
                encode::bulk(&mut frame, b"INFO");
                (2..request.len()).for_each(|i| encode::bulk(&mut frame, request.arg(i)));
                self.forward_target(
                    key,
                    command,
                    Target::Shard(index),
                    Access::Primary,
                    Payload::Copied(&frame),
                );
                self.buffers.give(frame);
            }
        }
    }

    /// Forwards a command without keys to a target of the catch-all route's cluster.
    pub fn forward_target(
        &mut self,
        key: usize,
        command: &'static Command,
        target: Target,
        access: Access,
        payload: Payload<'_>,
    ) {
        let Some((route, pool)) = self.keyless_pool(key, command) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let connection = match self.connection_for(pool, target, access) {
            Ok(connection) => connection,
            Err(failure) => return self.fail_now(key, command.id, failure),
        };
        let sending = Sending {
            waiter: self.expect_reply(key, Slot::Waiting),
            command: command.id,
            purpose: Purpose::Reply,
        };
        let served = Served::Known(command);
        if !is_mirrored_write(served) {
            return self.send(connection, sending, payload);
        }
        let outgoing = Outgoing {
            sending,
            scripts: scripts_named(command, payload.bytes()),
            payload,
            route: &route,
            name: b"",
            changes: true,
            queued: 0,
        };
        self.send_by_route(connection, &outgoing);
    }

    /// To every shard, or to every node, of all routes' clusters.
    pub fn fan_out(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let servers = self.servers_of_all_routes(key, command);
        if servers.iter().all(|server| matches!(server.target, Target::Any)) {
            return self.fail_now(key, command.id, Failure::NoHost);
        }
        let limit = std::str::from_utf8(request.arg(2)).ok();
        let limit = limit.and_then(|text| text.parse().ok());
        let mut parts = Parts::new(command, servers.len(), Vec::new()).with_limit(limit);
        if command.reply == ReplyPolicy::TextPerNode {
            parts = parts.with_nodes(self.addresses(&servers));
        }
        if command.effect != Effect::None {
            parts = parts.with_remembered(self.script_effect(command, &request));
        }
        let split = Split::new(parts, self.now);
        let apart = command.flags.contains(Flags::ALLOW_BUSY);
        let waiter = self.expect_reply(key, Slot::Split(Box::new(split)));
        for (part, &Server { pool, target, .. }) in servers.iter().enumerate() {
            let waiter = Waiter {
                part: part as u32,
                ..waiter
            };
            if apart {
                self.send_apart(pool, target, command, waiter, Payload::of(&request));
                continue;
            }
            self.send_to(
                pool,
                target,
                access_of(command),
                command,
                waiter,
                Payload::of(&request),
            );
        }
        for mirror in self.mirrors_of_all_routes(key, command, &servers) {
            self.mirror_everywhere(mirror, command, &request);
        }
    }

    /// One part of something; its failure is the part's answer.
    pub fn send_to(
        &mut self,
        pool: usize,
        target: Target,
        access: Access,
        command: &'static Command,
        waiter: Waiter,
        payload: Payload<'_>,
    ) {
        match self.connection_for(pool, target, access) {
            Ok(connection) => {
                self.send(
                    connection,
                    Sending {
                        waiter,
                        command: command.id,
                        purpose: Purpose::Reply,
                    },
                    payload,
                );
            }
            Err(failure) => self.settle(waiter, command.id, self.now, Answer::Failed(failure)),
        }
    }

    /// The same on a connection of its own: the shared one may stand behind the script that is to be killed. It closes
    /// with the last answer; until then further requests of this kind go the same way.
    fn send_apart(
        &mut self,
        pool: usize,
        target: Target,
        command: &'static Command,
        waiter: Waiter,
        payload: Payload<'_>,
    ) {
        match self.connection_apart(pool, target) {
            Ok(connection) => {
                let sending = Sending {
                    waiter,
                    command: command.id,
                    purpose: Purpose::Reply,
                };
                self.send(connection, sending, payload);
                self.connections[connection as usize].life.draining = true;
            }
            Err(failure) => self.settle(waiter, command.id, self.now, Answer::Failed(failure)),
        }
    }
}
