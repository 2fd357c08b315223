//! The driver of one worker: one poll instance for all Redis sockets, one turn per wake-up.
//!
//! Tokio is paid per turn, not per request: the poll instance's descriptor is the only thing registered with it. In a
//! turn every ready socket is read, then each upstream connection with something to say is written once, then each
//! client. Idle connections own no buffer: all reads go into one that the worker shares.
//!
//! Should the engine ever panic, its worker's connections close and a fresh engine takes over; nothing else is touched.

mod logins;
mod sockets;
mod traffic;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Wake, Waker};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token};
use redplane_proxy::{ClientId, ConnId, Context, Engine};
use redplane_upstream::Dns;
use slab::Slab;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::time::Sleep;

use self::logins::Logins;
use super::socket::Socket;
use super::{Closed, Command, Handle};
use crate::descriptor::watch;

/// Events handled in one turn: enough for the whole gain of batching, few enough to keep latency even.
const EVENTS: usize = 256;
/// With so many events in a turn there are more by its end: the next look is at our own poll instance at once, without
/// a wait of tokio's in between.
const CROWD: usize = 8;
/// Turns in a row that begin so. Then tokio looks at the other descriptors of the thread.
const STREAK: u32 = 4;
/// The buffer that all sockets are read into.
const SHARED: usize = 64 * 1024;

/// Set in the token of an upstream connection.
const UPSTREAM: usize = 1 << 40;
/// Letters from other workers: they only start a turn. No connection ever has this number, so that nothing else comes of
/// the event.
const LETTERS: Token = Token(UPSTREAM | u32::MAX as usize);

/// Starts a turn from another thread.
struct Bell(mio::Waker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if let Err(error) = self.0.wake() {
            tracing::error!(target: "redis", %error, "a worker could not be woken");
        }
    }
}

struct ClientSocket {
    socket: Socket,
    on_close: Option<Box<dyn FnOnce(Closed)>>,
}

impl Drop for ClientSocket {
    /// Also when a driver goes down with all its connections.
    fn drop(&mut self) {
        if let Some(on_close) = self.on_close.take() {
            on_close(Closed { received: 0, sent: 0 });
        }
    }
}

/// What reaches the driver from its own thread between turns.
#[derive(Default)]
struct Inbox {
    commands: RefCell<VecDeque<Command>>,
    resolved: RefCell<VecDeque<(u64, Option<std::net::IpAddr>)>>,
    told: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Inbox {
    /// There is something new in it.
    fn wake(&self) {
        self.told.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether there was something new since the last call.
    fn poll_told(&self, cx: &task::Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.told.take()
    }
}

struct Driver {
    engine: Engine,
    poll: Poll,
    clients: Vec<Option<ClientSocket>>,
    upstreams: Vec<Option<Socket>>,
    shared: Vec<u8>,
    inbox: Rc<Inbox>,
    dns: Dns,
    logins: Logins,
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
    let inbox = Rc::new(Inbox::default());
    let first = Driver::new(context.clone(), dns.clone(), inbox.clone())?;
    tokio::task::spawn_local(supervise(first, context, dns, inbox.clone()));
    Ok(Handle::new(move |command| {
        inbox.commands.borrow_mut().push_back(command);
        inbox.wake();
    }))
}

/// Runs a driver, and a fresh one after a panic.
async fn supervise(first: (Driver, AsyncFd<Registry>), context: Context, dns: Dns, inbox: Rc<Inbox>) {
    let mut next = Ok(first);
    loop {
        match next {
            Ok((driver, descriptor)) => {
                let ended = tokio::task::spawn_local(run(driver, descriptor)).await;
                tracing::error!(target: "redis", ?ended, "the worker's redis driver ended and is started anew");
            }
            Err(error) => {
                tracing::error!(target: "redis", %error, "the worker's redis driver could not be started");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        next = Driver::new(context.clone(), dns.clone(), inbox.clone());
    }
}

/// One wake-up, one turn.
async fn run(mut driver: Driver, descriptor: AsyncFd<Registry>) {
    let mut events = Events::with_capacity(EVENTS);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut streak = 0;
    loop {
        let busy = !driver.unfinished.is_empty();
        match poll_fn(|cx| reason(cx, &descriptor, &driver.inbox, timer.as_mut(), busy)).await {
            Ok(Some(mut ready)) => {
                let found = driver.poll(&mut events);
                streak = if found < CROWD { STREAK } else { streak + 1 };
                // Events that come after this poll make the descriptor ready anew, so that readiness may be cleared at
                // once, unless the poll has filled its list.
                if streak >= STREAK && found < EVENTS {
                    ready.clear_ready();
                    streak = 0;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(target: "redis", %error, "the worker's poll instance failed");
                return;
            }
        }
        driver.turn(&mut events);
        // The timer only wakes; whether a tick is due, each turn sees by its own time, also when it is never idle.
        if driver.tick_at.is_none() {
            timer = driver.plan_tick().map(|wait| Box::pin(tokio::time::sleep(wait)));
        }
    }
}

/// Why there is a turn; a guard when it is for events. Polled by hand: futures made anew for each turn cost more than
/// the turn of a lone request.
fn reason<'a>(
    cx: &mut task::Context<'_>,
    descriptor: &'a AsyncFd<Registry>,
    inbox: &Inbox,
    timer: Option<&mut Pin<Box<Sleep>>>,
    busy: bool,
) -> task::Poll<io::Result<Option<AsyncFdReadyGuard<'a, Registry>>>> {
    if let task::Poll::Ready(ready) = descriptor.poll_read_ready(cx) {
        return task::Poll::Ready(ready.map(Some));
    }
    let told = inbox.poll_told(cx);
    let due = timer.is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
    if !(busy || told || due) {
        return task::Poll::Pending;
    }
    // However busy, the other tasks of this thread get their turns.
    tokio::task::coop::poll_proceed(cx).map(|progress| {
        progress.made_progress();
        Ok(None)
    })
}

impl Driver {
    fn new(context: Context, dns: Dns, inbox: Rc<Inbox>) -> io::Result<(Self, AsyncFd<Registry>)> {
        let poll = Poll::new()?;
        let descriptor = watch(poll.registry().try_clone()?)?;
        let engine = Engine::new(context);
        engine.wake_by(Arc::new(Bell(mio::Waker::new(poll.registry(), LETTERS)?)).into());
        let driver = Self {
            engine,
            poll,
            clients: Vec::new(),
            upstreams: Vec::new(),
            shared: vec![0; SHARED],
            logins: Logins::new(inbox.clone()),
            inbox,
            dns,
            started: Instant::now(),
            unfinished: Vec::new(),
            graces: Slab::new(),
            tick_at: None,
        };
        Ok((driver, descriptor))
    }

    /// Collects events without waiting; says how many.
    fn poll(&mut self, events: &mut Events) -> usize {
        if let Err(error) = self.poll.poll(events, Some(Duration::ZERO))
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(target: "redis", %error, "polling failed");
        }
        events.iter().count()
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

    fn commands(&mut self) {
        let inbox = self.inbox.clone();
        while let Some((ticket, address)) = take(&inbox.resolved) {
            self.engine.resolved(ticket, address);
        }
        while let Some((ticket, verdict)) = self.logins.next() {
            self.engine.authenticated(ticket, &verdict);
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
                self.close_client(id);
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

fn take<T>(queue: &RefCell<VecDeque<T>>) -> Option<T> {
    queue.borrow_mut().pop_front()
}
