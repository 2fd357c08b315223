//! MOVED and ASK: followed within the request's one deadline and at most five hops.
//!
//! The request's bytes are still in the output of the connection they left by; they are sent again from there. A MOVED
//! also corrects the slot table at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use redplane_resp::value;
use redplane_telemetry::stats::{cluster, redis_cluster};
use redplane_upstream::{Cluster, Signal};

use crate::action::Action;
use crate::again::Again;
use crate::core::Core;
use crate::send::Payload;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::connection::State;
use redplane_redis_core::link::Link;
use redplane_redis_core::pending::{Pending, Purpose};

/// Redirections that one request may follow.
pub(crate) const MAX_HOPS: u8 = 5;

/// What a redirection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redirection<'a> {
    pub(crate) ask: bool,
    slot: u16,
    pub(crate) host: &'a str,
    port: u16,
}

/// Reads `MOVED slot host:port` or `ASK slot host:port`: three words, no more. The host may be empty ("the same one")
/// or an IPv6 address without brackets.
pub(crate) fn parse(raw: &[u8]) -> Option<Redirection<'_>> {
    let text = std::str::from_utf8(value::error_text(raw)?).ok()?;
    let mut words = text.split(' ');
    let ask = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let slot = words
        .next()?
        .parse()
        .ok()
        .filter(|slot: &u16| usize::from(*slot) < usize::from(redplane_command::SLOTS))?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    if words.next().is_some() {
        return None;
    }
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Some(Redirection {
        ask,
        slot,
        host,
        port: port.parse().ok()?,
    })
}

/// A name that redirections led to and that is being resolved, and all that waits for it.
pub(crate) struct Unresolved {
    pool: usize,
    /// The pool's place may have been given to another cluster meanwhile.
    cluster: Arc<Cluster>,
    host: String,
    /// In the order in which they were redirected.
    waiting: Vec<Redirected>,
}

/// What one worker's servers sent elsewhere, or asked for again.
#[derive(Default)]
pub(crate) struct Redirects {
    pub(crate) unresolved: BTreeMap<u64, Unresolved>,
    /// Requests that a migrating slot refused, by the time they are sent again.
    pub(crate) again: BTreeMap<(u64, u64), Again>,
}

/// A redirected request that waits outside all queues.
struct Redirected {
    pending: Pending,
    frame: Bytes,
    ask: bool,
    slot: u16,
    port: u16,
    /// Where it goes; `None` while that is a name.
    address: Option<SocketAddr>,
    error: Vec<u8>,
}

impl Core {
    /// A write was refused by a server that is no primary any more: discovery has to look again. The client gets the
    /// error, since whether to write once more is its decision.
    pub(crate) fn note_demoted(&self, key: usize, raw: &[u8]) {
        if raw.starts_with(b"-READONLY") {
            self.connections[key].server.cluster.signal(Signal::Demoted);
        }
    }

    /// The address of a redirection's target, where it can be known without asking.
    pub(crate) fn target_of(&self, key: usize, to: Redirection<'_>) -> Option<SocketAddr> {
        let connection = &self.connections[key];
        if to.host.is_empty() {
            return connection
                .server
                .host
                .address
                .ip()
                .map(|own| SocketAddr::new(own.ip(), to.port));
        }
        if let Ok(ip) = to.host.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip.to_canonical(), to.port));
        }
        let topology = &self.pools[connection.pool].live.as_ref()?.topology;
        topology
            .hosts
            .get(topology.host_by_name(to.host, to.port)?)?
            .address
            .ip()
    }

    /// The slot table learns of a redirection.
    pub(crate) fn tell_redirected(&self, pool: usize, to: Redirection<'_>, address: SocketAddr) {
        let Some(live) = &self.pools[pool].live else {
            return;
        };
        // A move counts as a redirection by itself.
        live.cluster.signal(match to.ask {
            true => Signal::Redirected,
            false => Signal::Moved {
                slot: to.slot,
                to: address,
            },
        });
    }

    /// The connection to a redirection's target: a known host, or a stranger of whom there may be only so many.
    /// `Err(None)`: the client gets the redirection itself, as from Envoy.
    pub(crate) fn connection_to(
        &mut self,
        pool: usize,
        address: SocketAddr,
        name: &str,
    ) -> Result<u32, Option<Failure>> {
        let entry = &mut self.pools[pool];
        let limit = entry.key.settings.max_upstream_unknown_connections as usize;
        let Some(live) = &mut entry.live else {
            return Err(Some(Failure::NoHost));
        };
        let known = live.topology.host_by_address(address);
        let link = match known {
            Some(host) => live.links.get(host),
            None => live.strangers.get(&address).map(|(_, link)| link),
        };
        match (link.and_then(|link| link.connection), known) {
            (Some(open), _) => match self.connections[open as usize].life.state {
                State::Probing => Err(Some(Failure::Upstream)),
                _ => Ok(open),
            },
            (None, Some(host)) => self.open(pool, host).map_err(Some),
            (None, None) => {
                if !live.strangers.contains_key(&address) && live.strangers.len() >= limit {
                    live.redis_stats
                        .inc(redis_cluster::MAX_UPSTREAM_UNKNOWN_CONNECTIONS_REACHED);
                    return Err(None);
                }
                self.open_stranger(pool, address, name).map_err(Some)
            }
        }
    }

    fn open_stranger(&mut self, pool: usize, address: SocketAddr, name: &str) -> Result<u32, Failure> {
        let now = self.now;
        let Some(live) = &mut self.pools[pool].live else {
            return Err(Failure::NoHost);
        };
        let cluster = live.cluster.clone();
        let (host, link) = live
            .strangers
            .entry(address)
            .or_insert_with(|| (cluster.stranger(address, name), Link::default()));
        if link.failing && now < link.retry_at {
            return Err(Failure::Upstream);
        }
        let (host, failing) = (host.clone(), link.failing);
        let opened = self.connect(pool, host, failing)?;
        if let Some((_, link)) = self.pools[pool]
            .live
            .as_mut()
            .and_then(|live| live.strangers.get_mut(&address))
        {
            link.connection = Some(opened);
        }
        if failing {
            Err(Failure::Upstream)
        } else {
            Ok(opened)
        }
    }

    pub(crate) fn count_redirect(&self, pool: usize, success: bool) {
        if let Some(live) = &self.pools[pool].live {
            live.stats.inc(match success {
                true => cluster::UPSTREAM_INTERNAL_REDIRECT_SUCCEEDED_TOTAL,
                false => cluster::UPSTREAM_INTERNAL_REDIRECT_FAILED_TOTAL,
            });
        }
    }

    /// Sends a redirected request to where it was led.
    fn send_on(
        &mut self,
        pool: usize,
        pending: &Pending,
        frame: &Bytes,
        (to, address): (Redirection<'_>, SocketAddr),
        raw: &[u8],
    ) -> bool {
        // The side that imports a slot refuses commands over several keys unless it has them all.
        if to.ask
            && let Some(singles) = self.single_keys(pending, frame)
        {
            for (own, frame) in &singles {
                self.resend(pool, *own, frame, to, address, raw);
            }
            return true;
        }
        self.resend(pool, *pending, frame, to, address, raw)
    }

    fn resend(
        &mut self,
        pool: usize,
        pending: Pending,
        frame: &Bytes,
        to: Redirection<'_>,
        address: SocketAddr,
        raw: &[u8],
    ) -> bool {
        self.tell_redirected(pool, to, address);
        self.rest_behind_redirected(pending.waiter);
        let target = match self.connection_to(pool, address, to.host) {
            Ok(target) => target,
            Err(Some(failure)) => {
                self.count_redirect(pool, false);
                self.settle(
                    pending.waiter,
                    pending.command,
                    pending.since,
                    Answer::Failed(failure),
                );
                return true;
            }
            Err(None) => {
                self.count_redirect(pool, false);
                self.settle(pending.waiter, pending.command, pending.since, Answer::Raw(raw));
                return true;
            }
        };
        self.count_redirect(pool, true);
        if to.ask {
            self.setup(target, Purpose::Setup, &[b"asking"]);
        }
        let payload = match frame.len() >= redplane_redis_core::output::LARGE {
            true => Payload::Shared(frame.clone()),
            false => Payload::Copied(frame),
        };
        let travel = pending.travel.hop();
        self.send_once_more(
            target,
            Pending { travel, ..pending },
            payload,
            (Purpose::Queued, 0),
        );
        true
    }
}

impl Redirects {
    /// Looks at an error before the client does. True when it was dealt with.
    #[cold]
    pub(crate) fn intercept(&mut self, core: &mut Core, key: usize, pending: &Pending, raw: &[u8]) -> bool {
        if core.script_failed(key, pending, raw) {
            return true;
        }
        let pool = core.connections[key].pool;
        core.note_demoted(key, raw);
        if !core.pools[pool].key.settings.enable_redirection {
            return false;
        }
        if raw.starts_with(b"-CLUSTERDOWN") {
            core.connections[key].server.cluster.signal(Signal::Failed);
            core.settle(
                pending.waiter,
                pending.command,
                pending.since,
                Answer::Failed(Failure::Upstream),
            );
            return true;
        }
        if raw.starts_with(b"-TRYAGAIN") {
            return self.try_again(core, key, pending);
        }
        let Some(redirection) = parse(raw) else {
            return false;
        };
        self.follow(core, key, pending, redirection, raw)
    }

    fn follow(
        &mut self,
        core: &mut Core,
        key: usize,
        pending: &Pending,
        to: Redirection<'_>,
        raw: &[u8],
    ) -> bool {
        let connection = &core.connections[key];
        let pool = connection.pool;
        let op_timeout = core.pools[pool].key.settings.op_timeout.as_micros() as u64;
        if pending.travel.hops() >= MAX_HOPS || core.now >= pending.since + op_timeout {
            core.count_redirect(pool, false);
            core.settle(
                pending.waiter,
                pending.command,
                pending.since,
                Answer::Failed(Failure::Upstream),
            );
            return true;
        }
        let Some(frame) = connection.frame_of(pending) else {
            return false;
        };
        let address = core.target_of(key, to);
        match address {
            Some(address) if !self.waits_for_name(pool, pending, to) => {
                core.send_on(pool, pending, &frame, (to, address), raw)
            }
            _ => {
                self.resolve(core, pool, *pending, frame, (to, address), raw);
                true
            }
        }
    }

    /// Whether what the same client sent before to the same slot waits for a name: nothing must overtake it.
    fn waits_for_name(&self, pool: usize, pending: &Pending, to: Redirection<'_>) -> bool {
        self.unresolved
            .values()
            .any(|name| name.pool == pool && name.holds(pending, to.slot))
    }

    /// Has a name resolved, once for all that wait for it.
    fn resolve(
        &mut self,
        core: &mut Core,
        pool: usize,
        pending: Pending,
        frame: Bytes,
        (to, address): (Redirection<'_>, Option<SocketAddr>),
        raw: &[u8],
    ) {
        let Some(live) = &core.pools[pool].live else {
            let failed = Answer::Failed(Failure::NoHost);
            return core.settle(pending.waiter, pending.command, pending.since, failed);
        };
        let cluster = live.cluster.clone();
        core.rest_behind_redirected(pending.waiter);
        core.in_flight += 1;
        let waiting = Redirected {
            pending,
            frame,
            ask: to.ask,
            slot: to.slot,
            port: to.port,
            address,
            error: raw.to_vec(),
        };
        let mut names = self.unresolved.values_mut().filter(|name| name.pool == pool);
        let same = |name: &&mut Unresolved| name.host == to.host && Arc::ptr_eq(&name.cluster, &cluster);
        let known = match address {
            Some(_) => names.find(|name| name.holds(&pending, to.slot)),
            None => names.find(same),
        };
        if let Some(known) = known {
            return known.waiting.push(waiting);
        }
        core.shared.tickets += 1;
        let ticket = core.shared.tickets;
        core.out.actions.push(Action::Resolve {
            ticket,
            host: to.host.to_owned(),
            cluster: cluster.clone(),
            family: core.pools[pool].key.settings.dns_cache,
        });
        let name = Unresolved {
            pool,
            cluster,
            host: to.host.to_owned(),
            waiting: vec![waiting],
        };
        self.unresolved.insert(ticket, name);
    }

    /// The driver has resolved a name, or could not.
    pub(crate) fn resolved(&mut self, core: &mut Core, ticket: u64, address: Option<IpAddr>) {
        let Some(name) = self.unresolved.remove(&ticket) else {
            return;
        };
        let live = core.pools.get(name.pool).and_then(|pool| pool.live.as_ref());
        let same = live.is_some_and(|live| Arc::ptr_eq(&live.cluster, &name.cluster));
        core.in_flight -= name.waiting.len();
        for waiting in name.waiting {
            let pending = waiting.pending;
            let named = address.map(|ip| SocketAddr::new(ip.to_canonical(), waiting.port));
            let to = Redirection {
                ask: waiting.ask,
                slot: waiting.slot,
                host: &name.host,
                port: waiting.port,
            };
            match waiting.address.or(named).filter(|_| same) {
                Some(address) => {
                    core.send_on(name.pool, &pending, &waiting.frame, (to, address), &waiting.error);
                }
                None => {
                    let answer = Answer::Raw(&waiting.error);
                    core.settle(pending.waiter, pending.command, pending.since, answer);
                }
            }
        }
    }

    /// Those that wait for a name.
    pub(crate) fn requests_to_resolve(&self) -> impl Iterator<Item = (&Pending, &str)> {
        let names = self.unresolved.values();
        names.flat_map(|name| {
            name.waiting
                .iter()
                .map(|waiting| (&waiting.pending, name.host.as_str()))
        })
    }

    /// Names that take too long.
    pub(crate) fn expire_unresolved(&mut self, core: &mut Core) {
        let now = core.now;
        let mut late = Vec::new();
        for name in self.unresolved.values_mut() {
            let settings = core.pools.get(name.pool).map(|pool| &pool.key.settings);
            let timeout = settings.map_or(0, |settings| settings.op_timeout.as_micros() as u64);
            let is_late = |waiting: &mut Redirected| now >= waiting.pending.since + timeout;
            late.extend(
                name.waiting
                    .extract_if(.., is_late)
                    .map(|waiting| waiting.pending),
            );
        }
        self.unresolved.retain(|_, name| !name.waiting.is_empty());
        core.in_flight -= late.len();
        for pending in late {
            let failed = Answer::Failed(Failure::Upstream);
            core.settle(pending.waiter, pending.command, pending.since, failed);
        }
    }
}

impl Unresolved {
    /// Whether a request of the same client to the same slot waits here.
    fn holds(&self, pending: &Pending, slot: u16) -> bool {
        let (client, generation) = (pending.waiter.client, pending.waiter.generation);
        self.waiting.iter().any(|waiting| {
            let own = waiting.pending.waiter;
            own.client == client && own.generation == generation && waiting.slot == slot
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_and_no_more() {
        let to = |ask, slot, host, port| {
            Some(Redirection {
                ask,
                slot,
                host,
                port,
            })
        };
        assert_eq!(
            parse(b"-MOVED 3999 127.0.0.1:6381\r\n"),
            to(false, 3999, "127.0.0.1", 6381)
        );
        assert_eq!(
            parse(b"-ASK 1 redis-0.svc:6379\r\n"),
            to(true, 1, "redis-0.svc", 6379)
        );
        assert_eq!(parse(b"-MOVED 1 ::1:7139\r\n"), to(false, 1, "::1", 7139));
        assert_eq!(parse(b"-MOVED 1 [::1]:7139\r\n"), to(false, 1, "::1", 7139));
        assert_eq!(parse(b"-MOVED 1 :7139\r\n"), to(false, 1, "", 7139));
        for bad in [
            "-MOVED 1 a:1 x\r\n",
            "-moved 1 a:1\r\n",
            "-MOVED 16384 a:1\r\n",
            "-MOVED 1 a\r\n",
            "-MOVED 1 a:99999\r\n",
            "-MOVED\r\n",
            "+MOVED 1 a:1\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
