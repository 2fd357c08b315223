//! Which clients read which keys, and through which connection: what Redis calls the tracking table.
//!
//! A key is forgotten when it is told to have changed. The table is bounded in bytes; whoever read what has to leave
//! must be told so. Redis: `tracking-table-max-keys`, 1,000,000 of them.

use bytes::Bytes;
use rustc_hash::FxHashMap;
use slab::Slab;

/// Bytes that one worker spends on it.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a key costs beside its name.
const KEY: usize = 128;

/// A client that read a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) client: u32,
    pub(super) generation: u32,
    /// The connection whose server remembers it.
    pub(super) via: u32,
    /// The request: the key's invalidation comes behind its reply.
    pub(super) sequence: u32,
}

impl Reader {
    fn place(&self) -> (u32, u32) {
        (self.client, self.via)
    }
}

/// A key and who read it, in the order of [`Reader::place`].
#[derive(Debug)]
struct Entry {
    name: Bytes,
    readers: Vec<Reader>,
}

impl Entry {
    fn size(&self) -> usize {
        KEY + self.name.len() + self.readers.capacity() * size_of::<Reader>()
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    places: FxHashMap<Bytes, usize>,
    entries: Slab<Entry>,
    bytes: usize,
}

impl Table {
    /// Notes that a client has read a key. Readers that are not `alive` are forgotten from time to time.
    pub(super) fn register(&mut self, name: &[u8], reader: Reader, alive: impl Fn(&Reader) -> bool) {
        let place = match self.places.get(name) {
            Some(known) => *known,
            None => {
                let name = Bytes::copy_from_slice(name);
                let place = self.entries.insert(Entry {
                    name: name.clone(),
                    readers: Vec::with_capacity(1),
                });
                self.places.insert(name, place);
                self.bytes += self.entries[place].size();
                place
            }
        };
        let entry = &mut self.entries[place];
        self.bytes -= entry.size();
        let readers = &mut entry.readers;
        match readers.binary_search_by_key(&reader.place(), Reader::place) {
            Ok(known) => readers[known] = reader,
            Err(at) => {
                readers.insert(at, reader);
                if readers.len() >= 64 && readers.len().is_power_of_two() {
                    readers.retain(alive);
                }
            }
        }
        self.bytes += entry.size();
    }

    /// Takes out whoever read a key through a connection: its server has forgotten them.
    pub(super) fn take(&mut self, name: &[u8], via: u32) -> Vec<Reader> {
        match self.places.get(name) {
            Some(place) => self.take_some(*place, |reader| reader.via == via),
            None => Vec::new(),
        }
    }

    fn take_some(&mut self, place: usize, leaves: impl Fn(&Reader) -> bool) -> Vec<Reader> {
        let entry = &mut self.entries[place];
        self.bytes -= entry.size();
        let (left, kept) = entry.readers.drain(..).partition(leaves);
        entry.readers = kept;
        self.bytes += entry.size();
        if entry.readers.is_empty() {
            self.remove(place);
        }
        left
    }

    fn remove(&mut self, place: usize) -> Entry {
        let entry = self.entries.remove(place);
        self.bytes -= entry.size();
        self.places.remove(&entry.name);
        entry
    }

    /// Takes out every reader that `leaves`, with the key it read.
    pub(super) fn take_all(&mut self, leaves: impl Fn(&[u8], &Reader) -> bool) -> Vec<(Bytes, Reader)> {
        let mut all = Vec::new();
        let places: Vec<usize> = self.entries.iter().map(|(place, _)| place).collect();
        for place in places {
            let name = self.entries[place].name.clone();
            let left = self.take_some(place, |reader| leaves(&name, reader));
            all.extend(left.into_iter().map(|reader| (name.clone(), reader)));
        }
        all
    }

    /// Takes out a key at random while the table is too large.
    pub(super) fn evict(&mut self, random: &mut fastrand::Rng) -> Option<(Bytes, Vec<Reader>)> {
        if self.bytes <= MAX_BYTES || self.entries.is_empty() {
            return None;
        }
        // Places are nearly all taken: the next one that is stands near.
        let from = random.usize(..self.entries.capacity());
        let next = (from..self.entries.capacity()).chain(0..from);
        let place = next.into_iter().find(|place| self.entries.contains(*place))?;
        let entry = self.remove(place);
        Some((entry.name, entry.readers))
    }

    /// Keys that are remembered.
    pub(super) fn keys(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(client: u32, via: u32, sequence: u32) -> Reader {
        Reader {
            client,
            generation: 0,
            via,
            sequence,
        }
    }

    #[test]
    fn a_key_is_forgotten_by_connection() {
        let mut table = Table::default();
        for (client, via, sequence) in [(1, 7, 0), (2, 7, 0), (1, 8, 1), (1, 7, 2)] {
            table.register(b"k", reader(client, via, sequence), |_| true);
        }
        assert_eq!(table.take(b"k", 7), [reader(1, 7, 2), reader(2, 7, 0)]);
        assert_eq!(table.take(b"k", 7), []);
        assert_eq!(table.keys(), 1, "one read it elsewhere");
        assert_eq!(table.take(b"k", 8), [reader(1, 8, 1)]);
        assert_eq!((table.keys(), table.bytes), (0, 0));
    }

    #[test]
    fn the_dead_do_not_pile_up() {
        let mut table = Table::default();
        for client in 0..10_000 {
            table.register(b"k", reader(client, 1, 0), |reader| reader.client + 10 > client);
        }
        assert!(table.bytes < 64 * size_of::<Reader>() + KEY + 1 + 4096);
        assert!(table.take(b"k", 1).len() < 64);
    }

    #[test]
    fn it_does_not_outgrow_its_bound() {
        let (mut table, mut random) = (Table::default(), fastrand::Rng::with_seed(1));
        let name = |at: u32| format!("{at:0>1000}");
        let mut evicted = 0;
        for at in 0..80_000 {
            table.register(name(at).as_bytes(), reader(1, 1, at), |_| true);
            while let Some((_, readers)) = table.evict(&mut random) {
                evicted += readers.len();
            }
            assert!(table.bytes <= MAX_BYTES);
        }
        assert!(evicted > 0);
        assert_eq!(table.keys() + evicted, 80_000);
        let all = table.take_all(|_, reader| reader.via == 1);
        assert_eq!(all.len() + evicted, 80_000);
        assert_eq!((table.keys(), table.bytes), (0, 0));
    }
}
