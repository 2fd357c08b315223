//! One connection, from accept to its terminal filter: original destination, listener filters, chain, TLS.
//!
//! A connection takes the version of its listener that is current when it comes and keeps it; the Redis driver looks
//! its configuration up anew for every batch.
//!
//! Envoy: `ActiveTcpSocket`, `ActiveTcpListener::newConnection`.

mod session;

use std::rc::Rc;
use std::sync::Arc;

use redplane_config::listener::Terminal;
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::listener as names;
use rustls::ServerConnection;
use socket2::Socket;

use crate::chain::{Arrival, choose};
use crate::inspect::{Inspected, Lost};
use crate::original_dst;
use crate::redis;
use crate::stream::{Ends, Stream, accepted};
use crate::tcp_proxy;
use crate::worker::{Active, Worker};

pub(crate) use session::Session;

/// Serves an accepted socket to its end, or until it is handed over.
pub(crate) async fn serve(worker: Rc<Worker>, active: Rc<Active>, socket: Socket) {
    // The client went away before anything was known of it.
    let Ok((stream, ends)) = accepted(socket) else {
        return;
    };
    let (active, ends, restored) = destination(&worker, active, &stream, ends);
    let session = Session::new(&active, ends, restored);
    let listener = Rc::clone(&active);
    tokio::select! {
        biased;
        () = listener.gone() => {}
        () = run(worker, active, stream, session) => {}
    }
}

/// The listener that serves the connection, and where the client meant to go.
fn destination(
    worker: &Worker,
    active: Rc<Active>,
    stream: &redis::Stream,
    mut ends: Ends,
) -> (Rc<Active>, Ends, bool) {
    if !active.version().0.config.use_original_dst {
        return (active, ends, false);
    }
    let original = original_dst::of(stream, ends.local).filter(|original| Some(*original) != ends.local);
    ends.local = original.or(ends.local);
    let other = ends.local.and_then(|destination| worker.listener_at(destination));
    (other.unwrap_or(active), ends, original.is_some())
}

async fn run(worker: Rc<Worker>, active: Rc<Active>, stream: redis::Stream, mut session: Session) {
    let Some((stream, arrival)) = filter(&worker, stream, &mut session).await else {
        return;
    };
    let choice = choose(&session.prepared.config, &arrival);
    let Some(chain) = session.prepared.chain(choice).cloned() else {
        session.refuse(
            names::NO_FILTER_CHAIN_MATCH,
            ResponseFlags::NO_ROUTE_FOUND,
            "filter_chain_not_found",
        );
        return;
    };
    session.enter(&chain);
    if let Terminal::Inert { reason } = &chain.config.terminal {
        let flags = ResponseFlags::NO_FILTER_CONFIG_FOUND;
        return session.refuse(names::NETWORK_EXTENSION_CONFIG_MISSING, flags, reason);
    }
    let Some(tls) = &chain.tls else {
        return match &chain.config.terminal {
            Terminal::Redis(_) => hand_over(&worker, &active, stream, None, session),
            Terminal::Tcp(filter) => match Stream::register(stream) {
                Ok(stream) => tcp_proxy::serve(worker, filter, stream, session).await,
                Err(error) => session.detail(error.to_string()),
            },
            Terminal::Inert { .. } => {}
        };
    };
    let Ok(stream) = Stream::register(stream) else {
        return;
    };
    let stream = match tls
        .handshake(stream, chain.config.handshake_timeout, &session.stats.ssl)
        .await
    {
        Ok(stream) => stream,
        Err(error) => return session.no_handshake(&error),
    };
    session.secured(stream.get_ref().1);
    match &chain.config.terminal {
        Terminal::Redis(_) => {
            let (stream, tls) = stream.into_inner();
            match stream.release() {
                Ok(stream) => hand_over(&worker, &active, stream, Some(Box::new(tls)), session),
                Err(error) => session.detail(error.to_string()),
            }
        }
        Terminal::Tcp(filter) => tcp_proxy::serve(worker, filter, stream, session).await,
        Terminal::Inert { .. } => {}
    }
}

/// Runs the listener filters; `None` ends the connection.
async fn filter(
    worker: &Worker,
    stream: redis::Stream,
    session: &mut Session,
) -> Option<(redis::Stream, Arrival)> {
    let config = session.prepared.config.clone();
    let mut arrival = Arrival {
        destination: session.ends.local,
        source: session.ends.remote,
        ..Arrival::default()
    };
    let port = arrival.destination.map_or(0, |destination| destination.port());
    let disabled = config
        .tls_inspector_disabled
        .as_ref()
        .is_some_and(|rule| rule.matches(port));
    if !config.tls_inspector || disabled {
        return Some((stream, arrival));
    }
    let _waiting = session.wait();
    let inspected = Inspected::new(stream).ok()?;
    let limit = config.listener_filters_timeout;
    let looking = inspected.look(&worker.inspector);
    let seen = if limit.is_zero() {
        Some(looking.await)
    } else {
        tokio::time::timeout(limit, looking).await.ok()
    };
    match seen {
        Some(Ok(seen)) => {
            session.server_name.clone_from(&seen.server_name);
            arrival.is_tls = seen.is_tls;
            arrival.server_name = seen.server_name;
            arrival.application_protocols = seen.application_protocols;
        }
        Some(Err(lost)) => {
            session.stats.listener.inc(match lost {
                Lost::Closed => names::DOWNSTREAM_LISTENER_FILTER_REMOTE_CLOSE,
                Lost::TooLarge | Lost::Error => names::DOWNSTREAM_LISTENER_FILTER_ERROR,
            });
            return None;
        }
        None => {
            session.stats.listener.inc(names::DOWNSTREAM_PRE_CX_TIMEOUT);
            if !config.continue_on_listener_filters_timeout {
                session.detail("listener_filters_timeout".to_owned());
                return None;
            }
        }
    }
    Some((inspected.into_stream(), arrival))
}

/// Gives the connection to the Redis driver; it is over when the driver says so.
fn hand_over(
    worker: &Worker,
    active: &Rc<Active>,
    stream: redis::Stream,
    tls: Option<Box<ServerConnection>>,
    mut session: Session,
) {
    let Ends { local, remote } = session.ends;
    let chain = session.chain_name();
    // The listener stays as long as a connection of it does.
    let active = Rc::clone(active);
    let listener = Arc::clone(&active.name);
    let on_close = Box::new(move |closed: redis::Closed| {
        session.received = closed.received;
        session.sent = closed.sent;
        drop((session, active));
    });
    let accepted = redis::Accepted {
        stream,
        tls,
        listener,
        chain,
        local,
        remote,
    };
    worker
        .driver
        .tell(redis::Command::Serve(Box::new(accepted), on_close));
}
