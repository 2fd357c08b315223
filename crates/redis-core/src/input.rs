//! Bytes of a message that has not arrived as a whole, and the buffers they stand in.
//!
//! Connections read into one buffer that the worker shares between all of them; only what is left of an incomplete
//! message is kept here. From then on the socket is read straight into this buffer, so that a large message is
//! not copied a second time.

/// Room that a read finds at least, where little has come with the last one and where much has.
const LITTLE_ROOM: usize = 2 * 1024;
const ROOM: usize = 16 * 1024;
/// The announced size of a message is its sender's word: there is as much room for it as has arrived, up to this.
const STEP: usize = 1024 * 1024;
/// Buffers up to this capacity are kept for the next one; larger ones are given back.
const KEPT_CAPACITY: usize = 256 * 1024;
/// From this capacity on a buffer is for what gathers much: a connection to a server, a message that arrives.
const LARGE_CAPACITY: usize = 16 * 1024;
/// Bytes in all of them.
const KEPT_BYTES: usize = 2 * 1024 * 1024;
/// How many of them.
const KEPT: usize = 1024;

/// What has arrived of a message.
#[derive(Debug, Default)]
pub struct Carry {
    /// Initialised memory; `filled` bytes of it mean something.
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes that there must be at least before decoding goes on.
    need: usize,
}

impl Carry {
    /// Whether anything has arrived.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Bytes that have arrived, and the room behind them.
    pub fn sizes(&self) -> (usize, usize) {
        (self.filled, self.buffer.len() - self.filled)
    }

    /// Starts with what is left of the read `data`, from `used` on; at least `need` bytes will be there in the end.
    pub fn begin(&mut self, data: &[u8], used: usize, need: usize, buffers: &mut Buffers) {
        debug_assert!(self.is_empty());
        let rest = data.get(used..).unwrap_or_default();
        self.buffer = match data.len() < ROOM {
            true => buffers.take_empty(),
            false => buffers.take_large(),
        };
        self.need = need;
        self.reserve(rest.len(), data.len(), need);
        self.buffer[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Makes room behind the `filled` bytes for a message of `need`. However much that is, memory follows what has
    /// `arrived`.
    fn reserve(&mut self, filled: usize, arrived: usize, need: usize) {
        let least = arrived.clamp(LITTLE_ROOM, ROOM);
        let wanted = need.clamp(filled + least, filled + filled.clamp(least, STEP));
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
    }

    /// Where the next read goes.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Notes a read into [`Self::room`] where the message still lacks bytes behind it: there is nothing to decode. False
    /// where there may be; then nothing was noted.
    #[inline]
    pub fn gathers(&mut self, read: usize) -> bool {
        let filled = (self.filled + read).min(self.buffer.len());
        if filled >= self.need {
            return false;
        }
        self.filled = filled;
        self.reserve(filled, filled, self.need);
        true
    }

    /// Notes a read into [`Self::room`], and takes all that has arrived out for decoding.
    pub fn take(&mut self, read: usize) -> (Vec<u8>, usize) {
        let filled = (self.filled + read).min(self.buffer.len());
        self.filled = 0;
        (std::mem::take(&mut self.buffer), filled)
    }

    /// Puts a buffer back of which the bytes from `from` to `to` are not decoded yet.
    pub fn put_back(
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
        if from > 0 {
            buffer.copy_within(from..to, 0);
        }
        self.buffer = buffer;
        self.filled = to - from;
        self.need = need;
        self.reserve(self.filled, to, need);
    }
}

/// Buffers that were used and may be used again: the small ones of clients apart from the large ones of servers, so
/// that neither has to grow into the other's use.
#[derive(Debug, Default)]
pub struct Buffers {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    kept: usize,
}

impl Buffers {
    /// A buffer for much, with any content and any length.
    #[inline]
    pub fn take_large(&mut self) -> Vec<u8> {
        match self.large.pop() {
            Some(buffer) => self.lent(buffer),
            None => Vec::with_capacity(LARGE_CAPACITY),
        }
    }

    /// An empty buffer for much.
    #[inline]
    pub fn take_large_empty(&mut self) -> Vec<u8> {
        let mut buffer = self.take_large();
        buffer.clear();
        buffer
    }

    /// An empty buffer for little.
    #[inline]
    pub fn take_empty(&mut self) -> Vec<u8> {
        match self.small.pop() {
            Some(mut buffer) => {
                buffer.clear();
                self.lent(buffer)
            }
            None => Vec::new(),
        }
    }

    #[inline]
    fn lent(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        self.kept -= buffer.capacity();
        buffer
    }

    /// Gives a buffer back.
    #[inline]
    pub fn give(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let list = if capacity < LARGE_CAPACITY {
            &mut self.small
        } else {
            &mut self.large
        };
        let fits = capacity <= KEPT_CAPACITY && self.kept + capacity <= KEPT_BYTES && list.len() < KEPT;
        if fits && capacity > 0 {
            self.kept += capacity;
            list.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_announcement_costs_what_has_arrived() {
        let mut buffers = Buffers::default();
        let mut carry = Carry::default();
        let announced = 512 * 1024 * 1024;
        carry.begin(b"*2\r\n$3\r\nGET\r\n$536870912\r\n", 0, announced, &mut buffers);
        assert!(carry.buffer.capacity() <= 4 * 1024);
        // What comes is read in steps that grow with it.
        let mut reads = 0;
        while carry.filled < 8 * 1024 * 1024 {
            let (filled, room) = carry.sizes();
            assert!(
                room <= filled.clamp(LITTLE_ROOM, STEP),
                "{room} bytes of room for {filled}"
            );
            let (buffer, filled) = carry.take(room);
            carry.put_back(buffer, 0, filled, announced, &mut buffers);
            reads += 1;
        }
        assert!(reads < 24, "{reads} reads");
    }

    proptest! {
        /// However the bytes come in, they come out in order, and there is always room for one more.
        #[test]
        fn nothing_is_lost(reads in prop::collection::vec((1usize..70_000, 0usize..100_000, 0usize..3), 1..30)) {
            let mut buffers = Buffers::default();
            let mut carry = Carry::default();
            let (mut came, mut gone) = (0usize, 0usize);
            for (count, need, used) in reads {
                let bytes: Vec<u8> = (came..came + count).map(|at| at as u8).collect();
                if !carry.is_empty() {
                    let room = carry.room();
                    let count = count.min(room.len());
                    room[..count].copy_from_slice(&bytes[..count]);
                    if carry.gathers(count) {
                        came += count;
                        continue;
                    }
                }
                if carry.is_empty() {
                    let used = used * count / 3;
                    carry.begin(&bytes, used, need, &mut buffers);
                    came += count;
                    gone += used;
                    continue;
                }
                let room = carry.room();
                let count = count.min(room.len());
                prop_assert!(count > 0);
                room[..count].copy_from_slice(&bytes[..count]);
                came += count;
                let (buffer, filled) = carry.take(count);
                prop_assert_eq!(filled, came - gone);
                prop_assert!(buffer[..filled].iter().enumerate().all(|(at, byte)| *byte == (gone + at) as u8));
                let used = used * filled / 2;
                carry.put_back(buffer, used, filled, need, &mut buffers);
                gone += used;
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::default();
        for _ in 0..100 {
            buffers.give(Vec::with_capacity(100_000));
            buffers.give(Vec::with_capacity(100));
        }
        assert!(buffers.kept <= KEPT_BYTES);
        buffers.give(Vec::with_capacity(KEPT_CAPACITY + 1));
        assert_eq!(
            buffers.take_empty().capacity(),
            100,
            "small stays apart from large"
        );
        assert_eq!(buffers.take_large_empty().capacity(), 100_000);
        while !buffers.large.is_empty() {
            buffers.take_large();
        }
        while !buffers.small.is_empty() {
            buffers.take_empty();
        }
        assert_eq!(buffers.kept, 0);
    }
}
