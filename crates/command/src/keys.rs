//! Finds the key arguments of a request, by the key specifications of `COMMAND`.
//!
//! Arguments are given as a count and a closure, because the engine holds them as ranges of its read
//! buffer. Nothing here panics or allocates; arguments that make no sense (a number of keys that is not a
//! number, or beyond the arguments) simply have no keys, and the server words the error.

use crate::key_spec::{Begin, FastKeys, Find, KeySpec};
use crate::slot::slot;
use crate::table::Command;

/// The slot of all keys of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOf {
    /// There are no keys.
    NoKeys,
    /// All keys are in this slot.
    One(u16),
    /// Keys are in several slots.
    Cross,
}

/// The key arguments of a request, as indices into its arguments (the name is argument 0).
///
/// Shard channels (SSUBSCRIBE, SPUBLISH) are among them, since they are routed like keys; see
/// [`Command::keys_are_channels`].
#[derive(Clone, Debug)]
pub struct Keys<F> {
    specs: &'static [KeySpec],
    run: Run,
    count: usize,
    arg: F,
}

/// Arguments `at`, `at + step` … up to and with `last`; empty when `at > last`.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: usize,
    last: usize,
    step: usize,
}

impl Run {
    const EMPTY: Self = Self {
        at: 1,
        last: 0,
        step: 1,
    };

    /// Out of bounds means a syntax error that the server will word, hence no keys.
    fn new(at: usize, last: usize, step: u16, count: usize) -> Self {
        if at == 0 || step == 0 || last >= count || at > last {
            return Self::EMPTY;
        }
        Self {
            at,
            last,
            step: step.into(),
        }
    }
}

/// The key arguments of `command` with `count` arguments (its name included).
#[inline]
pub fn keys<'a, F: Fn(usize) -> &'a [u8]>(command: &Command, count: usize, arg: F) -> Keys<F> {
    let (run, specs): (Run, &'static [KeySpec]) = match command.keys.fast {
        FastKeys::None => (Run::EMPTY, &[]),
        FastKeys::First => (Run::new(1, 1, 1, count), &[]),
        FastKeys::Range { first, last, step } => {
            let last = from_end(last, 0, count).unwrap_or(0);
            (Run::new(first.into(), last, step, count), &[])
        }
        FastKeys::Spec => (Run::EMPTY, command.keys.specs),
    };
    Keys {
        specs,
        run,
        count,
        arg,
    }
}

/// The first key argument, if there is one.
#[inline]
pub fn first_key<'a, F: Fn(usize) -> &'a [u8]>(command: &Command, count: usize, arg: F) -> Option<usize> {
    match command.keys.fast {
        FastKeys::First => (count > 1).then_some(1),
        _ => keys(command, count, arg).next(),
    }
}

/// The slot that all keys of a request share.
#[inline]
pub fn slots<'a, F: Fn(usize) -> &'a [u8] + Copy>(command: &Command, count: usize, arg: F) -> SlotOf {
    let mut found = keys(command, count, arg);
    let Some(first) = found.next() else {
        return SlotOf::NoKeys;
    };
    let one = slot(arg(first));
    if found.all(|key| slot(arg(key)) == one) {
        SlotOf::One(one)
    } else {
        SlotOf::Cross
    }
}

impl<'a, F: Fn(usize) -> &'a [u8]> Iterator for Keys<F> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.run.at > self.run.last {
            let (spec, rest) = self.specs.split_first()?;
            self.specs = rest;
            self.run = self.resolve(spec).unwrap_or(Run::EMPTY);
        }
        let key = self.run.at;
        self.run.at += self.run.step;
        Some(key)
    }
}

impl<'a, F: Fn(usize) -> &'a [u8]> Keys<F> {
    fn resolve(&self, spec: &KeySpec) -> Option<Run> {
        let begin = match spec.begin {
            Begin::Index(at) => at.into(),
            Begin::Keyword { word, from } => self.behind(word, from)?,
            Begin::SortStore => self.sort_store()?,
        };
        match spec.find {
            Find::Range {
                last,
                step,
                limit: limit @ 2..,
            } => {
                let part = self.count.checked_sub(begin)? / usize::from(limit);
                let last = (begin + part).checked_sub(usize::from(last.unsigned_abs()))?;
                Some(Run::new(begin, last, step, self.count))
            }
            Find::Range { last, step, .. } => Some(Run::new(
                begin,
                from_end(last, begin, self.count)?,
                step,
                self.count,
            )),
            Find::KeyNum { at, first, step } => {
                let at = begin.checked_add(at.into()).filter(|at| *at < self.count)?;
                let number = number((self.arg)(at))?.checked_sub(1)?;
                let first = begin.checked_add(first.into())?;
                let last = number.checked_mul(step.into())?.checked_add(first)?;
                Some(Run::new(first, last, step, self.count))
            }
        }
    }

    /// The argument behind a keyword; the very last argument cannot be one, nothing stands behind it.
    fn behind(&self, word: &str, from: i16) -> Option<usize> {
        let is_word = |at: &usize| (self.arg)(*at).eq_ignore_ascii_case(word.as_bytes());
        let end = self.count.checked_sub(1)?;
        let found = match usize::try_from(from) {
            Ok(from) => (from..end).find(is_word)?,
            Err(_) => {
                let start = self.count.checked_sub(usize::from(from.unsigned_abs()))?;
                (1..=start).rev().find(is_word)?
            }
        };
        Some(found + 1)
    }

    /// Redis's `sortGetKeys`: the arguments of LIMIT, GET and BY are skipped, or a key named `store` misleads.
    fn sort_store(&self) -> Option<usize> {
        let (mut at, mut store) = (2, None);
        while at + 1 < self.count {
            let option = (self.arg)(at);
            let skipped = [("limit", 2), ("get", 1), ("by", 1), ("store", 1)];
            let known = skipped
                .iter()
                .find(|(name, _)| option.eq_ignore_ascii_case(name.as_bytes()));
            if known.is_some_and(|(name, _)| *name == "store") {
                store = Some(at + 1);
            }
            at += known.map_or(1, |(_, arguments)| arguments + 1);
        }
        store
    }
}

/// An index relative to `begin`, or counted from the end of `count` arguments when negative.
fn from_end(last: i16, begin: usize, count: usize) -> Option<usize> {
    match usize::try_from(last) {
        Ok(last) => begin.checked_add(last),
        Err(_) => count.checked_sub(usize::from(last.unsigned_abs())),
    }
}

/// A plain decimal number, as Redis's `string2ll` takes it: no sign but a minus, no leading zero.
fn number(text: &[u8]) -> Option<usize> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', rest @ ..] if text.len() <= 18 && rest.iter().all(u8::is_ascii_digit) => Some(
            text.iter()
                .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{lookup, lookup_sub};

    fn of(command: &Command, request: &str) -> Vec<usize> {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        keys(command, args.len(), |at| args[at]).collect()
    }

    #[test]
    fn senseless_numbers_have_no_keys() {
        let eval = lookup(b"EVAL").expect("known");
        for number in [
            "0",
            "-1",
            "3",
            "01",
            "x",
            "+1",
            "99999999999999999999",
            "9223372036854775807",
            "",
        ] {
            assert_eq!(
                of(eval, &format!("EVAL x {number} a b")),
                Vec::<usize>::new(),
                "{number}"
            );
        }
        // What is sure of a command that the server will refuse still routes it.
        assert_eq!(
            of(lookup(b"zunionstore").expect("known"), "ZUNIONSTORE d 9 a b"),
            [1]
        );
    }

    #[test]
    fn slots_of_one_and_of_several() {
        let mget = lookup(b"MGET").expect("known");
        let of = |args: &[&[u8]]| slots(mget, args.len(), |at| args[at]);
        assert_eq!(of(&[b"MGET"]), SlotOf::NoKeys);
        assert_eq!(of(&[b"MGET", b"foo", b"{foo}2"]), SlotOf::One(12182));
        assert_eq!(of(&[b"MGET", b"foo", b"bar"]), SlotOf::Cross);
    }

    #[test]
    fn subcommands_and_channels_are_counted_from_the_container() {
        let object = lookup(b"object").expect("known");
        assert_eq!(
            of(lookup_sub(object, b"FREQ").expect("known"), "OBJECT FREQ k"),
            [2]
        );
        let spublish = lookup(b"spublish").expect("known");
        assert_eq!(of(spublish, "SPUBLISH c m"), [1]);
        assert!(spublish.keys_are_channels() && !object.keys_are_channels());
    }
}
