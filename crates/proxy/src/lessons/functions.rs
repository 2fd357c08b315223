//! Which functions say of themselves that they do not write (`no-writes`): while writes are paused, only those run.
//!
//! Asked of one primary (`FUNCTION LIST`) when a client calls one meanwhile, and believed for a second. What cannot be asked
//! counts as writing.

use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::core::Core;
use redplane_resp::encode;
use redplane_resp::value::{self, Value};
use rustc_hash::FxHashSet;

use super::{About, Lessons, field};

/// How long an answer is believed, in microseconds.
const FRESH: u64 = 1_000_000;

/// What servers of one pool have said.
pub(super) struct KnownFunctions {
    until: u64,
    readers: FxHashSet<Vec<u8>>,
}

impl Lessons {
    /// Whether all these functions of a pool's servers only read. `None` when that is being asked: the client rests.
    pub(crate) fn only_read<'a>(
        &mut self,
        core: &mut Core,
        key: usize,
        pool: usize,
        mut names: impl Iterator<Item = &'a [u8]>,
    ) -> Option<bool> {
        let known = self.functions.get(&pool);
        if let Some(known) = known.filter(|known| core.now < known.until) {
            return Some(names.all(|name| known.readers.contains(name)));
        }
        if self.join(core, key, pool, &About::Functions) {
            return None;
        }
        let connection = core.connection_for(pool, Target::Any, Access::Primary).ok();
        let Some(connection) = connection else {
            return Some(false);
        };
        let mut frame = Vec::new();
        encode::request(&mut frame, &[b"FUNCTION", b"LIST"]);
        self.send(core, key, pool, About::Functions, connection, &frame);
        None
    }

    /// A server has said which functions there are, or has not.
    pub(super) fn note_functions(&mut self, now: u64, pool: usize, raw: Option<&[u8]>) {
        let readers = raw.and_then(readers).unwrap_or_default();
        self.functions.retain(|_, known| now < known.until);
        let until = now + FRESH;
        self.functions.insert(pool, KnownFunctions { until, readers });
    }
}

/// The names of functions with the flag, out of a reply to FUNCTION LIST.
fn readers(raw: &[u8]) -> Option<FxHashSet<Vec<u8>>> {
    let reply = value::decode(raw).ok()??.0;
    let mut found = FxHashSet::default();
    for library in reply.elements()? {
        let functions = field(library, "functions").and_then(Value::elements);
        for function in functions.unwrap_or_default() {
            let flags = field(function, "flags").and_then(Value::elements);
            let reads = flags
                .unwrap_or_default()
                .iter()
                .any(|flag| flag.text() == Some(b"no-writes"));
            if let Some(name) = field(function, "name").and_then(Value::text)
                && reads
            {
                found.insert(name.to_vec());
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_the_flag_are_found() {
        let function = |name: &str, flags: &str| {
            format!(
                "*6\r\n$4\r\nname\r\n${}\r\n{name}\r\n$11\r\ndescription\r\n$-1\r\n$5\r\nflags\r\n{flags}",
                name.len()
            )
        };
        let library = format!(
            "*1\r\n*6\r\n$12\r\nlibrary_name\r\n$1\r\nl\r\n$6\r\nengine\r\n$3\r\nLUA\r\n$9\r\nfunctions\r\n*3\r\n{}{}{}",
            function("reads", "*1\r\n$9\r\nno-writes\r\n"),
            function("writes", "*0\r\n"),
            function("both", "*2\r\n$11\r\nallow-stale\r\n$9\r\nno-writes\r\n"),
        );
        let found = readers(library.as_bytes()).unwrap();
        let names: Vec<&[u8]> = [&b"reads"[..], b"both"].into();
        assert_eq!(found.len(), 2);
        assert!(names.iter().all(|name| found.contains(*name)));
        assert!(readers(b"-NOPERM no\r\n").is_none());
        assert!(readers(b"*0\r\n").unwrap().is_empty());
    }
}
