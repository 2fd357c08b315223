//! Bytes on their way to one socket: small ones gathered, large ones handed over as the buffers they came in.
//!
//! Positions are counted from the connection's first byte and never start again. What was written may be kept
//! until it is released: an upstream connection keeps its requests until they are answered, so that a redirected
//! one can be sent again without a copy having been made for it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// From this size on a frame changes hands without a copy; below it, a copy is cheaper than a segment of its own.
pub const LARGE: usize = 32 * 1024;

/// A queue of bytes with three marks: released, written, end.
#[derive(Debug, Default)]
pub struct Output {
    /// Sealed segments, oldest first; empty unless something large is on its way.
    sealed: VecDeque<Bytes>,
    sealed_len: usize,
    /// Small things, gathered.
    tail: Vec<u8>,
    /// Position of the first byte that is held.
    start: u64,
    written: u64,
}

impl Output {
    /// The position behind the last byte.
    #[inline]
    pub fn end(&self) -> u64 {
        self.start + (self.sealed_len + self.tail.len()) as u64
    }

    /// Bytes that were not written yet.
    #[inline]
    pub fn unwritten(&self) -> usize {
        (self.end() - self.written) as usize
    }

    /// Bytes that are held, written or not.
    pub fn held(&self) -> usize {
        self.sealed_len + self.tail.len()
    }

    /// The buffer small things are appended to.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a small thing.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends a large thing without copying it.
    pub fn append_shared(&mut self, bytes: Bytes) {
        self.seal();
        self.sealed_len += bytes.len();
        self.sealed.push_back(bytes);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed_len += self.tail.len();
            self.sealed.push_back(Bytes::from(std::mem::take(&mut self.tail)));
        }
    }

    /// What is to be written next: one slice where that is all there is, which is the rule.
    #[inline]
    pub fn next_slice(&self) -> &[u8] {
        if self.sealed.is_empty() {
            return &self.tail[(self.written - self.start) as usize..];
        }
        let mut skip = (self.written - self.start) as usize;
        for segment in &self.sealed {
            if skip < segment.len() {
                return &segment[skip..];
            }
            skip -= segment.len();
        }
        &self.tail[skip..]
    }

    /// Whether more than one slice waits, so that a gathering write pays.
    pub fn is_segmented(&self) -> bool {
        !self.sealed.is_empty() && self.next_slice().len() < self.unwritten()
    }

    /// All that is to be written, for a gathering write; at most as many slices as `slices` has room for.
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = (self.written - self.start) as usize;
        let mut used = 0;
        for segment in self.sealed.iter().map(|s| &s[..]).chain([&self.tail[..]]) {
            if skip >= segment.len() {
                skip -= segment.len();
            } else if used < slices.len() {
                slices[used] = IoSlice::new(&segment[skip..]);
                skip = 0;
                used += 1;
            } else {
                break;
            }
        }
        used
    }

    /// Notes that the first `count` unwritten bytes are with the socket now.
    #[inline]
    pub fn wrote(&mut self, count: usize) {
        self.written += count as u64;
    }

    /// Notes that, and lets go of all that was written.
    #[inline]
    pub fn wrote_for_good(&mut self, count: usize) {
        self.written += count as u64;
        if self.sealed.is_empty() && self.written == self.end() {
            self.start = self.written;
            self.tail.clear();
        } else {
            self.release_part(self.written);
        }
    }

    /// Lets go of everything before `position`, at most of what was written.
    #[inline]
    pub fn release(&mut self, position: u64) {
        let position = position.min(self.written);
        if self.sealed.is_empty() && position == self.end() {
            self.start = position;
            self.tail.clear();
            return;
        }
        self.release_part(position);
    }

    fn release_part(&mut self, position: u64) {
        while let Some(first) = self.sealed.front() {
            let len = first.len();
            if self.start + len as u64 > position {
                return;
            }
            self.start += len as u64;
            self.sealed_len -= len;
            self.sealed.pop_front();
        }
        if position == self.end() {
            self.start = position;
            self.tail.clear();
            return;
        }
        // Moving the rest down is worth it only when it is less than what is thrown away.
        let done = (position - self.start) as usize;
        if done >= LARGE && done > self.tail.len() / 2 {
            self.tail.drain(..done);
            self.start = position;
        }
    }

    /// The held bytes from `position` on; `len` of them must have been appended as one.
    pub fn range(&self, position: u64, len: usize) -> Option<&[u8]> {
        let mut skip = usize::try_from(position.checked_sub(self.start)?).ok()?;
        for segment in &self.sealed {
            if skip < segment.len() {
                return segment.get(skip..skip.checked_add(len)?);
            }
            skip -= segment.len();
        }
        self.tail.get(skip..skip.checked_add(len)?)
    }

    /// The large buffer that holds these bytes, for handing it on once more; `None` where they were gathered.
    pub fn shared_range(&self, position: u64, len: usize) -> Option<Bytes> {
        let mut skip = usize::try_from(position.checked_sub(self.start)?).ok()?;
        for segment in &self.sealed {
            if skip < segment.len() {
                return (skip + len <= segment.len()).then(|| segment.slice(skip..skip + len));
            }
            skip -= segment.len();
        }
        None
    }

    /// Takes the empty tail's memory away, so that a quiet connection owns none.
    #[inline]
    pub fn take_idle_buffer(&mut self) -> Option<Vec<u8>> {
        (self.tail.is_empty() && self.tail.capacity() > 0).then(|| std::mem::take(&mut self.tail))
    }

    /// Gives a tail without memory a buffer to gather in.
    #[inline]
    pub fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.tail.capacity() == 0 {
            self.tail = buffer();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        while output.unwritten() > 0 {
            let slice = output.next_slice();
            let n = slice.len().min(step);
            seen.extend_from_slice(&slice[..n]);
            output.wrote(n);
        }
        seen
    }

    #[test]
    fn kept_until_released() {
        let mut output = Output::default();
        output.append(b"one");
        let at = output.end();
        output.append(b"two");
        output.append_shared(Bytes::from_static(b"LARGE"));
        let large = output.end() - 5;
        output.append(b"three");
        assert_eq!(drain(&mut output, 2), b"onetwoLARGEthree");
        assert_eq!(output.range(at, 3), Some(&b"two"[..]));
        assert_eq!(output.shared_range(large, 5), Some(Bytes::from_static(b"LARGE")));
        output.release(large);
        assert_eq!(output.range(at, 3), None);
        output.release(output.end());
        assert_eq!(output.held(), 0);
        assert_eq!(output.unwritten(), 0);
    }

    proptest! {
        /// Whatever is appended comes out once and in order, however it is written and released.
        #[test]
        fn nothing_is_lost(steps in prop::collection::vec((0u8..5, prop::collection::vec(any::<u8>(), 0..60)), 0..40)) {
            let (mut output, mut wrote, mut expected) = (Output::default(), Vec::new(), Vec::new());
            for (kind, bytes) in steps {
                match kind {
                    0 => {
                        expected.extend_from_slice(&bytes);
                        output.append(&bytes);
                    }
                    1 if !bytes.is_empty() => {
                        expected.extend_from_slice(&bytes);
                        output.append_shared(Bytes::from(bytes));
                    }
                    2 | 3 => {
                        let slice = output.next_slice();
                        let n = slice.len().min(bytes.len());
                        wrote.extend_from_slice(&slice[..n]);
                        if kind == 2 {
                            output.wrote(n);
                        } else {
                            output.wrote_for_good(n);
                        }
                    }
                    _ => output.release(output.end() - output.unwritten() as u64),
                }
            }
            wrote.extend(drain(&mut output, 7));
            prop_assert_eq!(wrote, expected);
        }
    }
}
