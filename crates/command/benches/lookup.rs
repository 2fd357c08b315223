//! What a request costs in this crate: the search for its command, its keys and their slot.

use criterion::{Criterion, criterion_group, criterion_main};
use redplane_command::{crc16, find, keys, lookup, murmur2, slot, slots};
use std::hint::black_box;

fn names(c: &mut Criterion) {
    for name in ["GET", "hincrbyfloat", "georadiusbymember_ro", "nosuch"] {
        c.bench_function(&format!("lookup {name}"), |b| {
            b.iter(|| lookup(black_box(name.as_bytes())))
        });
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
        c.bench_function(&format!("slot {key}"), |b| b.iter(|| slot(black_box(bytes))));
        c.bench_function(&format!("crc16 {key}"), |b| b.iter(|| crc16(black_box(bytes))));
        let by_crate = |bytes: &[u8]| crc16::State::<crc16::XMODEM>::calculate(bytes);
        c.bench_function(&format!("crc16 crate {key}"), |b| {
            b.iter(|| by_crate(black_box(bytes)))
        });
        c.bench_function(&format!("murmur2 {key}"), |b| {
            b.iter(|| murmur2(black_box(bytes)))
        });
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
        c.bench_function(&format!("find {request}"), |b| {
            b.iter(|| find(black_box(args.len()), arg).is_ok())
        });
        let count = || keys(command, black_box(args.len()), arg).count();
        c.bench_function(&format!("keys {request}"), |b| b.iter(count));
        c.bench_function(&format!("slots {request}"), |b| {
            b.iter(|| slots(command, black_box(args.len()), arg))
        });
    }
}

criterion_group!(benches, names, hashes, requests);
criterion_main!(benches);
