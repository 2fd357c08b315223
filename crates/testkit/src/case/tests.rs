//! The reader of cases against texts as a user would write them.

use super::*;

const TEXT: &str = r#"
# A file's default.
topology: single

case: a differs
setup: SET a 1
send: GET a
and: GET b
redis: "1"
redis: nil
envoy: -no upstream host
envoy: nil
redplane: "1"
redplane: nil
why: an example
other: SET a "two words"
raw: GET a\r\n
expect: "two words"

case: b agrees
topology: cluster
since: 7.0
until: 7.4
send: QUIT
expect: +OK
expect: closed
"#;

#[test]
fn a_file_is_read() {
    let cases = read("x.case", TEXT).unwrap();
    assert_eq!(cases.len(), 2);
    let a = &cases[0];
    assert_eq!(
        (a.topology.as_str(), a.setup.len(), a.steps.len()),
        ("single", 1, 2)
    );
    assert_eq!(
        a.steps[0].bytes,
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n"
    );
    assert_eq!(a.steps[0].expected(Leg::Envoy).len(), 2);
    assert_eq!(a.steps[1].bytes, b"GET a\r\n");
    assert_eq!(
        a.steps[1].other,
        [vec![b"SET".to_vec(), b"a".to_vec(), b"two words".to_vec()]]
    );
    assert!(a.steps[1].expected(Leg::Node).is_empty() && !a.steps[1].expected(Leg::Redis).is_empty());
    let b = &cases[1];
    assert_eq!(b.steps[0].all[1], Expected::Closed);
    assert!(b.holds_for(&[7, 0, 15]) && !b.holds_for(&[7, 4, 0]) && !b.holds_for(&[6, 2, 9]));
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    let refused = |text: &str| read("x.case", text).unwrap_err();
    assert!(refused("case: a\nsned: GET a\n").starts_with("x.case:2: unknown key"));
    assert!(refused("case: a\nsend: GET a\nexpect: what\n").starts_with("x.case:3: not understood"));
    assert!(refused("case: a\nsend: GET a\nenvoy: nil\n").contains("no why"));
    assert!(refused("case: a\n").contains("sends nothing"));
    assert!(refused("case: a\nsend: GET \"a\n").contains("not closed"));
}

#[test]
fn patterns_match() {
    let reply = |text: &str| match Pattern::read(text).unwrap() {
        Pattern::Exact(reply) => reply,
        Pattern::List(all) => Reply::Array(Some(
            all.into_iter()
                .map(|p| match p {
                    Pattern::Exact(reply) => reply,
                    other => panic!("{other:?}"),
                })
                .collect(),
        )),
        other => panic!("{other:?}"),
    };
    let matches = |pattern: &str, text: &str| Pattern::read(pattern).unwrap().matches(&reply(text));
    assert!(matches("{ \"a\" \"b\" :1 }", "[ :1 \"b\" \"a\" ]"));
    assert!(!matches("{ \"a\" \"a\" }", "[ \"a\" \"b\" ]"));
    assert!(matches("[ <-ERR no> any-int nil ]", "[ <-ERR no> :7 nil ]"));
    assert!(matches(
        "~\"redis_version:*\\r\\n*\"",
        "\"redis_version:7\\r\\nx\""
    ));
    assert!(matches("~-ERR *: x", "-ERR a: b: x") && !matches("~-ERR *: x", "-ERR a: y"));
    assert!(!matches("nil", "nil-array") && !matches("any-bulk", "nil"));
    assert!(matches("\"\\R(3,ab)\"", "\"ababab\""));
}

#[test]
fn escapes_go_both_ways() {
    let bytes: Vec<u8> = (0..=255).chain(std::iter::repeat_n(b'z', 100)).collect();
    assert_eq!(unescape(&escape(&bytes)).unwrap(), bytes);
}
