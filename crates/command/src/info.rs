//! One entry of COMMAND and COMMAND INFO, in the ten elements that servers have had since 7.0.
//!
//! ACL categories and tips stay empty: users are the proxy's own configuration, and tips are for clients that
//! fan out by themselves, which a client of the proxy must not.

use crate::flags::{Flags, KeyFlags};
use crate::key_spec::{Begin, Find, KeySpec};
use crate::table::Command;
use std::io::Write as _;

/// The protocol that the client has chosen with HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Everything is an array.
    Resp2,
    /// Flags are sets, specifications are maps.
    Resp3,
}

/// Appends the entry of `command` as RESP; its subcommands are part of it.
pub fn command_info(out: &mut Vec<u8>, command: &Command, protocol: Protocol) {
    let mut to = Encoder { out, protocol };
    to.head(b'*', 10);
    to.bulk(command.name);
    to.integer(command.arity.into());
    to.command_flags(command);
    let (first, last, step) = command.keys.range;
    [first, last, step]
        .iter()
        .for_each(|number| to.integer((*number).into()));
    to.set(0);
    to.head(b'*', 0);
    to.head(b'*', command.keys.specs.len());
    command.keys.specs.iter().for_each(|spec| to.key_spec(spec));
    to.head(b'*', command.subcommands().len());
    for sub in command.subcommands() {
        command_info(out, sub, protocol);
    }
}

struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl Encoder<'_> {
    fn head(&mut self, kind: u8, count: usize) {
        self.out.push(kind);
        let _ = write!(self.out, "{count}\r\n");
    }

    fn set(&mut self, count: usize) {
        self.head(
            if self.protocol == Protocol::Resp3 {
                b'~'
            } else {
                b'*'
            },
            count,
        );
    }

    fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', pairs * 2),
            Protocol::Resp3 => self.head(b'%', pairs),
        }
    }

    fn bulk(&mut self, text: &str) {
        let _ = write!(self.out, "${}\r\n{text}\r\n", text.len());
    }

    fn simple(&mut self, text: &str) {
        let _ = write!(self.out, "+{text}\r\n");
    }

    fn integer(&mut self, number: i64) {
        let _ = write!(self.out, ":{number}\r\n");
    }

    fn command_flags(&mut self, command: &Command) {
        let movable = command.movable_keys().then_some("movablekeys");
        // Sentinel's flags say where a command is known, servers keep them to themselves.
        let hidden = [
            Flags::SENTINEL,
            Flags::ONLY_SENTINEL,
            Flags::PROTECTED,
            Flags::MAY_REPLICATE,
        ];
        let hidden: Vec<&str> = hidden.iter().flat_map(|flag| flag.names()).collect();
        let names = || {
            command
                .flags
                .names()
                .filter(|name| !hidden.contains(name))
                .chain(movable)
        };
        self.set(names().count());
        names().for_each(|name| self.simple(name));
    }

    fn key_spec(&mut self, spec: &KeySpec) {
        self.map(3);
        self.bulk("flags");
        self.key_flags(spec.flags);
        self.bulk("begin_search");
        match spec.begin {
            Begin::Index(at) => self.typed("index", &[("index", at.into())]),
            Begin::Keyword { word, from } => self.keyword(word, from),
            Begin::SortStore => self.typed("unknown", &[]),
        }
        self.bulk("find_keys");
        match spec.find {
            _ if spec.begin == Begin::SortStore => self.typed("unknown", &[]),
            Find::Range { last, step, limit } => {
                let numbers = [
                    ("lastkey", last.into()),
                    ("keystep", step.into()),
                    ("limit", limit.into()),
                ];
                self.typed("range", &numbers);
            }
            Find::KeyNum { at, first, step } => {
                let numbers = [
                    ("keynumidx", at.into()),
                    ("firstkey", first.into()),
                    ("keystep", step.into()),
                ];
                self.typed("keynum", &numbers);
            }
        }
    }

    fn key_flags(&mut self, flags: KeyFlags) {
        self.set(flags.names().count());
        flags.names().for_each(|name| self.simple(name));
    }

    /// A kind of search and its numbers.
    fn typed(&mut self, kind: &str, numbers: &[(&str, i64)]) {
        self.map(2);
        self.bulk("type");
        self.bulk(kind);
        self.bulk("spec");
        self.map(numbers.len());
        for (name, number) in numbers {
            self.bulk(name);
            self.integer(*number);
        }
    }

    fn keyword(&mut self, word: &str, from: i16) {
        self.map(2);
        self.bulk("type");
        self.bulk("keyword");
        self.bulk("spec");
        self.map(2);
        self.bulk("keyword");
        self.bulk(&word.to_ascii_uppercase());
        self.bulk("startfrom");
        self.integer(from.into());
    }
}
