//! What a mirror hears of a request's body: pieces wait here until its connection takes them.
//!
//! A mirror that takes too little is cut off, so that it never holds the request up and memory stays bounded.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;

use super::BodyFault;

/// How much may wait: Envoy's default buffer limit.
const WAITING: usize = 1 << 20;

/// One mirror's part.
#[derive(Clone, Default)]
pub(crate) struct Tap(Rc<State>);

#[derive(Default)]
struct State {
    waiting: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    end: Cell<End>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// All has come.
    Whole,
    /// The rest never comes.
    Cut,
}

impl Tap {
    /// A piece has come.
    pub(super) fn push(&self, chunk: &Bytes) {
        let state = &*self.0;
        if state.end.get() != End::Open || Rc::strong_count(&self.0) == 1 {
            return;
        }
        state.bytes.set(state.bytes.get() + chunk.len());
        if state.bytes.get() > WAITING {
            return self.cut();
        }
        state.waiting.borrow_mut().push_back(chunk.clone());
        self.wake();
    }

    /// All has come.
    pub(super) fn end(&self) {
        if self.0.end.get() == End::Open {
            self.0.end.set(End::Whole);
        }
        self.wake();
    }

    /// The rest never comes.
    pub(super) fn cut(&self) {
        if self.0.end.get() == End::Open {
            self.0.end.set(End::Cut);
            self.0.waiting.borrow_mut().clear();
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let state = &*self.0;
        if let Some(chunk) = state.waiting.borrow_mut().pop_front() {
            state.bytes.set(state.bytes.get() - chunk.len());
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match state.end.get() {
            End::Whole => Poll::Ready(None),
            End::Cut => Poll::Ready(Some(Err(BodyFault::Client))),
            End::Open => {
                state.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// All has come and was taken.
    pub(crate) fn is_over(&self) -> bool {
        self.0.end.get() == End::Whole && self.0.waiting.borrow().is_empty()
    }
}
