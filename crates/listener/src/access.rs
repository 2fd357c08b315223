//! Access rules and limits of a chain, enforced on connections.
//!
//! A connection is decided on once its handshake is over, before a byte of it is read and before anything is opened
//! upstream: every fact is known then. (Envoy waits for the first bytes, and a server that speaks first is heard by a
//! client that is denied.) What is decided, and how it is told, is `rbac`'s business.

use std::time::{Duration, Instant};

use redplane_config::listener::FilterChain;
use redplane_rbac::{Connection, Peer};
use redplane_telemetry::stats::{connection_limit, local_rate_limit, rbac, rbac_shadow};
use redplane_world::{Access, Chain, ConnectionFacts, Limit, Rate, Rules};

use crate::limit_permit::LimitPermit;
use crate::worker::Worker;

/// A client that is not let in.
pub(crate) struct Denial {
    /// What logs say of it.
    pub details: String,
    /// How long it is kept waiting.
    pub delay: Duration,
}

/// Asks the filters in order and counts what they say; the first that denies is the last that is asked. What
/// counts the connection under its limits goes to `permits`.
pub(crate) fn decide(
    worker: &Worker,
    chain: &Chain,
    facts: &ConnectionFacts,
    permits: &mut Vec<LimitPermit>,
) -> Option<Denial> {
    if chain.access.is_empty() {
        return None;
    }
    let connection = seen(facts, &chain.config);
    let mut filters = chain.access.iter();
    filters.find_map(|access| match access {
        Access::Rules(rules) => by_rules(worker, rules, &connection),
        Access::Limit(limit) => by_number(worker, limit, permits),
        Access::Rate(rate) => by_rate(worker, rate),
    })
}

/// Envoy: `ConnectionLimitFilter::Filter::onNewConnection`.
fn by_number(worker: &Worker, limit: &Limit, permits: &mut Vec<LimitPermit>) -> Option<Denial> {
    let block = worker.block(&limit.stats);
    let Some(permit) = limit.enter() else {
        block.inc(connection_limit::LIMITED_CONNECTIONS);
        return Some(Denial {
            details: "connection limit reached".to_owned(),
            delay: limit.config.delay,
        });
    };
    block.inc(connection_limit::ACTIVE_CONNECTIONS);
    permits.push(LimitPermit::new(permit, block));
    None
}

/// Envoy: `LocalRateLimitFilter::Filter::onNewConnection`.
fn by_rate(worker: &Worker, rate: &Rate) -> Option<Denial> {
    if rate.bucket.take(Instant::now()) {
        return None;
    }
    worker.block(&rate.stats).inc(local_rate_limit::RATE_LIMITED);
    Some(Denial {
        details: "connection rate limit reached".to_owned(),
        delay: Duration::ZERO,
    })
}

fn by_rules(worker: &Worker, access: &Rules, connection: &Connection<'_>) -> Option<Denial> {
    let outcome = redplane_rbac::network(&access.filter, connection);
    if let Some(shadow) = outcome.shadow {
        let counter = if shadow.is_allowed {
            rbac_shadow::SHADOW_ALLOWED
        } else {
            rbac_shadow::SHADOW_DENIED
        };
        worker.block(&access.shadow).inc(counter);
    }
    let enforced = outcome.enforced?;
    let counter = if enforced.is_allowed {
        rbac::ALLOWED
    } else {
        rbac::DENIED
    };
    worker.block(&access.stats).inc(counter);
    (!enforced.is_allowed).then(|| Denial {
        details: redplane_rbac::details(&enforced),
        delay: access.filter.delay_deny,
    })
}

/// The facts as rules ask about them.
fn seen<'a>(facts: &'a ConnectionFacts, chain: &FilterChain) -> Connection<'a> {
    Connection {
        direct_remote: facts.direct_source.map(|source| source.ip()),
        remote: facts.source.map(|source| source.ip()),
        destination: facts.destination,
        server_name: facts.server_name.as_deref().unwrap_or_default(),
        tls: facts.tls.as_ref().map(|tls| Peer {
            is_validated: !tls.certificates.is_empty() && validates(chain),
            uri_sans: &tls.uri_sans,
            dns_sans: &tls.dns_sans,
            subject: &tls.subject,
        }),
    }
}

/// Whether a certificate that got through the handshake was held against roots that stand in the configuration. Whether
/// those of a secret are for show is not known here: they do not count.
pub(crate) fn validates(chain: &FilterChain) -> bool {
    let trust = chain.tls.as_ref().and_then(|tls| tls.validation.as_ref());
    trust.is_some_and(|trust| {
        !trust.own.accept_untrusted && (trust.own.system_roots || !trust.own.roots.is_empty())
    })
}
