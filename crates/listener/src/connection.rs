//! One connection, from accept to its terminal filter: original destination, listener filters, chain, TLS.
//!
//! A connection takes the version of its listener that is current when it comes and keeps it; the Redis driver looks
//! its configuration up anew for every batch.
//!
//! Envoy: `ActiveTcpSocket`, `ActiveTcpListener::newConnection`.

mod session;

use std::rc::Rc;
use std::sync::Arc;

use redplane_config::listener::{Direction, Listener, Terminal};
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::listener as names;
use rustls::ServerConnection;
use socket2::Socket;

use crate::chain::choose;
use crate::facts::ConnectionFacts;
use crate::filters;
use crate::hops;
use crate::redis;
use crate::stream::{Stream, accepted};
use crate::tcp_proxy;
use crate::worker::{Active, Worker};

pub(crate) use session::Session;

/// Serves an accepted socket to its end, or until it is handed over.
pub(crate) async fn serve(worker: Rc<Worker>, active: Rc<Active>, socket: Socket) {
    // The client went away before anything was known of it.
    let Ok((stream, ends)) = accepted(socket) else {
        return;
    };
    let mut facts = ConnectionFacts::new(ends.local, ends.remote);
    facts.hops = hops::passes(ends.remote);
    let goes_round = facts.hops >= hops::MOST;
    let mut session = Session::new(&active, facts);
    if goes_round {
        tracing::warn!(listener = &*active.name, source = ?ends.remote, destination = ?ends.local, "a connection goes round");
        return session.detail("it has passed through this process too often".to_owned());
    }
    let filtered = tokio::select! {
        biased;
        () = active.gone() => return,
        filtered = filter(&worker, &active, stream, &mut session) => filtered,
    };
    let Some((active, stream)) = filtered else {
        return;
    };
    let listener = Rc::clone(&active);
    tokio::select! {
        biased;
        () = listener.gone() => {}
        () = run(worker, active, stream, session) => {}
    }
}

/// Runs the listener filters, those of the listener that the connection is handed to as well; `None` ends it.
async fn filter(
    worker: &Worker,
    active: &Rc<Active>,
    stream: redis::Stream,
    session: &mut Session,
) -> Option<(Rc<Active>, redis::Stream)> {
    let config = Arc::clone(&session.prepared.config);
    let stream = filters::run(&worker.filter_stats, &config, stream, session).await?;
    let Some(other) = successor(worker, &config, &session.facts) else {
        return Some((Rc::clone(active), stream));
    };
    session.hand_to(&other);
    let config = Arc::clone(&session.prepared.config);
    let stream = filters::run(&worker.filter_stats, &config, stream, session).await?;
    Some((other, stream))
}

/// The listener of the original destination, if `use_original_dst` hands connections off. Handed over once at most, and
/// never from inbound to outbound: what came in for the application must not go out again.
fn successor(worker: &Worker, config: &Listener, facts: &ConnectionFacts) -> Option<Rc<Active>> {
    if !config.hands_off {
        return None;
    }
    let other = worker.listener_at(facts.destination?)?;
    let towards = other.version().0.config.direction;
    let turns_round = config.direction == Direction::Inbound && towards == Direction::Outbound;
    (!turns_round).then_some(other)
}

async fn run(worker: Rc<Worker>, active: Rc<Active>, stream: redis::Stream, mut session: Session) {
    let choice = choose(&session.prepared.config, &session.facts);
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

/// Gives the connection to the Redis driver; it is over when the driver says so.
fn hand_over(
    worker: &Worker,
    active: &Rc<Active>,
    stream: redis::Stream,
    tls: Option<Box<ServerConnection>>,
    mut session: Session,
) {
    let (local, remote) = (session.facts.destination, session.facts.source);
    let chain = session
        .chain()
        .map_or_else(|| "".into(), |chain| Arc::clone(&chain.config.id));
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
