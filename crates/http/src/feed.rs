//! A request's body on its way to a server: streamed, and kept for another try as long as it is small enough.
//!
//! A [`Feed`] owns the client's body; each try reads it through a [`RequestBody`] of its own, from the start. What was
//! read is kept up to the buffer limit; beyond it nothing is kept, the request goes on and cannot be tried again.
//! Envoy: `retry_or_shadow_abandoned`. Mirrors hear what the tries read.

mod body;
mod tap;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::progress::Progress;
use body::Reader;
pub(crate) use body::RequestBody;
use tap::Tap;

/// Why a body ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// The client went away, or what it sent is no HTTP.
    Client,
    /// Another try has taken over.
    Superseded,
    /// The server went away, or what it sent is no HTTP.
    Server,
    /// It took too long.
    TooLate,
}

impl std::fmt::Display for BodyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "the client's body ended too early",
            Self::Superseded => "another try has taken over",
            Self::Server => "the server's body ended too early",
            Self::TooLate => "it took too long",
        })
    }
}

impl std::error::Error for BodyFault {}

/// The client's body.
#[derive(Clone)]
pub(crate) struct Feed(Rc<Shared>);

struct Shared {
    source: RefCell<Option<Incoming>>,
    kept: RefCell<Kept>,
    /// The try that reads at the moment.
    turn: Cell<u64>,
    ended: Cell<bool>,
    /// When it ended; before that, when it began.
    end_time: Cell<Instant>,
    end: Notify,
    /// The body waits until the server has said 100, or anything else.
    gate: Option<Gate>,
    /// Mirrors that hear what comes.
    taps: RefCell<Vec<Tap>>,
    progress: Rc<Progress>,
}

#[derive(Default)]
struct Kept {
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: u64,
    limit: u64,
    abandoned: bool,
}

/// Holds a body back.
#[derive(Clone, Default)]
pub(crate) struct Gate(std::sync::Arc<GateState>);

#[derive(Default)]
struct GateState {
    open: std::sync::atomic::AtomicBool,
    /// A std mutex: the callback of hyper that opens the gate has to be `Send`; it is never contended.
    waker: std::sync::Mutex<Option<Waker>>,
}

impl Feed {
    /// Takes the client's body; `limit` is how much of it is kept for another try.
    pub(crate) fn new(source: Incoming, limit: u64, gate: Option<Gate>, progress: &Rc<Progress>) -> Self {
        let ended = source.is_end_stream();
        Self(Rc::new(Shared {
            source: RefCell::new((!ended).then_some(source)),
            kept: RefCell::new(Kept {
                limit,
                ..Kept::default()
            }),
            turn: Cell::new(0),
            ended: Cell::new(ended),
            end_time: Cell::new(progress.start),
            end: Notify::new(),
            gate,
            taps: RefCell::default(),
            progress: Rc::clone(progress),
        }))
    }

    /// The whole body has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.get()
    }

    /// When the whole body had come.
    pub(crate) fn end_time(&self) -> Instant {
        self.0.end_time.get()
    }

    /// Waits until the whole body has come.
    pub(crate) async fn ended(&self) {
        while !self.0.ended.get() {
            self.0.end.notified().await;
        }
    }

    /// There is no body, and nothing waits for one.
    pub(crate) fn is_empty(&self) -> bool {
        let shared = &*self.0;
        let kept = shared.kept.borrow();
        shared.ended.get() && kept.bytes == 0 && kept.trailers.is_none()
    }

    /// What holds the body back, if anything does.
    pub(crate) fn gate(&self) -> Option<Gate> {
        self.0.gate.clone()
    }

    /// Everything that was read is still here: another try may begin.
    pub(crate) fn can_replay(&self) -> bool {
        !self.0.kept.borrow().abandoned
    }

    /// The body for the next try; what an earlier one reads ends in an error.
    pub(crate) fn take_turn(&self, drop_trailers: bool) -> RequestBody {
        let turn = self.0.turn.get() + 1;
        self.0.turn.set(turn);
        RequestBody::Feed(Reader::new(self.clone(), turn, drop_trailers))
    }

    /// The body for a mirror: it hears what the tries read from here on, and ends in an error when it is too slow.
    pub(crate) fn mirror(&self) -> RequestBody {
        if self.is_empty() {
            return RequestBody::Empty;
        }
        let tap = Tap::default();
        self.0.taps.borrow_mut().push(tap.clone());
        RequestBody::Tap(tap)
    }

    fn finish(&self) {
        for tap in self.0.taps.borrow_mut().drain(..) {
            tap.end();
        }
        if !self.0.ended.replace(true) {
            self.0.end_time.set(Instant::now());
        }
        self.0.end.notify_waiters();
        self.0.end.notify_one();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.taps.borrow_mut().iter().for_each(Tap::cut);
    }
}

impl Kept {
    fn keep(&mut self, chunk: &Bytes) -> bool {
        if self.abandoned {
            return false;
        }
        self.bytes += chunk.len() as u64;
        if self.bytes > self.limit {
            self.abandoned = true;
            self.chunks = Vec::new();
            return false;
        }
        self.chunks.push(chunk.clone());
        true
    }
}

impl Gate {
    /// Lets the body through.
    pub(crate) fn open(&self) {
        self.0.open.store(true, std::sync::atomic::Ordering::Release);
        let waker = self
            .0
            .waker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_open(&self, cx: &Context<'_>) -> bool {
        let is_open = || self.0.open.load(std::sync::atomic::Ordering::Acquire);
        if is_open() {
            return true;
        }
        *self
            .0
            .waker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(cx.waker().clone());
        is_open()
    }
}
