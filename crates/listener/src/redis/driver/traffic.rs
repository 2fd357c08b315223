//! Reading and writing: what a ready socket has to say goes to the engine, what the engine has to say to sockets.
//!
//! What is read from a socket and written to it in one turn is bounded, so that nobody waits for one that sends, or takes,
//! without end.

use std::io;

use mio::Token;
use redplane_proxy::{ClientId, ConnId, Gone};

use super::{Driver, UPSTREAM};
use crate::redis::socket::{Got, Socket};

/// Reads from one socket in one turn.
const READS: usize = 16;
/// Bytes after which a socket is not read from again in a turn: a client's, each of whose requests is work, and a server's.
const FROM_CLIENT: usize = 256 * 1024;
const FROM_SERVER: usize = 1024 * 1024;
/// Bytes after which a socket is not written to again in a turn, however fast its peer reads.
const WRITTEN: usize = 1024 * 1024;

impl Driver {
    pub(super) fn write_client(&mut self, id: ClientId) {
        let Some(Some(client)) = self.clients.get_mut(id.0 as usize) else {
            return;
        };
        let mut total = 0;
        loop {
            let Some(output) = self.engine.client_output(id) else {
                return;
            };
            let written = if client.socket.blocked || output.unwritten() == 0 {
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
                    total += count;
                    if total >= WRITTEN {
                        return client
                            .socket
                            .note_unwritten(&mut self.left.to_write, Token(id.0 as usize));
                    }
                }
                Err(_) => return self.close_client(id),
            }
        }
    }

    pub(super) fn write_upstream(&mut self, id: ConnId) {
        let Some(Some(socket)) = self.upstreams.get_mut(id.0 as usize) else {
            return;
        };
        let mut total = 0;
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
                    total += count;
                    if total >= WRITTEN {
                        let token = Token(UPSTREAM | id.0 as usize);
                        return socket.note_unwritten(&mut self.left.to_write, token);
                    }
                }
                Err(_) => {
                    self.forget_upstream(id);
                    return self.engine.upstream_gone(id, Gone::Remote);
                }
            }
        }
    }

    pub(super) fn hung_up(&mut self, token: Token) {
        if token.0 & UPSTREAM == 0 {
            // One that is not read from, because it waits, would not be missed otherwise.
            self.engine.client_hung_up(ClientId(token.0 as u32));
        }
        if let Some(socket) = self.socket(token) {
            socket.hung_up = true;
        }
    }

    pub(super) fn writable(&mut self, token: Token) {
        if token.0 & UPSTREAM == 0 {
            let Some(Some(client)) = self.clients.get_mut(token.0) else {
                return;
            };
            if client.socket.blocked {
                client.socket.blocked = false;
                if client.socket.flush_records().is_err() {
                    return self.close_client(ClientId(token.0 as u32));
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
    pub(super) fn connecting(&mut self, id: ConnId) {
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

    pub(super) fn refused(&mut self, id: ConnId, error: &io::Error) {
        tracing::debug!(target: "upstream", %error, "connecting failed");
        self.forget_upstream(id);
        self.engine.upstream_gone(id, Gone::Refused);
    }

    #[inline]
    pub(super) fn readable(&mut self, token: Token) {
        let done = match token.0 & UPSTREAM {
            0 => self.read_client(ClientId(token.0 as u32)),
            _ => self.read_upstream(ConnId((token.0 ^ UPSTREAM) as u32)),
        };
        if !done {
            self.read_later(token);
        }
    }

    /// A socket is read from in the next turn, whether or not an event tells of it.
    pub(super) fn read_later(&mut self, token: Token) {
        if let Some(socket) = self.socket(token)
            && !std::mem::replace(&mut socket.unfinished, true)
        {
            self.left.to_read.push(token);
        }
    }

    /// Goes on with a socket that had more to read than the last turn allowed.
    pub(super) fn read_on(&mut self, token: Token) {
        if let Some(socket) = self.socket(token) {
            socket.unfinished = false;
            self.readable(token);
        }
    }

    /// Goes on with a socket that would have taken more than the last turn gave it.
    pub(super) fn write_on(&mut self, token: Token) {
        let Some(socket) = self.socket(token) else {
            return;
        };
        socket.unwritten = false;
        match token.0 & UPSTREAM {
            0 => self.write_client(ClientId(token.0 as u32)),
            _ => self.write_upstream(ConnId((token.0 ^ UPSTREAM) as u32)),
        }
    }

    fn socket(&mut self, token: Token) -> Option<&mut Socket> {
        match token.0 & UPSTREAM {
            0 => self
                .clients
                .get_mut(token.0)?
                .as_mut()
                .map(|client| &mut client.socket),
            _ => self.upstreams.get_mut(token.0 ^ UPSTREAM)?.as_mut(),
        }
    }

    /// False when there is more to read than one turn allows.
    #[inline]
    pub(super) fn read_client(&mut self, id: ClientId) -> bool {
        let mut total = 0;
        for _ in 0..READS {
            if total >= FROM_CLIENT {
                return false;
            }
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
                Ok(Got::More(count)) => {
                    total += count;
                    self.engine.client_received(id, &self.shared, count);
                }
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
                    self.close_client(id);
                    return true;
                }
            }
        }
        false
    }

    pub(super) fn read_upstream(&mut self, id: ConnId) -> bool {
        let mut total = 0;
        for _ in 0..READS {
            if total >= FROM_SERVER {
                return false;
            }
            let Some(Some(socket)) = self.upstreams.get_mut(id.0 as usize) else {
                return true;
            };
            let got = match self.engine.upstream_room(id) {
                Some(room) => socket.read(room),
                None => socket.read(&mut self.shared),
            };
            let hung_up = socket.hung_up;
            if socket.is_tls() && !self.engine.is_connected(id) {
                socket.count_handshake(&got);
                if got.is_ok() && socket.is_ready() {
                    self.engine.connected(id);
                }
            }
            match got {
                Ok(Got::More(count)) => {
                    total += count;
                    self.engine.upstream_received(id, &self.shared, count);
                }
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
}
