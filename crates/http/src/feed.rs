//! A request's body on its way to a server: streamed, and kept for another try as long as it is small enough.
//!
//! A [`Feed`] owns the client's body; each try reads it through a [`RequestBody`] of its own, from the start. What was
//! read is kept up to the buffer limit; beyond it nothing is kept, the request goes on and cannot be tried again.
//! Envoy: `retry_or_shadow_abandoned`.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::progress::Progress;

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

/// The body as one try reads it.
pub(crate) struct RequestBody {
    feed: Option<Feed>,
    turn: u64,
    at: usize,
    /// HTTP/1 has no trailers here, as in Envoy.
    drop_trailers: bool,
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
        RequestBody {
            feed: Some(self.clone()),
            turn,
            at: 0,
            drop_trailers,
        }
    }

    fn finish(&self) {
        if !self.0.ended.replace(true) {
            self.0.end_time.set(Instant::now());
        }
        self.0.end.notify_waiters();
        self.0.end.notify_one();
    }
}

impl RequestBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self {
            feed: None,
            turn: 0,
            at: 0,
            drop_trailers: false,
        }
    }

    /// There is no body at all.
    pub(crate) fn is_none(&self) -> bool {
        self.feed.is_none()
    }

    /// What was kept, if this try has not read it yet.
    fn kept(&mut self, shared: &Shared) -> Option<Bytes> {
        let kept = shared.kept.borrow();
        let chunk = kept.chunks.get(self.at).cloned();
        self.at += usize::from(chunk.is_some());
        chunk
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Some(feed) = self.feed.clone() else {
            return Poll::Ready(None);
        };
        let shared = &*feed.0;
        if shared.turn.get() != self.turn {
            return Poll::Ready(Some(Err(BodyFault::Superseded)));
        }
        if let Some(chunk) = self.kept(shared) {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if shared.gate.as_ref().is_some_and(|gate| !gate.poll_open(cx)) {
            return Poll::Pending;
        }
        loop {
            let mut source = shared.source.borrow_mut();
            let Some(incoming) = source.as_mut() else {
                drop(source);
                self.feed = None;
                let trailers = shared.kept.borrow().trailers.clone();
                return Poll::Ready(match trailers {
                    Some(trailers) if !self.drop_trailers => Some(Ok(Frame::trailers(trailers))),
                    _ => None,
                });
            };
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyFault::Client))),
                Poll::Ready(None) => *source = None,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) => {
                        shared.progress.receive(chunk.len());
                        self.at += usize::from(shared.kept.borrow_mut().keep(&chunk));
                        if incoming.is_end_stream() {
                            *source = None;
                            drop(source);
                            feed.finish();
                        }
                        return Poll::Ready(Some(Ok(Frame::data(chunk))));
                    }
                    Err(frame) => {
                        shared.kept.borrow_mut().trailers = frame.into_trailers().ok();
                        *source = None;
                    }
                },
            }
            drop(source);
            feed.finish();
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(feed) = &self.feed else { return true };
        let shared = &*feed.0;
        let kept = shared.kept.borrow();
        let no_trailers = kept.trailers.is_none() || self.drop_trailers;
        shared.source.borrow().is_none() && no_trailers && self.at >= kept.chunks.len()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(feed) = &self.feed else {
            return SizeHint::with_exact(0);
        };
        let shared = &*feed.0;
        let kept = shared.kept.borrow();
        let waiting: u64 = kept
            .chunks
            .iter()
            .skip(self.at)
            .map(|chunk| chunk.len() as u64)
            .sum();
        match shared
            .source
            .borrow()
            .as_ref()
            .map(|source| source.size_hint().exact())
        {
            None => SizeHint::with_exact(waiting),
            Some(Some(rest)) => SizeHint::with_exact(waiting + rest),
            Some(None) => SizeHint::default(),
        }
    }
}
