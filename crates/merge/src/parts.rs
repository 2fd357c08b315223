//! A command of which several servers were asked: which parts it has, and what each of them was answered.

use std::ops::Range;

use bytes::Bytes;
use redplane_command::Command;

use crate::failure::Failure;

/// A reply on its way to a client.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// As the server gave it.
    Raw(&'a [u8]),
    /// A large one, in the buffer it was received into.
    Shared(Bytes),
    /// There is none.
    Failed(Failure),
}

impl Answer<'_> {
    /// The same answer for one more request.
    pub fn again(&self) -> Answer<'_> {
        match self {
            Self::Failed(failure) => Answer::Failed(*failure),
            other => Answer::Raw(other.bytes()),
        }
    }

    /// The bytes that a client would see.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Raw(raw) => raw,
            Self::Shared(shared) => shared,
            Self::Failed(failure) => failure.reply(),
        }
    }
}

/// The reply of one part.
#[derive(Clone, Debug)]
pub enum Part {
    /// It has not come.
    Missing,
    /// It stands among the small replies of all parts.
    Kept(Range<usize>),
    /// A large one, in the buffer it was received into.
    Shared(Bytes),
    /// There is none.
    Failed(Failure),
}

/// The parts of one command.
#[derive(Debug)]
pub struct Parts {
    pub(crate) command: &'static Command,
    left: u32,
    pub(crate) replies: Vec<Part>,
    /// The small replies of all parts, one behind the other.
    bytes: Vec<u8>,
    /// Bytes of large ones.
    shared: usize,
    /// For each key, in the order of the request, the part it travelled in. Empty for fan-outs.
    pub(crate) keys: Vec<u32>,
    /// The addresses of the nodes asked, where merging names them.
    pub(crate) nodes: Vec<String>,
    /// SCRIPT EXISTS: which of the scripts the proxy remembers itself.
    pub(crate) remembered: Vec<bool>,
    /// Argument 2 of the request, where merging needs it (SLOWLOG GET's count).
    pub(crate) limit: Option<i64>,
}

impl Parts {
    /// So many parts, none of them answered. `keys` says for each key in which part it travels; it is empty where keys
    /// do not matter.
    pub fn new(command: &'static Command, parts: usize, keys: Vec<u32>) -> Self {
        let missing = std::iter::repeat_with(|| Part::Missing);
        Self {
            command,
            left: parts as u32,
            replies: missing.take(parts).collect(),
            bytes: Vec::new(),
            shared: 0,
            keys,
            nodes: Vec::new(),
            remembered: Vec::new(),
            limit: None,
        }
    }

    /// With the names of the nodes that are asked, part by part.
    #[must_use]
    pub fn with_nodes(self, nodes: Vec<String>) -> Self {
        Self { nodes, ..self }
    }

    /// With which of the scripts asked for the proxy remembers.
    #[must_use]
    pub fn with_remembered(self, remembered: Vec<bool>) -> Self {
        Self { remembered, ..self }
    }

    /// With as many entries at most.
    #[must_use]
    pub fn with_limit(self, limit: Option<i64>) -> Self {
        Self { limit, ..self }
    }

    /// The command.
    pub fn command(&self) -> &'static Command {
        self.command
    }

    /// Divides a part that is not answered into `count`, which is how many keys it has; says their numbers.
    pub fn divide(&mut self, part: u32, count: usize) -> Option<Vec<u32>> {
        let own = |number: &u32| *number == part;
        if count == 0 || self.keys.iter().filter(|number| own(number)).count() != count {
            return None;
        }
        let Part::Missing = self.replies.get(part as usize)? else {
            return None;
        };
        let next = self.replies.len() as u32;
        let numbers: Vec<u32> = std::iter::once(part).chain(next..).take(count).collect();
        let keys = self.keys.iter_mut().filter(|number| own(number));
        keys.zip(&numbers).for_each(|(key, number)| *key = *number);
        let added = count - 1;
        self.replies
            .extend(std::iter::repeat_with(|| Part::Missing).take(added));
        self.left += added as u32;
        Some(numbers)
    }

    /// The parts in their order.
    pub fn replies(&self) -> impl Iterator<Item = &Part> + Clone {
        self.replies.iter()
    }

    /// What a server answered to a part; `None` where none did.
    pub fn raw<'a>(&'a self, part: &'a Part) -> Option<&'a [u8]> {
        match part {
            Part::Kept(range) => self.bytes.get(range.clone()),
            Part::Shared(shared) => Some(shared),
            Part::Missing | Part::Failed(_) => None,
        }
    }

    /// What servers answered, without the parts that have no reply.
    pub(crate) fn raw_replies(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.replies.iter().filter_map(|part| self.raw(part))
    }

    /// Takes the reply of a part; true when it was the last that was missing.
    pub fn take(&mut self, part: u32, answer: Answer<'_>) -> bool {
        let Some(slot @ Part::Missing) = self.replies.get_mut(part as usize) else {
            return false;
        };
        *slot = match answer {
            Answer::Raw(raw) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(raw);
                Part::Kept(start..self.bytes.len())
            }
            Answer::Shared(shared) => {
                self.shared += shared.len();
                Part::Shared(shared)
            }
            Answer::Failed(failure) => Part::Failed(failure),
        };
        self.left -= 1;
        self.left == 0
    }

    /// Bytes of the replies that have come.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_divided_into_its_keys() {
        let command = redplane_command::lookup(b"mget").unwrap();
        let mut parts = Parts::new(command, 2, vec![0, 1, 0, 0]);
        assert!(!parts.take(1, Answer::Raw(b"*1\r\n$1\r\nb\r\n")));
        assert_eq!(parts.divide(1, 1), None, "it is answered");
        assert_eq!(parts.divide(0, 2), None, "it has three");
        assert_eq!(parts.divide(0, 3), Some(vec![0, 2, 3]));
        for (part, key) in [(3, "d"), (0, "a"), (2, "c")] {
            let whole = parts.take(part, Answer::Raw(format!("*1\r\n$1\r\n{key}\r\n").as_bytes()));
            assert_eq!(whole, part == 2);
        }
        let mut merged = Vec::new();
        assert!(crate::merge(&parts, &crate::Own::default(), &mut merged));
        assert_eq!(merged, b"*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n");
    }

    #[test]
    fn what_has_come_has_a_size() {
        let command = redplane_command::lookup(b"mget").unwrap();
        let mut parts = Parts::new(command, 3, vec![0, 1, 2]);
        parts.take(0, Answer::Raw(b"12345"));
        parts.take(0, Answer::Raw(b"it is answered already"));
        parts.take(1, Answer::Failed(Failure::Upstream));
        parts.take(2, Answer::Shared(Bytes::from_static(b"1234567890")));
        assert_eq!(parts.size(), 15);
    }
}
