//! What is large, deep or odd: the same bytes to a plain Redis and through redplane, the same bytes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use redplane_testkit::command_bytes;

use super::stage::Stage;

/// What is sent, under a name for the report.
struct Extreme {
    name: &'static str,
    /// Where the protocol changes nothing, once is enough.
    protocols: &'static [u8],
    bytes: Vec<u8>,
}

/// Every exchange that differs between the plain server and a proxy, as a line.
pub(crate) fn differences(stage: &mut Stage) -> Vec<String> {
    let mut found = Vec::new();
    for extreme in all() {
        for &protocol in extreme.protocols {
            let [plain, cluster, single] = stage.addresses().map(|address| {
                if let Err(reason) = stage.sweep() {
                    found.push(format!("before {} RESP{protocol}: {reason}", extreme.name));
                }
                exchange(address, protocol, &extreme.bytes)
            });
            for (behind, got) in [("cluster", cluster), ("single", single)] {
                if let Some(difference) = first_difference(&plain, &got) {
                    found.push(format!("{} RESP{protocol} {behind}: {difference}", extreme.name));
                }
            }
        }
    }
    found
}

fn all() -> Vec<Extreme> {
    let both = |name, bytes| Extreme {
        name,
        protocols: &[2, 3],
        bytes,
    };
    let once = |name, bytes| Extreme {
        name,
        protocols: &[2],
        bytes,
    };
    let incr = command_bytes(&["INCR", "n"]);
    let large_key = vec![b'k'; 1 << 20];
    vec![
        once("a million requests in one pipeline", incr.repeat(1_000_000)),
        once("requests for all slots in one pipeline", for_all_slots(50_000)),
        once(
            "one request of two hundred thousand keys",
            keys("EXISTS", 200_000),
        ),
        both("an answer of a hundred thousand nulls", keys("MGET", 100_000)),
        once("a value of 40 MiB", large_value(40 << 20)),
        once("a list of a hundred thousand", long_list(100_000)),
        both("an answer nested 7,000 deep", nested(7_000)),
        once(
            "a key of a megabyte",
            command_bytes(&[&b"SET"[..], &large_key, b"v"]),
        ),
        both("every byte in a key and a value", every_byte()),
        both(
            "lines",
            b"SET a 1\r\nGET a\nPING\r\n\r\nECHO \"a b\"\r\n".to_vec(),
        ),
    ]
}

fn for_all_slots(count: usize) -> Vec<u8> {
    let pair = |i: usize| {
        let key = format!("key:{i}");
        [command_bytes(&["SET", &key, "v"]), command_bytes(&["GET", &key])].concat()
    };
    (0..count).flat_map(pair).collect()
}

fn keys(name: &str, count: usize) -> Vec<u8> {
    let names = (0..count).map(|i| format!("missing:{i}"));
    command_bytes(&std::iter::once(name.to_owned()).chain(names).collect::<Vec<_>>())
}

fn large_value(size: usize) -> Vec<u8> {
    let value = vec![b'x'; size];
    [
        command_bytes(&[b"SET", &b"big"[..], &value]),
        command_bytes(&["GET", "big"]),
    ]
    .concat()
}

fn long_list(count: usize) -> Vec<u8> {
    let words = (0..count).map(|i| i.to_string());
    let push = ["RPUSH".to_owned(), "list".to_owned()].into_iter().chain(words);
    [
        command_bytes(&push.collect::<Vec<_>>()),
        command_bytes(&["LRANGE", "list", "0", "-1"]),
    ]
    .concat()
}

fn nested(depth: usize) -> Vec<u8> {
    let script = format!("local t = {{}} for i = 1, {depth} do t = {{t}} end return t");
    command_bytes(&["EVAL", &script, "0"])
}

fn every_byte() -> Vec<u8> {
    let bytes: Vec<u8> = (0..=255).collect();
    [
        command_bytes(&[&b"SET"[..], &bytes, &bytes]),
        command_bytes(&[&b"GET"[..], &bytes]),
        command_bytes(&[&b"KEYS"[..], b"*"]),
    ]
    .concat()
}

/// Writes everything and a QUIT, and reads until the peer closes. Reads go on while it writes, as clients' do.
fn exchange(address: SocketAddr, protocol: u8, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it has listened before");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a minute is not zero");
    if protocol == 3 {
        let hello = command_bytes(&["HELLO", "3", "SETNAME", "extreme"]);
        stream.write_all(&hello).expect("it listens");
        skip_hello(&mut stream);
    }
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A peer that closes early is noticed by its answer.
            let _ = writer
                .write_all(bytes)
                .and_then(|()| writer.write_all(b"QUIT\r\n"));
        });
        let _ = stream.read_to_end(&mut answer);
        let _ = stream.shutdown(Shutdown::Both);
    });
    answer
}

/// HELLO's reply ends with an empty array of modules.
fn skip_hello(stream: &mut TcpStream) {
    let mut reply = Vec::new();
    let mut byte = [0];
    while !reply.ends_with(b"modules\r\n*0\r\n") {
        stream.read_exact(&mut byte).expect("HELLO is answered");
        reply.push(byte[0]);
    }
}

fn first_difference(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected == got {
        return None;
    }
    let at = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let near = |bytes: &[u8]| {
        let part = bytes.get(at.saturating_sub(20)..(at + 60).min(bytes.len()));
        String::from_utf8_lossy(part.unwrap_or_default()).into_owned()
    };
    let sizes = (expected.len(), got.len());
    Some(format!(
        "{sizes:?} bytes, at {at} {:?} became {:?}",
        near(expected),
        near(got)
    ))
}
