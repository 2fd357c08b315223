//! What bytes cost: requests decoded, whole and in pieces, and the ends of replies found.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redplane_resp::encode;
use redplane_resp::reply::{Scan, Scanner};
use redplane_resp::request::{Args, Decoded, decode};

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode::request(&mut frame, words);
    frame
}

/// Decodes all that `bytes` hold and says how many requests that was.
fn decode_all(bytes: &[u8], args: &mut Args) -> usize {
    let (mut at, mut count, mut partial) = (0, 0, None);
    while at < bytes.len() {
        match decode(&bytes[at..], args, &mut partial, true) {
            Ok(Decoded::Frame(end)) => at += end,
            other => unreachable!("whole requests decode: {other:?}"),
        }
        count += 1;
    }
    count
}

fn requests(c: &mut Criterion) {
    let value = [b'x'; 64];
    let key = b"key:000000001234";
    let many: Vec<&[u8]> = std::iter::once(&b"MGET"[..])
        .chain(std::iter::repeat_n(&key[..], 100))
        .collect();
    let cases = [
        ("GET", request(&[b"GET", key])),
        ("SET 64 B", request(&[b"SET", key, &value])),
        ("MGET 100 keys", request(&many)),
        ("16 × SET 64 B", request(&[b"SET", key, &value]).repeat(16)),
    ];
    let mut group = c.benchmark_group("decode");
    for (name, bytes) in cases {
        let mut args = Args::default();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| decode_all(black_box(&bytes), &mut args)));
    }
    group.finish();
}

/// A large request that arrives in pieces: no byte may be looked at twice.
fn pieces(c: &mut Criterion) {
    let words = vec![&b"key:000000001234"[..]; 1000];
    let bytes = request(&words);
    c.bench_function("decode 1,000 arguments in pieces of 1 KiB", |b| {
        let mut args = Args::default();
        b.iter(|| {
            let mut partial = None;
            (1..=bytes.len().div_ceil(1024))
                .map(|piece| &bytes[..(piece * 1024).min(bytes.len())])
                .filter(|have| matches!(decode(have, &mut args, &mut partial, true), Ok(Decoded::Frame(_))))
                .count()
        });
    });
}

fn replies(c: &mut Criterion) {
    let bulk = |size: usize| {
        let mut reply = Vec::new();
        encode::bulk(&mut reply, &vec![b'x'; size]);
        reply
    };
    let mut array = Vec::new();
    encode::array(&mut array, 100);
    array.extend_from_slice(&bulk(64).repeat(100));
    let cases = [
        ("+OK", b"+OK\r\n".to_vec()),
        ("64 B", bulk(64)),
        ("64 KiB", bulk(64 * 1024)),
        ("array of 100", array),
    ];
    let mut group = c.benchmark_group("scan");
    for (name, bytes) in cases {
        group.bench_function(name, |b| {
            b.iter(|| match Scanner::default().scan(black_box(&bytes)) {
                Ok(Scan::Whole(end)) => end,
                other => unreachable!("a whole reply has an end: {other:?}"),
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, pieces, replies);
criterion_main!(benches);
