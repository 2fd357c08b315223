//! A response's body on its way to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use redplane_telemetry::access_log::ResponseFlags;

use crate::exchange::Exchange;
use crate::feed::{BodyFault, Feed};
use crate::pool::Lease;

/// What a client gets after the head.
pub(crate) enum ResponseBody {
    /// Made here.
    Local(Option<Bytes>, Rc<Exchange>),
    /// A server's.
    Tail(Box<Tail>),
}

/// A server's body.
pub(crate) struct Tail {
    incoming: Incoming,
    exchange: Rc<Exchange>,
    /// The connection that it comes by; given back at the end.
    lease: Option<Lease>,
    feed: Feed,
    /// HTTP/1 has no trailers here, as in Envoy.
    drop_trailers: bool,
    /// Until when all of it must have come.
    deadline: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl ResponseBody {
    /// A body that is made here, or none.
    pub(crate) fn local(bytes: Bytes, exchange: &Rc<Exchange>) -> Self {
        Self::Local(Some(bytes).filter(|bytes| !bytes.is_empty()), Rc::clone(exchange))
    }
}

impl Tail {
    pub(crate) fn new(
        incoming: Incoming,
        exchange: &Rc<Exchange>,
        lease: Lease,
        feed: &Feed,
        deadline: Option<Pin<Box<dyn Future<Output = ()>>>>,
    ) -> Self {
        let mut tail = Self {
            drop_trailers: exchange.version < http::Version::HTTP_2,
            exchange: Rc::clone(exchange),
            lease: Some(lease),
            feed: feed.clone(),
            deadline,
            incoming,
        };
        if tail.incoming.is_end_stream() {
            tail.finish();
        }
        tail
    }

    fn finish(&mut self) {
        self.exchange.progress.complete.set(true);
        self.deadline = None;
        if let Some(lease) = self.lease.take() {
            // A server that answers before it has read the request may not be asked again on that connection.
            lease.done(self.feed.has_ended());
        }
    }

    fn fail(&mut self, fault: BodyFault) -> BodyFault {
        let (flag, details) = match fault {
            BodyFault::TooLate => (ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "response_timeout"),
            // HTTP/1: what was promised did not come.
            _ if self.lease.as_ref().is_some_and(|lease| !lease.is_http2()) => (
                ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
                "upstream_reset_after_response_started{protocol_error}",
            ),
            _ => (
                ResponseFlags::UPSTREAM_REMOTE_RESET,
                "upstream_reset_after_response_started{remote_reset}",
            ),
        };
        self.exchange.flag(flag);
        self.exchange.detail(details);
        self.lease = None;
        fault
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(deadline) = self.deadline.as_mut()
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(self.fail(BodyFault::TooLate))));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.fail(BodyFault::Server)))),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.progress.send(data.len());
                }
                let is_trailers = frame.is_trailers();
                if is_trailers || self.incoming.is_end_stream() {
                    self.finish();
                }
                if is_trailers && self.drop_trailers {
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut *self {
            Self::Tail(tail) => tail.poll(cx),
            Self::Local(bytes, exchange) => {
                exchange.progress.complete.set(true);
                Poll::Ready(bytes.take().map(|bytes| {
                    exchange.progress.send(bytes.len());
                    Ok(Frame::data(bytes))
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tail(tail) => tail.incoming.is_end_stream(),
            Self::Local(bytes, exchange) => {
                if bytes.is_none() {
                    exchange.progress.complete.set(true);
                }
                bytes.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tail(tail) => tail.incoming.size_hint(),
            Self::Local(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
