//! Requests by table, and in every possible split.

use proptest::prelude::*;

use super::*;

/// Where a request ends, and its arguments.
type Whole = Option<(usize, Vec<Vec<u8>>)>;

fn whole(bytes: &[u8]) -> Result<Whole, ProtocolError> {
    let mut args = Args::default();
    match decode(bytes, &mut args, &mut None, true)? {
        Decoded::Frame(end) => Ok(Some((end, copy(&args, bytes)))),
        Decoded::Inline(end, frame) => Ok(Some((end, copy(&args, &frame)))),
        Decoded::Incomplete(_) => Ok(None),
    }
}

fn copy(args: &Args, frame: &[u8]) -> Vec<Vec<u8>> {
    (0..args.len()).map(|i| args.arg(frame, i).to_vec()).collect()
}

#[test]
fn well_formed_requests() {
    type Case<'a> = (&'a [u8], usize, &'a [&'a [u8]]);
    let cases: [Case<'_>; 8] = [
        (b"*1\r\n$4\r\nPING\r\n", 14, &[b"PING"]),
        (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1", 20, &[b"GET", b"a"]),
        (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", 19, &[b"GET", b""]),
        (b"*0\r\nx", 4, &[]),
        (b"*-1\r\n", 5, &[]),
        (b"PING\r\nx", 6, &[b"PING"]),
        (b"SET a \"b c\"\n", 12, &[b"SET", b"a", b"b c"]),
        (b"\r\n", 2, &[]),
    ];
    for (bytes, end, args) in cases {
        let args: Vec<Vec<u8>> = args.iter().map(|a| a.to_vec()).collect();
        assert_eq!(
            whole(bytes),
            Ok(Some((end, args))),
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn errors_are_redis_servers() {
    let long = vec![b'x'; MAX_INLINE + 1];
    let cases: [(&[u8], ProtocolError); 11] = [
        (b"*1\r\nfoo", ProtocolError::ExpectedBulk(b'f')),
        (b"*abc\r\n", ProtocolError::MultibulkLength),
        (b"*2147483648\r\n", ProtocolError::MultibulkLength),
        (b"*01\r\n", ProtocolError::MultibulkLength),
        (b"*1\r\n$abc\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$-1\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$536870913\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$1\r\nabc", ProtocolError::ExpectedCrlf),
        (b"*1\rx", ProtocolError::ExpectedCrlf),
        (b"SET \"a\r\n", ProtocolError::UnbalancedQuotes),
        (&long, ProtocolError::TooBigInline),
    ];
    for (bytes, error) in cases {
        assert_eq!(
            whole(bytes),
            Err(error),
            "{}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
        );
    }
}

#[test]
fn strangers_are_held_short() {
    let decode = |bytes: &[u8]| decode(bytes, &mut Args::default(), &mut None, false);
    assert_eq!(
        decode(b"*11\r\n"),
        Err(ProtocolError::UnauthenticatedMultibulkLength)
    );
    assert_eq!(
        decode(b"*1\r\n$16385\r\n"),
        Err(ProtocolError::UnauthenticatedBulkLength)
    );
    assert!(matches!(
        decode(b"*10\r\n$16384\r\n"),
        Ok(Decoded::Incomplete(16399))
    ));
}

#[test]
fn a_large_argument_announces_its_size() {
    let mut partial = None;
    let mut args = Args::default();
    let head = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\nxyz";
    assert_eq!(
        decode(head, &mut args, &mut partial, true),
        Ok(Decoded::Incomplete(head.len() - 3 + 100_002))
    );
}

proptest! {
    /// Any split of a stream gives the same requests, and no byte is needed twice.
    #[test]
    fn splits_do_not_matter(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 1..6),
        cuts in prop::collection::vec(0usize..400, 0..8),
    ) {
        let mut stream = Vec::new();
        for command in &commands {
            encode::request(&mut stream, &command.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(stream.len())).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let (mut begin, mut partial, mut args, mut seen) = (0, None, Args::default(), Vec::new());
        for cut in cuts {
            while begin < cut {
                match decode(&stream[begin..cut], &mut args, &mut partial, true).unwrap() {
                    Decoded::Frame(end) => {
                        seen.push(copy(&args, &stream[begin..]));
                        begin += end;
                    }
                    Decoded::Incomplete(need) => {
                        prop_assert!(need > cut - begin);
                        break;
                    }
                    Decoded::Inline(..) => prop_assert!(false, "not inline"),
                }
            }
        }
        prop_assert_eq!(seen, commands);
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), trusted: bool) {
        let _ = decode(&bytes, &mut Args::default(), &mut None, trusted);
    }

    #[test]
    fn nothing_that_looks_like_resp_panics(bytes in "[*$0-9\\-\r\nA-Z\"' ]{0,60}") {
        let _ = decode(bytes.as_bytes(), &mut Args::default(), &mut None, true);
    }
}
