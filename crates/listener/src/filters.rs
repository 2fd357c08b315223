//! The listener filters of a connection, one after the other as configured, before its chain is chosen.
//!
//! They look at the first bytes and leave them in the socket, so whoever serves the connection reads them from the
//! start; only a PROXY protocol header is taken out. Together they may wait for `listener_filters_timeout`.
//!
//! Envoy: `ActiveTcpSocket::continueFilterChain`.

mod http_inspector;
mod original_dst;
mod peek;
mod proxy_protocol;
mod tls_inspector;

use redplane_config::listener::{Listener, ListenerFilterKind};
use redplane_telemetry::stats::{
    http_inspector as http_names, listener as names, proxy_proto, proxy_proto_version,
    tls_inspector as tls_names,
};
use redplane_telemetry::{Block, Registry};
use redplane_world::ConnectionFacts;

use crate::redis::Stream;
use crate::session::Session;
use peek::{Lost, Peek};

/// What the listener filters of a worker count.
pub(crate) struct FilterStats {
    tls: Block,
    http: Block,
    proxy: Block,
    /// By version of the PROXY protocol.
    versions: [Block; 2],
}

impl FilterStats {
    /// New cells.
    pub(crate) fn new(registry: &Registry) -> Self {
        let version = |version| {
            let prefix = format!("proxy_proto.versions.v{version}.");
            registry.scope(&prefix, &proxy_proto_version::SCHEMA).block()
        };
        Self {
            tls: registry.scope("tls_inspector.", &tls_names::SCHEMA).block(),
            http: registry.scope("http_inspector.", &http_names::SCHEMA).block(),
            proxy: registry.scope("proxy_proto.", &proxy_proto::SCHEMA).block(),
            versions: [version(1), version(2)],
        }
    }
}

/// Runs the listener filters; `None` ends the connection.
pub(crate) async fn run(
    stats: &FilterStats,
    listener: &Listener,
    stream: Stream,
    session: &mut Session,
) -> Option<Stream> {
    if listener.filters.is_empty() {
        return Some(stream);
    }
    let _waiting = session.wait();
    let mut peek = Peek::new(stream).ok()?;
    let looking = look(stats, listener, &mut peek, &mut session.facts);
    let limit = listener.listener_filters_timeout;
    let looked = if limit.is_zero() {
        Some(looking.await)
    } else {
        tokio::time::timeout(limit, looking).await.ok()
    };
    match looked {
        Some(Ok(())) => {}
        Some(Err(lost)) => {
            session.stats.listener.inc(match lost {
                Lost::Closed => names::DOWNSTREAM_LISTENER_FILTER_REMOTE_CLOSE,
                Lost::Refused | Lost::Error => names::DOWNSTREAM_LISTENER_FILTER_ERROR,
            });
            return None;
        }
        None => {
            session.stats.listener.inc(names::DOWNSTREAM_PRE_CX_TIMEOUT);
            if !listener.continue_on_listener_filters_timeout {
                session.detail("listener_filters_timeout".to_owned());
                return None;
            }
        }
    }
    Some(peek.into_stream())
}

async fn look(
    stats: &FilterStats,
    listener: &Listener,
    peek: &mut Peek,
    facts: &mut ConnectionFacts,
) -> Result<(), Lost> {
    for filter in &listener.filters {
        let port = facts.destination.map_or(0, |destination| destination.port());
        if filter.disabled.as_ref().is_some_and(|rule| rule.matches(port)) {
            continue;
        }
        match &filter.kind {
            ListenerFilterKind::OriginalDst => original_dst::look(peek, facts),
            ListenerFilterKind::TlsInspector(config) => {
                tls_inspector::look(peek, config, &stats.tls, facts).await?;
            }
            // What is inside of TLS cannot be seen.
            ListenerFilterKind::HttpInspector if facts.is_tls => {}
            ListenerFilterKind::HttpInspector => http_inspector::look(peek, &stats.http, facts).await?,
            ListenerFilterKind::ProxyProtocol(config) => {
                proxy_protocol::look(peek, config, (&stats.proxy, &stats.versions), facts).await?;
            }
        }
    }
    Ok(())
}
