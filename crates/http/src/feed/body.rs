//! A request's body as a connection to a server reads it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::tap::Tap;
use super::{BodyFault, Feed, Shared};

/// The body of a request on its way to a server.
pub(crate) enum RequestBody {
    /// None.
    Empty,
    /// What one try reads.
    Feed(Reader),
    /// What a mirror hears.
    Tap(Tap),
}

/// A feed as one try reads it.
pub(crate) struct Reader {
    feed: Option<Feed>,
    turn: u64,
    at: usize,
    /// HTTP/1 has no trailers here, as in Envoy.
    drop_trailers: bool,
}

impl RequestBody {
    /// There is no body at all.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// What a mirror hears, to ask later whether it has heard all.
    pub(crate) fn tap(&self) -> Option<Tap> {
        match self {
            Self::Tap(tap) => Some(tap.clone()),
            Self::Empty | Self::Feed(_) => None,
        }
    }
}

impl Reader {
    pub(super) fn new(feed: Feed, turn: u64, drop_trailers: bool) -> Self {
        Self {
            feed: Some(feed),
            turn,
            at: 0,
            drop_trailers,
        }
    }

    /// What was kept, if this try has not read it yet.
    fn kept(&mut self, shared: &Shared) -> Option<Bytes> {
        let kept = shared.kept.borrow();
        let chunk = kept.chunks.get(self.at).cloned();
        self.at += usize::from(chunk.is_some());
        chunk
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
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
                        shared.taps.borrow().iter().for_each(|tap| tap.push(&chunk));
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Feed(reader) => reader.poll(cx),
            Self::Tap(tap) => tap.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Feed(reader) => reader.is_end_stream(),
            Self::Tap(tap) => tap.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Feed(reader) => reader.size_hint(),
            Self::Tap(_) => SizeHint::default(),
        }
    }
}
