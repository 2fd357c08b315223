//! Bytes from clients: where they are read to, where requests end in them, and what is left for the next read.

use bytes::Bytes;
use redplane_redis_core::client::ClientId;
use redplane_redis_core::output::LARGE;
use redplane_redis_flow::request::Request;
use redplane_resp::request::{Decoded, decode};

use crate::engine::Engine;

impl Engine {
    /// Where the driver reads a client's bytes to: its own buffer while a message is incomplete, else `None`, and the
    /// driver's shared buffer serves.
    #[inline]
    pub fn client_room(&mut self, id: ClientId) -> Option<&mut [u8]> {
        let client = self.core.clients.get_mut(id.0 as usize)?;
        if client.inlet.carry.is_empty() {
            None
        } else {
            Some(client.inlet.carry.room())
        }
    }

    /// Whether the driver may read from a client.
    #[inline]
    pub fn client_readable(&self, id: ClientId) -> bool {
        self.core
            .clients
            .get(id.0 as usize)
            .is_some_and(|client| client.inlet.rests().is_empty())
    }

    /// `count` bytes came from a client: into its room if it had one, else into `shared`.
    pub fn client_received(&mut self, id: ClientId, shared: &[u8], count: usize) {
        let key = id.0 as usize;
        let Some(client) = self.core.clients.get_mut(key) else {
            return;
        };
        client.inlet.received += count as u64;
        client.inlet.heard = self.core.now;
        self.core.tally.received(client.filter, &self.core.filters, count);
        if client.inlet.carry.is_empty() {
            let data = &shared[..count.min(shared.len())];
            let (used, need) = self.decode_all(key, data, None);
            if used < data.len()
                && let Some(client) = self.core.clients.get_mut(key)
                && !client.inlet.is_ending()
            {
                client.inlet.carry.begin(data, used, need, &mut self.core.buffers);
            }
            return;
        }
        if client.inlet.carry.gathers(count) {
            return;
        }
        let (buffer, filled) = client.inlet.carry.take(count);
        if filled < LARGE {
            let (used, need) = self.decode_all(key, &buffer[..filled], None);
            self.core.keep_rest(key, buffer, used, filled, need);
        } else {
            self.decode_large(key, buffer, filled);
        }
    }

    /// Decodes out of a buffer that large requests may keep.
    fn decode_large(&mut self, key: usize, buffer: Vec<u8>, filled: usize) {
        let buffer = Bytes::from(buffer);
        let (used, need) = self.decode_all(key, &buffer[..filled], Some(&buffer));
        match buffer.try_into_mut() {
            Ok(buffer) => self.core.keep_rest(key, buffer.into(), used, filled, need),
            Err(kept) => {
                let Some(client) = self.core.clients.get_mut(key) else {
                    return;
                };
                if used < filled && !client.inlet.is_ending() {
                    client
                        .inlet
                        .carry
                        .begin(&kept[..filled], used, need, &mut self.core.buffers);
                }
            }
        }
    }

    /// Decodes and dispatches all whole requests; says how many bytes they had, and how many the next one needs.
    fn decode_all(&mut self, key: usize, data: &[u8], shared: Option<&Bytes>) -> (usize, usize) {
        let mut args = std::mem::take(&mut self.turn.args);
        let mut at = 0;
        let mut need = 0;
        while at < data.len() {
            let Some(client) = self.core.clients.get_mut(key) else {
                break;
            };
            if !client.inlet.rests().is_empty() {
                if client.inlet.is_ending() {
                    at = data.len();
                }
                break;
            }
            match decode(
                &data[at..],
                &mut args,
                &mut client.inlet.partial,
                client.authenticated,
            ) {
                Ok(Decoded::Frame(end)) => {
                    let request = Request {
                        frame: &data[at..at + end],
                        args: &args,
                        shared,
                    };
                    if args.is_empty() || self.request(key, request) {
                        at += end;
                    }
                }
                Ok(Decoded::Inline(end, frame)) => {
                    let request = Request {
                        frame: &frame,
                        args: &args,
                        shared: None,
                    };
                    if args.is_empty() || self.request(key, request) {
                        at += end;
                    }
                }
                Ok(Decoded::Incomplete(bytes)) => {
                    need = bytes;
                    break;
                }
                Err(error) => {
                    self.core.protocol_error(key, error);
                    at = data.len();
                }
            }
        }
        self.turn.args = args;
        self.core.after_input(key);
        (at, need)
    }
}
