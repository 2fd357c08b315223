//! The driver of one worker: one poll instance for all Redis sockets, one turn per wake-up.
//!
//! Tokio is paid per turn, not per request: the poll instance's descriptor is the only thing registered with it. In a
//! turn every ready socket is read, then each upstream connection with something to say is written once, then each
//! client. Idle connections own no buffer: all reads go into one that the worker shares.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token};
use redplane_proxy::{Action, ClientId, ConnId, Context, Engine, Gone, Opened};
use redplane_upstream::{Cluster, ConnectingSocket, Dns, Host, Transport as HostTransport};
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::socket::{Got, Socket, Transport};
use super::{Accepted, Closed, Command, Handle, Stream};
use crate::descriptor::watch;

/// Events handled in one turn: enough for the whole gain of batching, few enough to keep latency even.
const EVENTS: usize = 256;
/// The buffer that all sockets are read into.
const SHARED: usize = 64 * 1024;
/// Reads from one socket in one turn, so that nobody is kept waiting by one who sends without end.
const READS: usize = 16;

/// Set in the token of an upstream connection.
const UPSTREAM: usize = 1 << 40;

struct ClientSocket {
    socket: Socket,
    on_close: Option<Box<dyn FnOnce(Closed)>>,
}

/// What reaches the driver from its own thread between turns.
#[derive(Default)]
struct Inbox {
    commands: RefCell<VecDeque<Command>>,
    resolved: RefCell<VecDeque<(u64, Option<std::net::IpAddr>)>>,
    wake: Notify,
}

struct Driver {
    engine: Engine,
    poll: Poll,
    clients: Vec<Option<ClientSocket>>,
    upstreams: Vec<Option<Socket>>,
    shared: Vec<u8>,
    inbox: Rc<Inbox>,
    dns: Dns,
    started: Instant,
    /// Sockets that have more to read than one turn allows.
    unfinished: Vec<Token>,
    graces: Slab<(String, Instant)>,
    /// When the next tick is due, on the turn's clock; `None` when nothing waits for time to pass.
    tick_at: Option<u64>,
}

/// Starts the driver of this worker inside the current `LocalSet`.
///
/// # Errors
///
/// The poll instance could not be made.
pub fn start(context: Context, dns: Dns) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let descriptor = watch(poll.registry().try_clone()?)?;
    let inbox = Rc::new(Inbox::default());
    let driver = Driver {
        engine: Engine::new(context),
        poll,
        clients: Vec::new(),
        upstreams: Vec::new(),
        shared: vec![0; SHARED],
        inbox: inbox.clone(),
        dns,
        started: Instant::now(),
        unfinished: Vec::new(),
        graces: Slab::new(),
        tick_at: None,
    };
    tokio::task::spawn_local(run(driver, descriptor));
    Ok(Handle::new(move |command| {
        inbox.commands.borrow_mut().push_back(command);
        inbox.wake.notify_one();
    }))
}

/// One wake-up, one turn.
async fn run(mut driver: Driver, descriptor: AsyncFd<Registry>) {
    let mut events = Events::with_capacity(EVENTS);
    let mut timer: Option<std::pin::Pin<Box<Sleep>>> = None;
    let inbox = driver.inbox.clone();
    loop {
        let busy = !driver.unfinished.is_empty();
        tokio::select! {
            biased;
            ready = descriptor.readable() => match ready {
                Ok(mut ready) => {
                    // Events that come after this poll make the descriptor ready anew, so that readiness may be
                    // cleared at once when the poll did not fill its list.
                    if driver.poll(&mut events) {
                        ready.clear_ready();
                    }
                }
                Err(error) => {
                    tracing::error!(target: "redis", %error, "the worker's poll instance failed");
                    return;
                }
            },
            () = inbox.wake.notified() => {}
            () = due(timer.as_mut()) => {}
            () = std::future::ready(()), if busy => {}
        }
        driver.turn(&mut events);
        // The timer only wakes; whether a tick is due, each turn sees by its own time, also when it is never idle.
        if driver.tick_at.is_none() {
            timer = driver.plan_tick().map(|wait| Box::pin(tokio::time::sleep(wait)));
        }
    }
}

async fn due(timer: Option<&mut std::pin::Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// Collects events without waiting; true when there were fewer than would fit.
    fn poll(&mut self, events: &mut Events) -> bool {
        if let Err(error) = self.poll.poll(events, Some(Duration::ZERO))
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(target: "redis", %error, "polling failed");
        }
        events.iter().count() < EVENTS
    }

    fn turn(&mut self, events: &mut Events) {
        let now = self.started_for();
        self.engine.begin_turn(now);
        self.commands();
        if self.tick_at.is_some_and(|at| now >= at) {
            self.tick_at = None;
            self.engine.tick();
            self.end_graces();
        }
        for token in std::mem::take(&mut self.unfinished) {
            self.readable(token);
        }
        for event in events.iter() {
            let token = event.token();
            if event.is_read_closed() || event.is_error() {
                self.hung_up(token);
            }
            if event.is_writable() {
                self.writable(token);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.readable(token);
            }
        }
        events.clear();
        self.write_out();
    }

    /// The turn's time in microseconds.
    fn started_for(&self) -> u64 {
        // The one clock read of the turn.
        Instant::now().duration_since(self.started).as_micros() as u64
    }

    /// Upstreams first, so that servers work while clients are answered; then whatever that led to.
    fn write_out(&mut self) {
        loop {
            self.act();
            let upstreams = self.engine.take_dirty_connections();
            let clients = self.engine.take_dirty_clients();
            if upstreams.is_empty() && clients.is_empty() {
                self.engine.recycle_connections(upstreams);
                self.engine.recycle_clients(clients);
                break;
            }
            for &id in &upstreams {
                self.write_upstream(ConnId(id));
            }
            for &id in &clients {
                self.write_client(ClientId(id));
            }
            self.engine.recycle_connections(upstreams);
            self.engine.recycle_clients(clients);
        }
    }

    fn write_client(&mut self, id: ClientId) {
        let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
            return;
        };
        loop {
            let Some(output) = self.engine.client_output(id) else {
                return;
            };
            let written = if client.socket.blocked {
                Ok(0)
            } else {
                client.socket.write(output)
            };
            match written {
                Ok(count) => {
                    let more = self.engine.client_wrote(id, count);
                    if !more || client.socket.blocked || count == 0 {
                        return;
                    }
                }
                Err(_) => return self.close_client(id, true),
            }
        }
    }

    fn write_upstream(&mut self, id: ConnId) {
        let Some(Some(socket)) = self.upstreams.get_mut(id.0 as usize) else {
            return;
        };
        loop {
            let Some(output) = self.engine.upstream_output(id) else {
                return;
            };
            if output.unwritten() == 0 || socket.blocked {
                return;
            }
            match socket.write(output) {
                Ok(count) => {
                    let more = self.engine.upstream_wrote(id, count);
                    if !more || socket.blocked || count == 0 {
                        return;
                    }
                }
                Err(_) => {
                    self.forget_upstream(id);
                    return self.engine.upstream_gone(id, Gone::Remote);
                }
            }
        }
    }

    fn hung_up(&mut self, token: Token) {
        let socket = match token.0 & UPSTREAM {
            0 => self
                .clients
                .get_mut(token.0)
                .and_then(Option::as_mut)
                .map(|client| &mut client.socket),
            _ => self
                .upstreams
                .get_mut(token.0 ^ UPSTREAM)
                .and_then(Option::as_mut),
        };
        if let Some(socket) = socket {
            socket.hung_up = true;
        }
    }

    fn writable(&mut self, token: Token) {
        if token.0 & UPSTREAM == 0 {
            let Some(Some(client)) = self.clients.get_mut(token.0) else {
                return;
            };
            if client.socket.blocked {
                client.socket.blocked = false;
                if client.socket.flush_records().is_err() {
                    return self.close_client(ClientId(token.0 as u32), true);
                }
                self.write_client(ClientId(token.0 as u32));
            }
            return;
        }
        let id = ConnId((token.0 ^ UPSTREAM) as u32);
        let Some(Some(socket)) = self.upstreams.get_mut(id.0 as usize) else {
            return;
        };
        if !self.engine.is_connected(id) {
            return self.connecting(id);
        }
        if socket.blocked {
            socket.blocked = false;
            if socket.flush_records().is_err() {
                self.forget_upstream(id);
                return self.engine.upstream_gone(id, Gone::Remote);
            }
            self.write_upstream(id);
        }
    }

    /// A connection under way: the transport first, then TLS.
    fn connecting(&mut self, id: ConnId) {
        let Some(Some(socket)) = self.upstreams.get_mut(id.0 as usize) else {
            return;
        };
        socket.blocked = false;
        let made = socket.connection_made().and_then(|made| {
            if made {
                socket.flush_records()?;
            }
            Ok(made && socket.is_ready())
        });
        match made {
            Ok(true) => self.engine.connected(id),
            Ok(false) => {}
            Err(error) => self.refused(id, &error),
        }
    }

    fn refused(&mut self, id: ConnId, error: &io::Error) {
        tracing::debug!(target: "upstream", %error, "connecting failed");
        self.forget_upstream(id);
        self.engine.upstream_gone(id, Gone::Refused);
    }

    fn readable(&mut self, token: Token) {
        let done = match token.0 & UPSTREAM {
            0 => self.read_client(ClientId(token.0 as u32)),
            _ => self.read_upstream(ConnId((token.0 ^ UPSTREAM) as u32)),
        };
        if !done {
            self.unfinished.push(token);
        }
    }

    /// False when there is more to read than one turn allows.
    fn read_client(&mut self, id: ClientId) -> bool {
        for _ in 0..READS {
            let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
                return true;
            };
            if !self.engine.client_readable(id) {
                return true;
            }
            let got = match self.engine.client_room(id) {
                Some(room) => client.socket.read(room),
                None => client.socket.read(&mut self.shared),
            };
            let hung_up = client.socket.hung_up;
            match got {
                Ok(Got::More(count)) => self.engine.client_received(id, &self.shared, count),
                Ok(Got::Last(count)) => {
                    if count > 0 {
                        self.engine.client_received(id, &self.shared, count);
                    }
                    if !hung_up || count == 0 {
                        return true;
                    }
                }
                Ok(Got::End) => {
                    self.engine.client_finished(id);
                    return true;
                }
                Err(_) => {
                    self.close_client(id, true);
                    return true;
                }
            }
        }
        false
    }

    fn read_upstream(&mut self, id: ConnId) -> bool {
        for _ in 0..READS {
            let Some(Some(socket)) = self.upstreams.get_mut(id.0 as usize) else {
                return true;
            };
            let got = match self.engine.upstream_room(id) {
                Some(room) => socket.read(room),
                None => socket.read(&mut self.shared),
            };
            let hung_up = socket.hung_up;
            if socket.is_tls() && !self.engine.is_connected(id) && got.is_ok() && socket.is_ready() {
                self.engine.connected(id);
            }
            match got {
                Ok(Got::More(count)) => self.engine.upstream_received(id, &self.shared, count),
                Ok(Got::Last(count)) => {
                    if count > 0 {
                        self.engine.upstream_received(id, &self.shared, count);
                    }
                    if !hung_up || count == 0 {
                        return true;
                    }
                }
                Ok(Got::End) | Err(_) => {
                    let why = if self.engine.is_connected(id) {
                        Gone::Remote
                    } else {
                        Gone::Refused
                    };
                    if let Err(error) = got {
                        tracing::debug!(target: "upstream", %error, "connection failed");
                    }
                    self.forget_upstream(id);
                    self.engine.upstream_gone(id, why);
                    return true;
                }
            }
        }
        false
    }

    /// What the engine wants done with sockets.
    fn act(&mut self) {
        loop {
            let actions = self.engine.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Connect(id, cluster, host) => self.connect(id, &cluster, &host),
                    Action::CloseUpstream(id) => self.forget_upstream(id),
                    Action::CloseClient(id) => self.close_client(id, false),
                    Action::Resume(id) => {
                        if !self.read_client(id) {
                            self.unfinished.push(Token(id.0 as usize));
                        }
                    }
                    Action::Resolve {
                        ticket,
                        host,
                        cluster,
                    } => self.resolve(ticket, host, &cluster),
                }
            }
        }
    }

    fn connect(&mut self, id: ConnId, cluster: &Arc<Cluster>, host: &Arc<Host>) {
        match self.open(id, cluster, host) {
            Ok(socket) => put(&mut self.upstreams, id.0 as usize, socket),
            Err(error) => {
                tracing::debug!(target: "upstream", %error, "connecting failed");
                self.engine.upstream_gone(id, Gone::Refused);
            }
        }
    }

    fn open(&self, id: ConnId, cluster: &Cluster, host: &Host) -> io::Result<Socket> {
        let transport = match redplane_upstream::socket_for(cluster, host)? {
            ConnectingSocket::Tcp(stream) => Transport::Tcp(mio::net::TcpStream::from_std(stream)),
            ConnectingSocket::Unix(stream) => Transport::Unix(mio::net::UnixStream::from_std(stream)),
        };
        let mut socket = match &host.transport {
            HostTransport::Tls(config, name) => Socket::client(transport, config, name.clone())?,
            _ => Socket::plain(transport),
        };
        socket.register(self.poll.registry(), Token(UPSTREAM | id.0 as usize))?;
        Ok(socket)
    }

    fn resolve(&self, ticket: u64, host: String, cluster: &Cluster) {
        let (inbox, dns) = (self.inbox.clone(), self.dns.clone());
        let family = match &cluster.config().discovery {
            redplane_config::cluster::Discovery::Redis(redis) => redis.family,
            _ => redplane_config::cluster::DnsFamily::Auto,
        };
        tokio::task::spawn_local(async move {
            let address = dns
                .resolve(&host, family)
                .await
                .ok()
                .and_then(|found| found.addresses.first().copied());
            inbox.resolved.borrow_mut().push_back((ticket, address));
            inbox.wake.notify_one();
        });
    }

    /// The engine has forgotten the connection; its socket goes.
    fn forget_upstream(&mut self, id: ConnId) {
        if let Some(mut socket) = self.upstreams.get_mut(id.0 as usize).and_then(Option::take) {
            socket.farewell();
            socket.deregister(self.poll.registry());
        }
    }

    /// `broken`: the engine does not know yet.
    fn close_client(&mut self, id: ClientId, broken: bool) {
        if broken {
            self.engine.client_closed(id);
        }
        let Some(mut client) = self.clients.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        if !broken {
            client.socket.farewell();
        }
        client.socket.deregister(self.poll.registry());
        if let Some(on_close) = client.on_close.take() {
            let (received, sent) = self.engine.traffic_of_closed();
            on_close(Closed { received, sent });
        }
    }

    fn commands(&mut self) {
        let inbox = self.inbox.clone();
        while let Some((ticket, address)) = take(&inbox.resolved) {
            self.engine.resolved(ticket, address);
        }
        while let Some(command) = take(&inbox.commands) {
            match command {
                Command::Serve(accepted) => {
                    // A client that has just ended may leave its number to this one: its socket goes first.
                    self.act();
                    self.serve(*accepted);
                }
                Command::Drain { listener, grace } => {
                    self.engine.drain(&listener);
                    self.graces.insert((listener, Instant::now() + grace));
                }
            }
        }
    }

    fn serve(&mut self, accepted: Accepted) {
        let opened = Opened {
            listener: accepted.listener,
            chain: accepted.chain,
            remote: accepted.remote,
            local: accepted.local,
        };
        let transport = match accepted.stream {
            Stream::Tcp(stream) => Transport::Tcp(mio::net::TcpStream::from_std(stream)),
            Stream::Unix(stream) => Transport::Unix(mio::net::UnixStream::from_std(stream)),
        };
        let mut socket = match accepted.tls {
            Some(session) => Socket::server(transport, session),
            None => Socket::plain(transport),
        };
        let Some(id) = self.engine.client_opened(opened) else {
            return (accepted.on_close)(Closed { received: 0, sent: 0 });
        };
        if let Err(error) = socket.register(self.poll.registry(), Token(id.0 as usize)) {
            tracing::warn!(target: "redis", %error, "a connection could not be watched");
            self.engine.client_closed(id);
            return (accepted.on_close)(Closed { received: 0, sent: 0 });
        }
        let client = ClientSocket {
            socket,
            on_close: Some(accepted.on_close),
        };
        put(&mut self.clients, id.0 as usize, client);
        // Bytes may have come before the socket was watched, or stand in the TLS session.
        if !self.read_client(id) {
            self.unfinished.push(Token(id.0 as usize));
        }
    }

    /// Closes what is left of listeners whose drain time is over.
    fn end_graces(&mut self) {
        let now = Instant::now();
        let over: Vec<usize> = self
            .graces
            .iter()
            .filter(|(_, (_, end))| *end <= now)
            .map(|(key, _)| key)
            .collect();
        for key in over {
            let (listener, _) = self.graces.remove(key);
            for id in self.engine.clients_of(&listener) {
                self.close_client(id, true);
            }
        }
    }

    /// Sets the next tick and says how long it is until then.
    fn plan_tick(&mut self) -> Option<Duration> {
        let wait = self.next_tick()?;
        self.tick_at = Some(self.started_for() + wait.as_micros() as u64);
        Some(wait)
    }

    fn next_tick(&self) -> Option<Duration> {
        let now = Instant::now;
        let grace = self
            .graces
            .iter()
            .map(|(_, (_, end))| end.saturating_duration_since(now()))
            .min();
        match (self.engine.next_tick(), grace) {
            (Some(tick), Some(grace)) => Some(tick.min(grace)),
            (tick, grace) => tick.or(grace),
        }
    }
}

fn put<T>(list: &mut Vec<Option<T>>, at: usize, item: T) {
    if list.len() <= at {
        list.resize_with(at + 1, || None);
    }
    if let Some(place) = list.get_mut(at) {
        *place = Some(item);
    }
}

fn take<T>(queue: &RefCell<VecDeque<T>>) -> Option<T> {
    queue.borrow_mut().pop_front()
}
