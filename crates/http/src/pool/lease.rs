//! A connection as one request has it.

use std::net::SocketAddr;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use redplane_upstream::Permit;

use super::driver::Life;
use super::{Http1, Http2, Key, Pools};
use crate::feed::RequestBody;

/// A connection for one request. Dropped, an HTTP/1 connection is closed and an HTTP/2 stream reset.
pub(crate) struct Lease {
    pools: Rc<Pools>,
    key: Key,
    life: Rc<Life>,
    kind: Kind,
    /// Requests have been on it before: the server may have closed it just now.
    reused: bool,
    /// The connection went back.
    given: bool,
    _permit: Permit,
}

enum Kind {
    Http1(Option<http1::SendRequest<RequestBody>>),
    Http2(Rc<Http2>),
}

/// Why a request got no response.
pub(crate) enum Failed {
    /// Nothing of it has left: it may be sent again whatever it is.
    Unsent(Box<Request<RequestBody>>),
    /// Something may have.
    Lost(hyper::Error),
}

impl Lease {
    pub(super) fn http1(
        pools: &Rc<Pools>,
        key: Key,
        connection: Http1,
        permit: Permit,
        reused: bool,
    ) -> Self {
        Self {
            pools: Rc::clone(pools),
            key,
            life: connection.life,
            kind: Kind::Http1(Some(connection.sender)),
            reused,
            given: false,
            _permit: permit,
        }
    }

    pub(super) fn http2(
        pools: &Rc<Pools>,
        key: Key,
        shared: Rc<Http2>,
        permit: Permit,
        reused: bool,
    ) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        shared.life.begin();
        Self {
            pools: Rc::clone(pools),
            key,
            life: Rc::clone(&shared.life),
            kind: Kind::Http2(shared),
            reused,
            given: false,
            _permit: permit,
        }
    }

    /// HTTP/2 is spoken on it.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.kind, Kind::Http2(_))
    }

    /// Requests have been on it before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Our side.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.life.local
    }

    /// Sends a request and waits for the head of the response.
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Failed> {
        let result = match &mut self.kind {
            Kind::Http1(Some(sender)) => sender.try_send_request(request).await,
            Kind::Http2(shared) => shared.sender.clone().try_send_request(request).await,
            // A lease is sent on once.
            Kind::Http1(None) => return Err(Failed::Unsent(Box::new(request))),
        };
        result.map_err(|mut failure| match failure.take_message() {
            Some(request) => Failed::Unsent(Box::new(request)),
            None => Failed::Lost(failure.into_error()),
        })
    }

    /// The response has come whole. `asked` says that the whole request has left, too: only then may an HTTP/1
    /// connection be used again.
    pub(crate) fn done(mut self, asked: bool) {
        let Kind::Http1(sender) = &mut self.kind else {
            return;
        };
        if let Some(sender) = sender
            .take()
            .filter(|sender| asked && !sender.is_closed() && !self.life.is_spent())
        {
            let waiting = Http1 {
                sender,
                life: Rc::clone(&self.life),
            };
            self.pools.give_http1(self.key.clone(), waiting);
            self.given = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.life.leave();
        if !self.given && !self.is_http2() && !self.life.has_ended() {
            self.life.abandon();
        }
        if let Kind::Http2(shared) = &self.kind {
            shared.streams.set(shared.streams.get().saturating_sub(1));
            self.pools.freed(&self.key);
        }
    }
}
