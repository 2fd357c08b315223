//! Pools and filters: made when somebody needs them, given what is published, kept as long as something uses them.
//!
//! A client whose requests may still travel by the former ways rests until they are answered, so that what it sends next
//! does not get there first. Nothing here opens a connection, and when what is published is taken over is not decided here.

use std::sync::Arc;
use std::time::Duration;

use redplane_config::redis_proxy::{Protocol, RedisProxy};
use redplane_redis_core::client::Client;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::filter::{self, Answered, ChainLife, Filter};
use redplane_redis_core::pool::{Greeting, Live, LoginId, Pool, PoolKey, PoolUse, Tracking};
use redplane_telemetry::stats::redis_proxy;

use crate::core::{Core, Event, Moved};

/// Microseconds for which a pool is kept that nobody uses.
const IDLE: u64 = 60_000_000;

/// Pools of databases other than 0, or of clients' logins, that are kept so.
const MAX_IDLE: usize = 16;

impl Core {
    /// The clients of these pools and filters may have requests in flight by the former ways: what they send next must
    /// not overtake them on the new ones.
    pub fn rest_where(&mut self, pools: &[usize], filters: &[usize]) {
        let leads_there = |(key, filter): &(usize, &Filter)| {
            filters.contains(key) || filter.pools().iter().any(|pool| pools.contains(pool))
        };
        let filters: Vec<usize> = self
            .filters
            .iter()
            .filter(leads_there)
            .map(|(key, _)| key)
            .collect();
        let clients = self.clients.iter_mut().map(|(_, client)| client);
        let theirs = clients.filter(|client| filters.contains(&client.filter));
        theirs.for_each(Client::rest_behind);
    }

    /// Gives a pool the cluster that now has its name; connections to the former one drain. False when it has it.
    pub fn resolve_pool(&mut self, pool: usize) -> bool {
        let entry = &mut self.pools[pool];
        let cluster = self.shared.snapshot.clusters.get(&entry.key.cluster);
        match (&entry.live, cluster) {
            (Some(live), Some(cluster)) if Arc::ptr_eq(&live.cluster, cluster) => return false,
            (None, None) => return false,
            _ => {}
        }
        let live = cluster.map(|cluster| Live::new(cluster.clone(), &entry.key.settings));
        let own = self.connections.iter_mut().map(|(_, connection)| connection);
        for connection in own.filter(|connection| connection.pool == pool) {
            connection.add_up(entry.live.as_mut());
            if let Some(live) = &live {
                // What is in flight will be counted down here.
                connection.count_into(&live.stats);
            }
        }
        let former = std::mem::replace(&mut entry.live, live);
        let left: Vec<u32> = former.iter().flat_map(Live::connections).collect();
        self.drain_connections(&left);
        true
    }

    /// Gives a filter its present configuration; true when that is another one.
    pub fn resolve_filter(&mut self, key: usize) -> bool {
        self.tally.add_up(&self.filters);
        let current = &self.filters[key];
        let Some(proxy) = filter::find(
            &self.shared.snapshot,
            &current.listener,
            &current.chain,
            current.life,
        ) else {
            return false;
        };
        if Arc::ptr_eq(&proxy, &current.proxy) {
            return false;
        }
        let (of, users) = (current.chain_life(), current.users);
        let greeting = current.greeting;
        let former = current.pools();
        let mut next = self.build_filter(of, proxy, greeting);
        next.users = users;
        next.stats.add(redis_proxy::DOWNSTREAM_CX_ACTIVE, users as u64);
        let own = self.clients.iter().filter(|(_, client)| client.filter == key);
        let waiting = own.map(|(_, client)| client.replies.open()).sum::<u64>();
        next.stats.add(redis_proxy::DOWNSTREAM_RQ_ACTIVE, waiting);
        self.filters[key] = next;
        self.leave_pools(&former, false);
        true
    }

    fn build_filter(&mut self, of: ChainLife, proxy: Arc<RedisProxy>, greeting: Greeting) -> Filter {
        let registry = self.shared.registry.clone();
        let settings = proxy.settings.clone();
        let mut filter = Filter::new(of, proxy, &registry, |cluster, answered| {
            self.acquire_pool(PoolKey {
                cluster: cluster.to_owned(),
                settings: settings.clone(),
                greeting: match answered {
                    Answered::ToClients => greeting,
                    Answered::ToNobody => greeting.for_mirrors(),
                },
                purpose: PoolUse::Requests,
            })
        });
        filter.greeting = greeting;
        filter
    }

    /// The pool with this key, made when there is none. It has one more user; see [`Self::release_pools`].
    pub fn acquire_pool(&mut self, key: PoolKey) -> usize {
        if let Some((place, pool)) = self.pools.iter_mut().find(|(_, pool)| pool.key == key) {
            pool.users += 1;
            // One that only waited for its last replies is in use again.
            self.resolve_pool(place);
            return place;
        }
        let pool = self.pools.insert(Pool {
            key,
            users: 1,
            idle_since: 0,
            live: None,
        });
        self.resolve_pool(pool);
        pool
    }

    /// Keeps pools for as long as something refers to them by their place.
    pub fn hold_pools(&mut self, pools: &[usize]) {
        pools.iter().for_each(|&key| self.pools[key].users += 1);
    }

    /// They are referred to no more. One that is used by nobody now is kept for a while: its connections, what it knows of
    /// dead hosts and the commands that it has learnt are there for the next one that comes.
    pub fn release_pools(&mut self, pools: &[usize]) {
        self.leave_pools(pools, true);
    }

    fn leave_pools(&mut self, pools: &[usize], keeps: bool) {
        for &key in pools {
            let pool = &mut self.pools[key];
            pool.users -= 1;
            if pool.users > 0 {
                continue;
            }
            pool.idle_since = self.now;
            let gone = pool.live.is_none();
            if gone || !keeps || !self.may_idle(key) {
                self.close_pool(key);
            }
        }
    }

    /// Whether a pool is kept though nobody uses it. What clients ask for (databases, logins) is without number; a server goes on
    /// telling what nobody reads to those that track or are subscribed.
    fn may_idle(&self, key: usize) -> bool {
        let asked_for =
            |pool: &Pool| pool.key.greeting.database != 0 || pool.key.greeting.login != LoginId::NONE;
        let pool = &self.pools[key];
        let others = self.pools.iter().map(|(_, pool)| pool);
        pool.key.greeting.tracking == Tracking::Off
            && pool.key.purpose == PoolUse::Requests
            && (!asked_for(pool)
                || others.filter(|other| other.is_idle() && asked_for(other)).count() <= MAX_IDLE)
    }

    /// A pool that nobody uses closes its connections as soon as they are answered.
    fn close_pool(&mut self, key: usize) {
        let live = self.pools[key].live.take();
        let left: Vec<u32> = live.iter().flat_map(Live::connections).collect();
        self.drain_connections(&left);
        // Connections that still drain refer to the pool by its place: it goes with the last of them.
        self.drop_pool_if_unused(key);
    }

    /// Closes what was idle for long.
    pub fn tick_pools(&mut self) {
        let now = self.now;
        let over = |pool: &Pool| pool.is_idle() && now >= pool.idle_since + IDLE;
        for key in 0..self.pools.capacity() {
            if self.pools.get(key).is_some_and(over) {
                self.close_pool(key);
            }
        }
    }

    /// When [`Self::tick_pools`] has something to do.
    pub fn next_pool_tick(&self) -> Option<Duration> {
        let idle = self.pools.iter().filter(|(_, pool)| pool.is_idle());
        let ends = idle.map(|(_, pool)| (pool.idle_since + IDLE).saturating_sub(self.now));
        ends.min().map(Duration::from_micros)
    }

    pub(crate) fn drop_pool_if_unused(&mut self, key: usize) {
        let unused = self.pools.get(key).is_some_and(|pool| !pool.is_in_use());
        if unused
            && !self
                .connections
                .iter()
                .any(|(_, connection)| connection.pool == key)
        {
            self.pools.remove(key);
        }
    }

    /// The filter of a chain for clients with this greeting. When the chain is no longer published, or was published
    /// anew, its clients end under the configuration that they came under.
    pub fn filter_for(&mut self, of: &ChainLife, came_under: &Arc<RedisProxy>, greeting: Greeting) -> usize {
        let same = |filter: &Filter| {
            filter.life == of.life
                && filter.chain == of.chain
                && filter.listener == of.listener
                && filter.greeting == greeting
        };
        if let Some((key, _)) = self.filters.iter().find(|(_, filter)| same(filter)) {
            return key;
        }
        let proxy = filter::find(&self.shared.snapshot, &of.listener, &of.chain, of.life);
        let proxy = proxy.unwrap_or_else(|| Arc::clone(came_under));
        let filter = self.build_filter(of.clone(), proxy, greeting);
        self.filters.insert(filter)
    }

    /// Moves a client to the variant of its filter that speaks `protocol`.
    pub fn speak(&mut self, key: usize, protocol: Protocol) {
        let greeting = self.filters[self.clients[key].filter].greeting;
        self.greet_with(key, Greeting { protocol, ..greeting });
    }

    /// Moves a client to the variant of its filter with this greeting. Its requests in flight end as they began.
    pub fn greet_with(&mut self, key: usize, greeting: Greeting) {
        let Some((former, in_flight)) = self.enter_variant(key, greeting) else {
            return;
        };
        let client = &self.clients[key];
        if client.features.has(Feature::Tracking) {
            self.out.events.push_back(Event::Moved(Moved {
                client: key as u32,
                generation: client.generation,
                former,
                in_flight,
            }));
        } else {
            self.leave_filter(former, in_flight);
        }
        // A filter may have to be made for it, which is more work than a request.
        self.rest_a_turn(key);
    }

    /// The first half of it: says which filter it has still to leave, with how many requests.
    fn enter_variant(&mut self, key: usize, greeting: Greeting) -> Option<(usize, u64)> {
        let former = self.clients[key].filter;
        let (of, proxy) = (
            self.filters[former].chain_life(),
            self.filters[former].proxy.clone(),
        );
        let next = self.filter_for(&of, &proxy, greeting);
        if next == former {
            return None;
        }
        let client = &mut self.clients[key];
        client.filter = next;
        let in_flight = client.replies.open();
        let entry = &mut self.filters[next];
        entry.users += 1;
        entry.stats.inc(redis_proxy::DOWNSTREAM_CX_ACTIVE);
        entry.stats.add(redis_proxy::DOWNSTREAM_RQ_ACTIVE, in_flight);
        Some((former, in_flight))
    }

    /// A client with so many requests in flight leaves a filter; the last one takes it along.
    pub fn leave_filter(&mut self, key: usize, in_flight: u64) {
        self.tally.add_up(&self.filters);
        let filter = &mut self.filters[key];
        filter.stats.dec(redis_proxy::DOWNSTREAM_CX_ACTIVE);
        filter.stats.sub(redis_proxy::DOWNSTREAM_RQ_ACTIVE, in_flight);
        filter.users -= 1;
        if filter.users == 0 {
            let pools = filter.pools();
            self.filters.remove(key);
            self.release_pools(&pools);
        }
    }
}
