//! Where the keys of a command are, as data: the key specifications of `COMMAND`, and their short form.
//!
//! Redis: "Command key specifications".

use crate::flags::KeyFlags;

/// One statement about where keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where to begin.
    pub begin: Begin,
    /// How to find the keys from there.
    pub find: Find,
    /// What the command does to them.
    pub flags: KeyFlags,
}

/// Where a key specification begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument; the command's name is argument 0.
    Index(u16),
    /// Behind the first `word` found from argument `from` on; a negative `from` searches backwards from
    /// the end.
    Keyword {
        /// The word in lower case.
        word: &'static str,
        /// Where the search begins.
        from: i16,
    },
    /// Behind SORT's option STORE, the last one when it is given twice.
    SortStore,
}

/// How keys are found from the beginning of a specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`th argument up to `last`.
    Range {
        /// Relative to the beginning, or counted from the end of the arguments when negative.
        last: i16,
        /// Distance of two keys.
        step: u16,
        /// From 2 on: only the first 1/limit of the remaining arguments are keys.
        limit: u16,
    },
    /// The number of keys is an argument.
    KeyNum {
        /// Where the number is, counted from the beginning.
        at: u16,
        /// Where the first key is, counted from the beginning.
        first: u16,
        /// Distance of two keys.
        step: u16,
    },
}

/// Exactly the argument at the beginning.
pub(crate) const ONE: Find = Find::Range {
    last: 0,
    step: 1,
    limit: 0,
};

/// The short form of the key specifications, for the commands that need no search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastKeys {
    /// No keys.
    None,
    /// Argument 1 and no other.
    First,
    /// Every `step`th argument from `first` to `last` (negative: counted from the end).
    Range {
        /// The first key.
        first: u16,
        /// The last key.
        last: i16,
        /// Distance of two keys.
        step: u16,
    },
    /// Keys must be searched by the specifications.
    Spec,
}
