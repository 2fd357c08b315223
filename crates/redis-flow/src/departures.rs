//! Connections that go: drained, broken, refused or late. What waited on them fails, and their host is left alone for a
//! while.

use std::sync::atomic::Ordering::Relaxed;

use redplane_redis_core::connection::{ConnId, Connection, State};
use redplane_telemetry::stats::{cluster, redis_cluster};
use redplane_upstream::Signal;

use crate::action::{Action, Gone};
use crate::core::{Core, Event, Lost};

impl Core {
    /// Connections that get no more requests: closed when the last reply has come.
    pub fn drain_connections(&mut self, connections: &[u32]) {
        for &id in connections {
            let Some(connection) = self.connections.get_mut(id as usize) else {
                continue;
            };
            connection.life.draining = true;
            if connection.is_idle() {
                self.close_drained(id as usize);
            }
        }
    }

    /// Closes a connection that was drained and has no reply to come.
    pub fn close_drained(&mut self, key: usize) {
        let connection = &self.connections[key];
        if let Some(live) = &self.pools[connection.pool].live {
            live.redis_stats.inc(redis_cluster::UPSTREAM_CX_DRAINED);
        }
        self.out.actions.push(Action::CloseUpstream(ConnId(key as u32)));
        self.lose(ConnId(key as u32), Gone::Local);
    }

    /// A connection is gone: its host is left alone for a while, and what waited on it is an event for those whose it is.
    pub fn lose(&mut self, id: ConnId, why: Gone) {
        let Some(mut connection) = self.connections.try_remove(id.0 as usize) else {
            return;
        };
        connection.add_up(self.pools[connection.pool].live.as_mut());
        if matches!(why, Gone::Timeout | Gone::ConnectTimeout | Gone::Protocol) {
            self.out.actions.push(Action::CloseUpstream(id));
        }
        self.count_gone(&connection, why);
        self.unlink(id.0, &connection, why);
        if connection.lease.exclusive {
            self.forget_lease(id.0, &connection);
        }
        self.in_flight -= connection.pending.len();
        self.unchoke_all(std::mem::take(&mut connection.flush.choked));
        // Whoever hears of it finds its pool.
        self.hold_pools(&[connection.pool]);
        self.out
            .events
            .push_back(Event::Lost(Box::new(Lost { id, connection, why })));
    }

    fn unlink(&mut self, id: u32, connection: &Connection, why: Gone) {
        let now = self.now;
        let Some(live) = self.pools[connection.pool].live.as_mut() else {
            return;
        };
        let Some(link) = live.link_with(id) else {
            return;
        };
        let served = connection.life.connected && connection.life.state == State::Open;
        match why {
            // An open connection that the server closed says nothing about the next one.
            Gone::Remote | Gone::Protocol | Gone::Local if served => link.connection = None,
            _ => link.failed(now),
        }
    }

    fn count_gone(&mut self, connection: &Connection, why: Gone) {
        let busy = !connection.is_idle();
        let host = &connection.server.host.stats;
        if connection.life.connected {
            host.cx_active.fetch_sub(1, Relaxed);
        } else if why != Gone::Local {
            host.cx_connect_fail.fetch_add(1, Relaxed);
        }
        host.rq_active.fetch_sub(connection.pending.len() as u64, Relaxed);
        host.rq_error.fetch_add(connection.pending.len() as u64, Relaxed);
        if why == Gone::Timeout {
            host.rq_timeout
                .fetch_add(connection.pending.len() as u64, Relaxed);
        }
        // A lease that ends while it waits says nothing about its host.
        if why != Gone::Local && (busy || !connection.life.connected) {
            connection.server.cluster.signal(Signal::Failed);
        }
        let Some(live) = self.pools[connection.pool].live.as_mut() else {
            return;
        };
        let stats = &live.stats;
        stats.sub(cluster::UPSTREAM_RQ_ACTIVE, connection.pending.len() as u64);
        match why {
            Gone::Timeout => stats.inc(cluster::UPSTREAM_RQ_TIMEOUT),
            Gone::ConnectTimeout => stats.inc(cluster::UPSTREAM_CX_CONNECT_TIMEOUT),
            Gone::Protocol => stats.inc(cluster::UPSTREAM_CX_PROTOCOL_ERROR),
            _ => {}
        }
        if !connection.life.connected {
            if why != Gone::Local {
                stats.inc(cluster::UPSTREAM_CX_CONNECT_FAIL);
            }
            return;
        }
        stats.dec(cluster::UPSTREAM_CX_ACTIVE);
        stats.inc(cluster::UPSTREAM_CX_DESTROY);
        let remote = why == Gone::Remote;
        stats.inc(if remote {
            cluster::UPSTREAM_CX_DESTROY_REMOTE
        } else {
            cluster::UPSTREAM_CX_DESTROY_LOCAL
        });
        stats.record(
            cluster::UPSTREAM_CX_LENGTH_MS,
            (self.now - connection.life.opened) / 1000,
        );
        if busy {
            stats.inc(cluster::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
            stats.inc(match remote {
                true => cluster::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ,
                false => cluster::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ,
            });
        }
    }
}
