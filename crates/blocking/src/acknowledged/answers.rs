//! What primaries are asked about replicas and disks, and how their answers are read.
//!
//! Redis: the fields of `INFO replication` (`replication.c`, `genRedisInfoString`), and the pair that WAITAOF answers.

use redplane_redis_flow::request::Request;
use redplane_resp::value::{self, Value};
use redplane_resp::{encode, reply};

/// How many have it: this server's own disk, and replicas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) local: i64,
    pub(super) replicas: i64,
}

/// The request in a transaction, for no time.
pub(super) fn transaction(request: &Request<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    encode::request(&mut block, &[b"MULTI"]);
    encode::request(&mut block, &[b"WAITAOF", request.arg(1), request.arg(2), b"0"]);
    encode::request(&mut block, &[b"EXEC"]);
    block
}

/// EXEC's reply: this disk and those of the replicas.
pub(super) fn synced(raw: &[u8]) -> Result<Count, &[u8]> {
    let decoded = value::decode(raw).ok().flatten();
    let pair = decoded
        .as_ref()
        .and_then(|(value, _)| value.elements()?.first()?.elements());
    match pair.map(|pair| {
        (
            pair.first().and_then(Value::integer),
            pair.get(1).and_then(Value::integer),
        )
    }) {
        Some((Some(local), Some(replicas))) => Ok(Count { local, replicas }),
        // The array's one element is the server's error.
        _ => Err(raw
            .strip_prefix(b"*1\r\n")
            .filter(|inner| inner.starts_with(b"-"))
            .unwrap_or(UNREADABLE)),
    }
}

/// `INFO replication`: the replicas that have come as far as `needed`, which the first answer says.
pub(super) fn replicated<'a>(raw: &'a [u8], needed: &mut Option<u64>) -> Result<Count, &'a [u8]> {
    let text = reply::text_payload(raw)
        .and_then(|text| std::str::from_utf8(text).ok())
        .ok_or(UNREADABLE)?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    if field("role") != Some("master") {
        return Err(DEMOTED);
    }
    let offset = field("master_repl_offset")
        .and_then(|offset| offset.parse().ok())
        .ok_or(UNREADABLE)?;
    let needed = *needed.get_or_insert(offset);
    let has_come = |line: &&str| {
        let part = |name: &str| line.split([',', ':']).find_map(|part| part.strip_prefix(name));
        let offset = part("offset=").and_then(|offset| offset.parse::<u64>().ok());
        part("state=") == Some("online") && offset.is_some_and(|offset| offset >= needed)
    };
    let replicas = text
        .lines()
        .filter(|line| line.starts_with("slave"))
        .filter(has_come)
        .count();
    Ok(Count {
        local: 0,
        replicas: replicas as i64,
    })
}

const UNREADABLE: &[u8] = b"-upstream failure\r\n";

const DEMOTED: &[u8] =
    b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=10.0.0.1,port=7001,state=online,offset=500,lag=0\r\n\
        slave1:ip=10.0.0.2,port=7002,state=online,offset=499,lag=1,type=replica\r\n\
        slave2:ip=10.0.0.3,port=7003,state=wait_bgsave,offset=900,lag=0\r\n\
        master_replid:b786\r\nmaster_repl_offset:500\r\n";

    #[test]
    fn replicas_count_that_are_online_and_there() {
        let raw = |text: &str| format!("${}\r\n{text}\r\n", text.len()).into_bytes();
        let mut needed = None;
        let count = replicated(&raw(INFO), &mut needed).expect("a report").replicas;
        assert_eq!((count, needed), (1, Some(500)));
        // The offset grows with others' writes; what this client waits for does not.
        let later = INFO
            .replace("offset=499", "offset=800")
            .replace("repl_offset:500", "repl_offset:900");
        assert_eq!(
            replicated(&raw(&later), &mut needed).expect("a report").replicas,
            2
        );
        let replica = raw(&INFO.replace("role:master", "role:slave"));
        assert_eq!(
            replicated(&replica, &mut needed).expect_err("no primary"),
            DEMOTED
        );
        assert_eq!(
            replicated(b"$1\r\nx\r\n", &mut needed).expect_err("no report"),
            DEMOTED
        );
    }

    #[test]
    fn disks_are_read_from_the_transaction() {
        let count = synced(b"*1\r\n*2\r\n:1\r\n:0\r\n").expect("a pair");
        assert_eq!((count.local, count.replicas), (1, 0));
        assert_eq!(
            synced(b"*1\r\n-ERR no\r\n").expect_err("an error"),
            b"-ERR no\r\n"
        );
        assert_eq!(synced(b"*0\r\n").expect_err("nothing"), UNREADABLE);
    }
}
