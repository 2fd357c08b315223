//! MOVED and ASK: followed within the request's one deadline and at most five hops.
//!
//! The request's bytes are still in the output of the connection they left by; they are sent again from there. A MOVED
//! also corrects the slot table at once.

mod again;
pub mod names;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::connection::State;
use redplane_redis_core::link::Link;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_resp::value;
use redplane_telemetry::stats::{cluster, redis_cluster};
use redplane_upstream::Signal;

use crate::core::Core;
use crate::send::Payload;

/// Redirections that one request may follow.
pub const MAX_HOPS: u8 = 5;

/// What a redirection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirection<'a> {
    /// ASK, not MOVED.
    pub ask: bool,
    slot: u16,
    /// Where to; empty for the server that says it.
    pub host: &'a str,
    port: u16,
}

/// Reads `MOVED slot host:port` or `ASK slot host:port`: three words, no more. The host may be empty ("the same one")
/// or an IPv6 address without brackets.
pub fn parse(raw: &[u8]) -> Option<Redirection<'_>> {
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

impl Core {
    /// A write was refused by a server that is no primary any more: discovery has to look again. The client gets the
    /// error, since whether to write once more is its decision.
    pub fn note_demoted(&self, key: usize, raw: &[u8]) {
        if raw.starts_with(b"-READONLY") {
            self.connections[key].server.cluster.signal(Signal::Demoted);
        }
    }

    /// The address of a redirection's target, where it can be known without asking.
    pub fn target_of(&self, key: usize, to: Redirection<'_>) -> Option<SocketAddr> {
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
    pub fn tell_redirected(&self, pool: usize, to: Redirection<'_>, address: SocketAddr) {
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
    pub fn connection_to(
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

    /// Counts a redirection that was followed, or could not be.
    pub fn count_redirect(&self, pool: usize, success: bool) {
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
