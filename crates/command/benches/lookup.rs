//! What a request costs in this crate: the search for its command, its keys and their slot.

use criterion::{Criterion, criterion_group, criterion_main};
use redplane_command::{crc16, find, keys, lookup, murmur2, slot, slots};
use std::hint::black_box;

fn measure<T>(c: &mut Criterion, what: &str, of: &str, mut routine: impl FnMut() -> T) {
    c.bench_function(&format!("{what} {of}"), |b| b.iter(&mut routine));
}

fn names(c: &mut Criterion) {
    for name in ["GET", "hincrbyfloat", "georadiusbymember_ro", "nosuch"] {
        measure(c, "lookup", name, || lookup(black_box(name.as_bytes())));
    }
}

fn hashes(c: &mut Criterion) {
    for key in [
        "user:1",
        "key:000000001234",
        "{user1000}.following",
        "session:0123456789abcdef0123456789abcdef",
    ] {
        let bytes = key.as_bytes();
        measure(c, "slot", key, || slot(black_box(bytes)));
        measure(c, "crc16", key, || crc16(black_box(bytes)));
        measure(c, "crc16 of the crate", key, || {
            crc16::State::<crc16::XMODEM>::calculate(black_box(bytes))
        });
        measure(c, "murmur2", key, || murmur2(black_box(bytes)));
    }
}

fn requests(c: &mut Criterion) {
    for request in [
        "SET user:1000 value",
        "MGET {a}1 {a}2 {a}3 {a}4",
        "ZINTERSTORE d 2 a b",
        "XREAD STREAMS a 0",
    ] {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let arg = |at: usize| args[at];
        let command = find(args.len(), arg).expect("a valid request");
        measure(c, "find", request, || find(black_box(args.len()), arg).is_ok());
        measure(c, "keys", request, || {
            keys(command, black_box(args.len()), arg).count()
        });
        measure(c, "slots", request, || slots(command, black_box(args.len()), arg));
    }
}

criterion_group!(benches, names, hashes, requests);
criterion_main!(benches);
