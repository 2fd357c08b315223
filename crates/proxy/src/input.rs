//! Bytes of a message that has not arrived as a whole, and the buffers they stand in.
//!
//! Connections read into one buffer that the worker shares between all of them; only what is left of an incomplete
//! message is kept here. From then on the socket is read straight into this buffer, so that a large message is
//! not copied a second time.

/// Room that a read finds at least.
const ROOM: usize = 16 * 1024;
/// The announced size of a message is its sender's word: memory for it is reserved in steps of this size.
const STEP: usize = 1024 * 1024;
/// Buffers up to this capacity are kept for the next one; larger ones are given back.
const KEPT_CAPACITY: usize = 32 * 1024;
/// How many of them.
const KEPT: usize = 64;

/// What has arrived of a message.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    /// Initialised memory; `filled` bytes of it mean something.
    buffer: Vec<u8>,
    filled: usize,
}

impl Carry {
    /// Whether anything has arrived.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Starts with what is left of a read; at least `need` bytes will be there in the end.
    pub(crate) fn begin(&mut self, rest: &[u8], need: usize, buffers: &mut Buffers) {
        debug_assert!(self.is_empty());
        self.buffer = buffers.take();
        self.reserve(rest.len(), need);
        self.buffer[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    fn reserve(&mut self, filled: usize, need: usize) {
        let wanted = need.clamp(filled + ROOM, filled + ROOM + STEP);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
    }

    /// Where the next read goes.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Notes a read into [`Self::room`], and takes all that has arrived out for decoding.
    pub(crate) fn take(&mut self, read: usize) -> (Vec<u8>, usize) {
        let filled = (self.filled + read).min(self.buffer.len());
        self.filled = 0;
        (std::mem::take(&mut self.buffer), filled)
    }

    /// Puts a buffer back of which the bytes from `from` to `to` are not decoded yet.
    pub(crate) fn put_back(
        &mut self,
        mut buffer: Vec<u8>,
        from: usize,
        to: usize,
        need: usize,
        buffers: &mut Buffers,
    ) {
        if from == to {
            buffers.give(buffer);
            return;
        }
        buffer.copy_within(from..to, 0);
        self.buffer = buffer;
        self.filled = to - from;
        self.reserve(self.filled, need);
    }
}

/// A few buffers that were used and may be used again.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
}

impl Buffers {
    /// A buffer with any content and any length.
    #[inline]
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// An empty buffer.
    #[inline]
    pub(crate) fn take_empty(&mut self) -> Vec<u8> {
        let mut buffer = self.take();
        buffer.clear();
        buffer
    }

    /// Gives a buffer back.
    #[inline]
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if self.free.len() < KEPT && buffer.capacity() <= KEPT_CAPACITY && buffer.capacity() > 0 {
            self.free.push(buffer);
        }
    }
}
