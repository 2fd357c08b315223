//! The driver of one worker: a thread of its own, one poll instance for all Redis sockets, one turn per wake-up.
//!
//! In a turn every ready socket is read, then each upstream connection with something to say is written once, then each
//! client. Idle connections own no buffer: all reads go into one that the thread shares. What needs a runtime (names,
//! logins that a service decides on) is done on the other thread of the worker (`io_task`).
//!
//! Should the engine ever panic, its worker's connections close and a fresh engine takes over; nothing else is touched.

mod sockets;
mod traffic;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token};
use redplane_proxy::{ClientId, ConnId, Context, Engine};
use slab::Slab;

use super::Whose;
use super::inbox::{Inbox, Message};
use super::io_task::{ConnectionHandle, Outbox};
use super::socket::Socket;

/// Events handled in one turn: enough for the whole gain of batching, few enough to keep latency even.
const EVENTS: usize = 256;
/// The buffer that all sockets are read into.
const SHARED: usize = 64 * 1024;
/// Pause after a failure of the poll instance itself.
const PAUSE: Duration = Duration::from_millis(100);
/// Rounds of writing in one turn. A client whose input rests until its replies are written sends its next request in the
/// next round: without an end the others would wait for as long as it has requests.
const ROUNDS: usize = 8;

/// Set in the token of an upstream connection.
const UPSTREAM: usize = 1 << 40;
/// Messages from other threads: they only start a turn. No connection ever has this number, so that nothing else comes
/// of the event.
pub(super) const MESSAGES: Token = Token(UPSTREAM | u32::MAX as usize);

struct ClientSocket {
    socket: Socket,
    handle: ConnectionHandle,
}

/// What one turn leaves to the next, which does not wait then.
#[derive(Default)]
struct Left {
    /// Sockets that have more to read than one turn allows, or that may be read from again, once each.
    to_read: Vec<Token>,
    /// Those that would take more than one turn gives them, once each.
    to_write: Vec<Token>,
    /// There is more to write than the rounds of the turn allowed.
    rounds: bool,
}

impl Left {
    fn is_something(&self) -> bool {
        self.rounds || !self.to_read.is_empty() || !self.to_write.is_empty()
    }
}

/// The time as turns see it.
struct Clock {
    started: Instant,
    /// The time of the last turn, in microseconds from then.
    now: u64,
    tick: Tick,
}

impl Clock {
    /// The turn's time in microseconds.
    fn read(&self) -> u64 {
        // The one clock read of the turn.
        Instant::now().duration_since(self.started).as_micros() as u64
    }
}

/// When the next tick is due.
#[derive(Default)]
struct Tick {
    /// On the turn's clock; `None` when nothing waits for time to pass.
    at: Option<u64>,
    /// It was planned while requests waited; otherwise it may be far away.
    is_near: bool,
}

struct Driver {
    engine: Engine,
    registry: Registry,
    clients: Vec<Option<ClientSocket>>,
    upstreams: Vec<Option<Socket>>,
    shared: Vec<u8>,
    inbox: Arc<Inbox>,
    outbox: Outbox,
    clock: Clock,
    left: Left,
    graces: Slab<(Whose, Instant)>,
    stopped: bool,
}

/// The body of a driver's thread: runs a driver, and a fresh one after a panic, until it is told to stop.
pub(super) fn run(context: &Context, mut poll: Poll, inbox: &Arc<Inbox>, outbox: &Outbox) {
    let mut outbox = outbox.clone();
    loop {
        let driver = Driver::new(context.clone(), &poll, inbox.clone(), outbox.clone());
        // A driver that goes down takes its sockets along; the poll instance is as good as new then.
        let ended = catch_unwind(AssertUnwindSafe(|| driver.map(|driver| driver.run(&mut poll))));
        match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(target: "redis", %error, "the worker's redis driver could not be started");
                std::thread::sleep(PAUSE);
            }
            Err(_) => {
                tracing::error!(target: "redis", "the worker's redis driver ended and is started anew");
            }
        }
        outbox = outbox.successor();
    }
}

impl Driver {
    fn new(context: Context, poll: &Poll, inbox: Arc<Inbox>, outbox: Outbox) -> io::Result<Self> {
        let engine = Engine::new(context);
        engine.wake_by(inbox.clone().into());
        Ok(Self {
            engine,
            registry: poll.registry().try_clone()?,
            clients: Vec::new(),
            upstreams: Vec::new(),
            shared: vec![0; SHARED],
            inbox,
            outbox,
            clock: Clock {
                started: Instant::now(),
                now: 0,
                tick: Tick::default(),
            },
            left: Left::default(),
            graces: Slab::new(),
            stopped: false,
        })
    }

    /// One wake-up, one turn.
    fn run(mut self, poll: &mut Poll) {
        let mut events = Events::with_capacity(EVENTS);
        // Messages that came before this driver took another's place woke that one.
        self.turn(&mut events);
        while !self.stopped {
            if let Err(error) = poll.poll(&mut events, self.patience())
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(target: "redis", %error, "polling failed");
                std::thread::sleep(PAUSE);
            }
            self.turn(&mut events);
        }
    }

    /// How long nothing may happen before the next turn.
    fn patience(&mut self) -> Option<Duration> {
        if self.left.is_something() {
            return Some(Duration::ZERO);
        }
        let waits = self.engine.is_waiting();
        if self.clock.tick.at.is_none() || waits && !self.clock.tick.is_near {
            self.plan_tick();
            self.clock.tick.is_near = waits;
        }
        self.clock
            .tick
            .at
            .map(|at| Duration::from_micros(at.saturating_sub(self.clock.now)))
    }

    fn turn(&mut self, events: &mut Events) {
        let now = self.clock.read();
        self.clock.now = now;
        self.engine.begin_turn(now);
        self.read_messages();
        if self.clock.tick.at.is_some_and(|at| now >= at) {
            self.clock.tick.at = None;
            self.engine.tick();
            self.end_graces();
        }
        for token in std::mem::take(&mut self.left.to_write) {
            self.write_on(token);
        }
        for token in std::mem::take(&mut self.left.to_read) {
            self.read_on(token);
        }
        for event in events.iter() {
            let token = event.token();
            let ended = event.is_read_closed() || event.is_error();
            if ended {
                self.hung_up(token);
            }
            if event.is_writable() {
                self.writable(token);
            }
            if event.is_readable() || ended {
                self.readable(token);
            }
        }
        events.clear();
        self.write_out();
    }

    /// Upstreams first, so that servers work while clients are answered; then whatever that led to, for some rounds.
    fn write_out(&mut self) {
        self.left.rounds = false;
        for _ in 0..ROUNDS {
            self.act();
            let upstreams = self.engine.take_dirty_connections();
            let clients = self.engine.take_dirty_clients();
            if upstreams.is_empty() && clients.is_empty() {
                self.engine.recycle_connections(upstreams);
                self.engine.recycle_clients(clients);
                return;
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
        self.act();
        self.left.rounds = true;
    }

    fn read_messages(&mut self) {
        while let Some(message) = self.inbox.next() {
            match message {
                Message::Serve(accepted, handle) => {
                    // A client that has just ended may leave its number to this one: its socket goes first.
                    self.act();
                    self.serve(*accepted, handle);
                }
                Message::Drain { whose, grace } => {
                    match &whose {
                        Whose::Listener(name) => self.engine.drain(name),
                        Whose::Chain(life) => self.engine.drain_chain(*life),
                    }
                    self.graces.insert((whose, Instant::now() + grace));
                }
                Message::Resolved(mark, address) if self.outbox.is_own(mark) => {
                    self.engine.resolved(mark.ticket, address);
                }
                Message::Decided(mark, verdict) if self.outbox.is_own(mark) => {
                    self.engine.authenticated(mark.ticket, &verdict);
                }
                // For a driver that went down.
                Message::Resolved(..) | Message::Decided(..) => {}
                Message::Stop => self.stopped = true,
            }
        }
    }

    /// Closes what is left of listeners and chains whose drain time is over.
    fn end_graces(&mut self) {
        let now = Instant::now();
        let over: Vec<usize> = self
            .graces
            .iter()
            .filter(|(_, (_, end))| *end <= now)
            .map(|(key, _)| key)
            .collect();
        for key in over {
            let (whose, _) = self.graces.remove(key);
            let left = match &whose {
                Whose::Listener(name) => self.engine.clients_of(name),
                Whose::Chain(life) => self.engine.clients_of_chain(*life),
            };
            for id in left {
                self.close_client(id);
            }
        }
    }

    fn plan_tick(&mut self) {
        if let Some(wait) = self.next_tick() {
            self.clock.tick.at = Some(self.clock.read() + wait.as_micros() as u64);
        }
    }

    fn next_tick(&self) -> Option<Duration> {
        let now = Instant::now();
        let grace = self
            .graces
            .iter()
            .map(|(_, (_, end))| end.saturating_duration_since(now))
            .min();
        match (self.engine.next_tick(), grace) {
            (Some(tick), Some(grace)) => Some(tick.min(grace)),
            (tick, grace) => tick.or(grace),
        }
    }
}
