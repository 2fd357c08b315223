//! Sockets come and go: what the engine wants opened and closed, and the clients that the listener hands over.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::Token;
use redplane_config::cluster::{Discovery, DnsFamily};
use redplane_proxy::{Action, ClientId, ConnId, Gone, Opened, Traffic};
use redplane_upstream::{Cluster, ConnectingSocket, Host, Transport as HostTransport};

use super::{ClientSocket, Driver, UPSTREAM};
use crate::redis::io_task::{ConnectionHandle, Request};
use crate::redis::socket::{Socket, Transport};
use crate::redis::{Accepted, Closed, Stream};

impl Driver {
    /// What the engine wants done with sockets.
    pub(super) fn act(&mut self) {
        loop {
            let actions = self.engine.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Connect(id, cluster, host) => self.connect(id, &cluster, &host),
                    Action::CloseUpstream(id) => self.forget_upstream(id),
                    Action::CloseClient(id, traffic) => self.forget_client(id, traffic),
                    // Not at once: it has had its part of this turn.
                    Action::Resume(id) => self.read_later(Token(id.0 as usize)),
                    Action::Resolve {
                        ticket,
                        host,
                        cluster,
                        family,
                    } => {
                        let family = family.unwrap_or_else(|| family_of(&cluster));
                        let mark = self.outbox.mark(ticket);
                        self.outbox.send(Request::Resolve(mark, host, family));
                    }
                    Action::Authenticate(question) => {
                        let mark = self.outbox.mark(question.ticket);
                        self.outbox.send(Request::Ask(mark, question));
                    }
                    Action::ForgetLogin(ticket) => {
                        self.outbox.send(Request::Forget(self.outbox.mark(ticket)));
                    }
                }
            }
        }
    }

    pub(super) fn connect(&mut self, id: ConnId, cluster: &Arc<Cluster>, host: &Arc<Host>) {
        match self.open(id, cluster, host) {
            Ok(socket) => put(&mut self.upstreams, id.0 as usize, socket),
            Err(error) => {
                tracing::debug!(target: "upstream", %error, "connecting failed");
                self.engine.upstream_gone(id, Gone::Refused);
            }
        }
    }

    pub(super) fn open(&self, id: ConnId, cluster: &Cluster, host: &Host) -> io::Result<Socket> {
        let transport = match redplane_upstream::socket_for(cluster, host)? {
            ConnectingSocket::Tcp(stream) => Transport::Tcp(mio::net::TcpStream::from_std(stream)),
            ConnectingSocket::Unix(stream) => Transport::Unix(mio::net::UnixStream::from_std(stream)),
        };
        let mut socket = match &host.transport {
            HostTransport::Tls(client, name) => {
                let config = client.config().map_err(redplane_upstream::not_ready)?;
                Socket::client(transport, config, name.clone(), cluster.ssl_stats().cloned())?
            }
            _ => Socket::plain(transport),
        };
        socket.register(&self.registry, Token(UPSTREAM | id.0 as usize))?;
        Ok(socket)
    }

    /// The engine has forgotten the connection; its socket goes.
    pub(super) fn forget_upstream(&mut self, id: ConnId) {
        if let Some(mut socket) = self.upstreams.get_mut(id.0 as usize).and_then(Option::take) {
            socket.farewell();
            socket.deregister(&self.registry);
        }
    }

    /// The connection broke, or its time is over: the engine hears of it now.
    pub(super) fn close_client(&mut self, id: ClientId) {
        let traffic = self.engine.client_closed(id);
        self.forget_client(id, traffic);
    }

    /// The engine has forgotten the client; its socket goes.
    fn forget_client(&mut self, id: ClientId, traffic: Traffic) {
        let Some(mut client) = self.clients.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        client.socket.farewell();
        client.socket.deregister(&self.registry);
        client.handle.closed = Closed {
            received: traffic.received,
            sent: traffic.sent,
        };
    }

    pub(super) fn serve(&mut self, accepted: Accepted, handle: ConnectionHandle) {
        let Some(proxy) = accepted.chain.redis() else {
            return;
        };
        let life = &accepted.chain.life;
        let opened = Opened {
            listener: accepted.listener,
            chain: Arc::clone(&accepted.chain.config.id),
            life: life.number,
            proxy: Arc::clone(proxy),
            draining: life.is_draining(),
            remote: accepted.remote,
            local: accepted.local,
            fd: match &accepted.stream {
                Stream::Tcp(stream) => stream.as_raw_fd(),
                Stream::Unix(stream) => stream.as_raw_fd(),
            },
        };
        let transport = match accepted.stream {
            Stream::Tcp(stream) => Transport::Tcp(mio::net::TcpStream::from_std(stream)),
            Stream::Unix(stream) => Transport::Unix(mio::net::UnixStream::from_std(stream)),
        };
        let mut socket = match accepted.tls {
            Some(session) => Socket::server(transport, session),
            None => Socket::plain(transport),
        };
        let over = life.is_over();
        let id = self.engine.client_opened(opened);
        if let Err(error) = socket.register(&self.registry, Token(id.0 as usize)) {
            tracing::warn!(target: "redis", %error, "a connection could not be watched");
            self.engine.client_closed(id);
            return;
        }
        let client = ClientSocket { socket, handle };
        put(&mut self.clients, id.0 as usize, client);
        if over {
            return self.close_client(id);
        }
        // Bytes may have come before the socket was watched, or stand in the TLS session.
        self.readable(Token(id.0 as usize));
    }
}

/// The families of the cluster's own names.
fn family_of(cluster: &Cluster) -> DnsFamily {
    match &cluster.config().discovery {
        Discovery::Redis(redis) => redis.family,
        Discovery::Sentinel(sentinel) => sentinel.family,
        _ => DnsFamily::Auto,
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
