//! Logins that a service decides on: what waits, what is said, when a login ends.

use std::sync::Arc;
use std::time::Duration;

use redplane_config::redis_proxy::{DownstreamAuth, ExternalAuth};
use redplane_proxy::Verdict;

use super::ground::{Ground, even, proxy};
use super::node::Fabric;
use super::world::World;

const DENIED: &str = "-NOAUTH Authentication required.\r\n";

/// A filter that asks; three shards behind it.
fn asking(expires: bool) -> (Ground, World) {
    let (ground, cluster) = Ground::three_shards();
    let mut locked = proxy("c");
    locked.auth = Some(DownstreamAuth::External(Arc::new(ExternalAuth {
        cluster: "auth".into(),
        authority: "auth".into(),
        timeout: Duration::from_millis(200),
        metadata: Vec::new(),
        expires,
    })));
    ground.publish(&[&cluster], &locked);
    let world = World::new(&ground, Fabric::new(&even(3)), 1);
    (ground, world)
}

fn granted(lasts: Duration) -> Verdict {
    Verdict::Granted { lasts }
}

#[test]
fn what_stands_behind_auth_waits_for_the_verdict() {
    let (ground, mut world) = asking(false);
    let peer = world.connect();
    assert_eq!(world.call(peer, "GET k"), DENIED);
    for words in ["AUTH usr secret", "SET k 1", "GET k", "PING"] {
        world.ask(peer, words);
    }
    world.calm();
    assert_eq!((world.got(peer).as_str(), world.dialled.len()), ("", 0));
    let question = &world.questions[0];
    assert_eq!(
        (question.user.as_str(), question.password.as_str()),
        ("usr", "secret")
    );
    assert!(question.cluster.is_none() && !format!("{question:?}").contains("secret"));
    assert_eq!(ground.stat("redis.p.downstream_rq_active"), 1);
    world.decide(&granted(Duration::ZERO));
    assert_eq!(world.got(peer), "+OK\r\n+OK\r\n$1\r\n1\r\n+PONG\r\n");
    assert_eq!(ground.stat("redis.p.downstream_rq_active"), 0);
    // Without enable_auth_expiration the end that the service names means nothing.
    world.pass(10_000_000);
    assert_eq!(world.call(peer, "GET k"), "$1\r\n1\r\n");
}

#[test]
fn who_is_refused_hears_why_and_loses_the_login() {
    let (_ground, mut world) = asking(false);
    let peer = world.connect();
    world.ask(peer, "AUTH right");
    world.calm();
    assert_eq!(world.questions[0].user, "");
    world.decide(&granted(Duration::ZERO));
    assert_eq!(world.got(peer), "+OK\r\n");
    for (verdict, words, reply, still) in [
        (
            Verdict::Failed("x".into()),
            "AUTH a",
            "-ERR external authentication failed\r\n",
            true,
        ),
        (
            Verdict::Denied("not\r\nyou".into()),
            "AUTH a",
            "-ERR not  you\r\n",
            false,
        ),
        (
            Verdict::Failed("x".into()),
            "AUTH a",
            "-ERR external authentication failed\r\n",
            false,
        ),
        (
            Verdict::Denied(String::new()),
            "AUTH a b",
            "-ERR unauthorized\r\n",
            false,
        ),
        (
            Verdict::Denied("no".into()),
            "HELLO 3 AUTH a b",
            "-WRONGPASS no\r\n",
            false,
        ),
    ] {
        world.ask(peer, words);
        world.ask(peer, "GET k");
        world.calm();
        world.decide(&verdict);
        let follows = if still { "$-1\r\n" } else { DENIED };
        assert_eq!(world.got(peer), format!("{reply}{follows}"), "{verdict:?}");
    }
}

#[test]
fn hello_takes_effect_with_the_verdict() {
    let (_ground, mut world) = asking(false);
    let peer = world.connect();
    world.send(peer, b"*2\r\n$4\r\nAUTH\r\n$1\r\n\xff\r\n");
    world.calm();
    assert!(world.got(peer).starts_with("-WRONGPASS"));
    let bad = world.call(peer, "HELLO 3 AUTH a b SETNAME n\u{7f}");
    assert!(bad.starts_with("-ERR Client names"), "{bad}");
    assert_eq!(world.questions.len(), 0, "what is invalid is not asked about");
    world.ask(peer, "HELLO 3 AUTH a b SETNAME me");
    world.ask(peer, "CLIENT GETNAME");
    world.calm();
    world.decide(&granted(Duration::ZERO));
    let got = world.got(peer);
    assert!(got.starts_with("%7\r\n$6\r\nserver\r\n"), "{got}");
    assert!(got.ends_with("$2\r\nme\r\n"), "{got}");
}

#[test]
fn a_login_ends_when_its_time_is_over() {
    let (_ground, mut world) = asking(true);
    let (peer, other) = (world.connect(), world.connect());
    for (client, seconds) in [(peer, 5), (other, 60)] {
        world.ask(client, "AUTH a");
        world.calm();
        world.decide(&granted(Duration::from_secs(seconds)));
        assert_eq!(world.got(client), "+OK\r\n");
    }
    world.pass(4_900_000);
    assert_eq!(world.call(peer, "GET k"), "$-1\r\n");
    world.pass(200_000);
    assert_eq!(world.call(peer, "GET k"), DENIED);
    assert_eq!(world.call(other, "GET k"), "$-1\r\n");
    // The next login has an end of its own, also when it comes before the former one's.
    world.ask(peer, "AUTH a");
    world.calm();
    world.decide(&granted(Duration::from_secs(1)));
    world.ask(other, "AUTH a");
    world.calm();
    world.decide(&granted(Duration::from_secs(1_000)));
    world.pass(70_000_000);
    assert_eq!(world.call(peer, "PING"), format!("+OK\r\n{DENIED}"));
    assert_eq!(world.call(other, "PING"), "+OK\r\n+PONG\r\n");
    world.ask(peer, "AUTH a");
    world.ask(peer, "PING");
    world.calm();
    world.decide(&granted(Duration::ZERO));
    assert_eq!(world.got(peer), format!("+OK\r\n{DENIED}"), "no time at all");
}

#[test]
fn a_login_that_ends_behind_multi_takes_the_transaction_along() {
    let (_ground, mut world) = asking(true);
    let peer = world.connect();
    let log_in = |world: &mut World| {
        world.ask(peer, "AUTH a");
        world.calm();
        world.decide(&granted(Duration::from_secs(1)));
        world.got(peer)
    };
    assert_eq!(log_in(&mut world), "+OK\r\n");
    world.call(peer, "MULTI");
    world.call(peer, "SET k 1");
    world.pass(2_000_000);
    let ended = "-EXECABORT Transaction discarded because of: NOAUTH Authentication required.\r\n";
    assert_eq!(world.call(peer, "EXEC"), ended);
    assert_eq!(log_in(&mut world), "+OK\r\n");
    assert_eq!(world.call(peer, "EXEC"), "-ERR EXEC without MULTI\r\n");
    assert_eq!(world.call(peer, "GET k"), "$-1\r\n");
    // Who logs in again in time goes on; a login inside is one of the commands.
    world.call(peer, "MULTI");
    world.call(peer, "SET k 2");
    world.pass(2_000_000);
    assert_eq!(log_in(&mut world), "+OK\r\n");
    assert_eq!(world.call(peer, "AUTH a"), "+QUEUED\r\n");
    world.ask(peer, "GET k");
    world.ask(peer, "EXEC");
    world.ask(peer, "GET k");
    world.calm();
    assert_eq!(world.got(peer), "+QUEUED\r\n*3\r\n+OK\r\n");
    world.decide(&granted(Duration::from_secs(9)));
    assert_eq!(world.got(peer), "+OK\r\n$1\r\n2\r\n$1\r\n2\r\n");
}

#[test]
fn who_leaves_is_not_asked_about_any_more() {
    let (_ground, mut world) = asking(true);
    let (peer, patient) = (world.connect(), world.connect());
    world.ask(peer, "AUTH a");
    world.ask(patient, "AUTH b");
    world.calm();
    let late = world.questions[0].ticket;
    world.break_off(peer);
    world.calm();
    assert_eq!(world.questions.len(), 1);
    // The verdict was on its way already; its place has a new client.
    let next = world.connect();
    world.engine.authenticated(late, &granted(Duration::from_secs(9)));
    assert_eq!(world.call(next, "GET k"), DENIED);
    world.decide(&granted(Duration::from_secs(9)));
    assert_eq!(world.got(patient), "+OK\r\n");
    assert_eq!(world.call(patient, "GET k"), "$-1\r\n");
}
