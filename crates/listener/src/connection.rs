//! One connection, from accept to its terminal filter: original destination, listener filters, chain, TLS.
//!
//! A connection takes the world that is current when it comes and keeps it until it is served; the Redis driver looks its
//! configuration up anew for every batch. When its chain goes, the connection ends with the chain's life.
//!
//! Envoy: `ActiveTcpSocket`, `ActiveTcpListener::newConnection`.

use std::rc::Rc;
use std::sync::Arc;

use redplane_config::listener::{Direction, Listener, Terminal};
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::listener as names;
use redplane_world::{Chain, ConnectionFacts, Listener as Prepared, Snapshot};
use rustls::ServerConnection;
use socket2::Socket;

use crate::access;
use crate::chain::chain_of;
use crate::filters;
use crate::hops;
use crate::http;
use crate::redis;
use crate::session::Session;
use crate::stream::{Stream, accepted};
use crate::tcp_proxy;
use crate::tls;
use crate::worker::{Active, Worker};

/// Serves an accepted socket to its end, or until it is handed over.
pub(crate) async fn serve(worker: Rc<Worker>, active: Rc<Active>, socket: Socket) {
    let world = worker.world();
    // It came while its listener went.
    let Some(listener) = world.listener(&active.name) else {
        return;
    };
    // The client went away before anything was known of it.
    let Ok((stream, ends)) = accepted(socket) else {
        return;
    };
    let mut facts = ConnectionFacts::new(ends.local, ends.remote);
    facts.hops = hops::passes(ends.remote);
    let goes_round = facts.hops >= hops::MOST;
    let stats = worker.stats(&active, &listener.config.stat_name);
    let mut session = Session::new(Arc::clone(listener), stats, facts);
    if goes_round {
        tracing::warn!(listener = &*active.name, source = ?ends.remote, destination = ?ends.local, "a connection goes round");
        return session.detail("it has passed through this process too often".to_owned());
    }
    let filtered = tokio::select! {
        biased;
        () = active.gone() => return,
        filtered = filter(&worker, &world, &active, stream, &mut session) => filtered,
    };
    let Some((active, stream)) = filtered else {
        return;
    };
    let listener = Rc::clone(&active);
    tokio::select! {
        biased;
        () = listener.gone() => {}
        () = run(worker, world, active, stream, session) => {}
    }
}

/// Runs the listener filters, those of the listener that the connection is handed to as well; `None` ends it.
async fn filter(
    worker: &Worker,
    world: &Snapshot,
    active: &Rc<Active>,
    stream: redis::Stream,
    session: &mut Session,
) -> Option<(Rc<Active>, redis::Stream)> {
    let config = Arc::clone(&session.prepared.config);
    let stream = filters::run(&worker.filter_stats, &config, stream, session).await?;
    let Some(listener) = successor(world, &config, &session.facts) else {
        return Some((Rc::clone(active), stream));
    };
    let other = worker.active(&listener.config.name);
    session.hand_to(listener, worker.stats(&other, &listener.config.stat_name));
    let config = Arc::clone(&session.prepared.config);
    let stream = filters::run(&worker.filter_stats, &config, stream, session).await?;
    Some((other, stream))
}

/// The listener of the original destination, if `use_original_dst` hands connections off. Handed over once at most, and
/// never from inbound to outbound: what came in for the application must not go out again.
fn successor<'a>(
    world: &'a Snapshot,
    config: &Listener,
    facts: &ConnectionFacts,
) -> Option<&'a Arc<Prepared>> {
    if !config.hands_off {
        return None;
    }
    let other = world.listener_at(facts.destination?)?;
    let turns_round = config.direction == Direction::Inbound && other.config.direction == Direction::Outbound;
    (!turns_round).then_some(other)
}

async fn run(
    worker: Rc<Worker>,
    world: Arc<Snapshot>,
    active: Rc<Active>,
    stream: redis::Stream,
    mut session: Session,
) {
    let Some(chain) = chain_of(&session.prepared, &session.facts).cloned() else {
        return session.refuse(
            names::NO_FILTER_CHAIN_MATCH,
            ResponseFlags::NO_ROUTE_FOUND,
            "filter_chain_not_found",
        );
    };
    session.enter(&chain);
    if let Terminal::Inert { reason } = &chain.config.terminal {
        let flags = ResponseFlags::NO_FILTER_CONFIG_FOUND;
        return session.refuse(names::NETWORK_EXTENSION_CONFIG_MISSING, flags, reason);
    }
    let serving = Serving {
        worker,
        world,
        active,
    };
    let life = Arc::clone(&chain.life);
    tokio::select! {
        biased;
        () = life.over() => {}
        () = serving.serve(&chain, stream, session) => {}
    }
}

/// What serves a connection that has its chain.
struct Serving {
    worker: Rc<Worker>,
    world: Arc<Snapshot>,
    active: Rc<Active>,
}

impl Serving {
    async fn serve(self, chain: &Arc<Chain>, stream: redis::Stream, mut session: Session) {
        let Some(server) = &chain.tls else {
            if !self.admits(chain, &mut session).await {
                return;
            }
            return match &chain.config.terminal {
                Terminal::Redis(_) => self.hand_over(chain, stream, None, session),
                Terminal::Tcp(filter) => match Stream::register(stream) {
                    Ok(stream) => tcp_proxy::serve(self.worker, self.world, filter, stream, session).await,
                    Err(error) => session.detail(error.to_string()),
                },
                Terminal::Http(_) => match Stream::register(stream) {
                    Ok(stream) => http::serve(&self.worker, &self.active, chain, stream, session).await,
                    Err(error) => session.detail(error.to_string()),
                },
                Terminal::Inert { .. } => {}
            };
        };
        let Ok(stream) = Stream::register(stream) else {
            return;
        };
        let limit = chain.config.handshake_timeout;
        let stream = match tls::handshake(server, stream, limit, &session.stats.ssl).await {
            Ok(stream) => stream,
            Err(error) => return session.no_handshake(&error),
        };
        session.secured(stream.get_ref().1);
        if !self.admits(chain, &mut session).await {
            return;
        }
        match &chain.config.terminal {
            Terminal::Redis(_) => {
                let (stream, tls) = stream.into_inner();
                match stream.release() {
                    Ok(stream) => self.hand_over(chain, stream, Some(Box::new(tls)), session),
                    Err(error) => session.detail(error.to_string()),
                }
            }
            Terminal::Tcp(filter) => {
                tcp_proxy::serve(self.worker, self.world, filter, stream, session).await;
            }
            Terminal::Http(_) => http::serve(&self.worker, &self.active, chain, stream, session).await,
            Terminal::Inert { .. } => {}
        }
    }

    /// Whether the chain's access rules let the client in; if not, it is kept waiting for as long as they say.
    async fn admits(&self, chain: &Chain, session: &mut Session) -> bool {
        let Some(denial) = access::decide(&self.worker, chain, &session.facts, &mut session.limit_permits)
        else {
            return true;
        };
        session.detail(denial.details);
        if !denial.delay.is_zero() {
            tokio::time::sleep(denial.delay).await;
        }
        false
    }

    /// Gives the connection to the Redis driver; it is over when the driver says so.
    fn hand_over(
        self,
        chain: &Arc<Chain>,
        stream: redis::Stream,
        tls: Option<Box<ServerConnection>>,
        mut session: Session,
    ) {
        // The listener stays as long as a connection of it does.
        let active = self.active;
        let accepted = redis::Accepted {
            stream,
            tls,
            listener: Arc::clone(&active.name),
            chain: Arc::clone(chain),
            local: session.facts.destination,
            remote: session.facts.source,
        };
        let on_close = Box::new(move |closed: redis::Closed| {
            session.received = closed.received;
            session.sent = closed.sent;
            drop((session, active));
        });
        self.worker
            .driver
            .tell(redis::Command::Serve(Box::new(accepted), on_close));
    }
}
