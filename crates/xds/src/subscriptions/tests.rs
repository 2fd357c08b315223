//! The protocol as scripts: each states one rule in both forms. See `play` for how to read them.

mod interleave;
mod play;

use super::{Arrived, Form, Names, NodePolicy, Response, Subscriptions};
use crate::type_url;
use play::{body, describe, play, play_both, play_with};
use std::time::Instant;

#[test]
fn types_are_asked_for_in_order_and_the_node_goes_first() {
    play_both(
        "
sub RDS 80
sub LDS *
sub EDS b a
sub CDS *
connect
  D> CDS first node
  D> EDS first +a,b
  D> LDS first
  D> RDS first +80
  S> CDS first at \"\" [] node
  S> EDS first at \"\" [a,b]
  S> LDS first at \"\" []
  S> RDS first at \"\" [80]
",
    );
}

#[test]
fn the_node_goes_with_every_sotw_request_when_told_so() {
    let script = "
sub CDS *
sub LDS *
connect
  D> CDS first node
  D> LDS first
  S> CDS first at \"\" [] node
  S> LDS first at \"\" [] node
resp CDS v1 n1
  > CDS apply
ok
  D> CDS ack n1
  S> CDS ack n1 at \"v1\" [] node
";
    for form in [Form::Delta, Form::Sotw] {
        play_with(Subscriptions::new(form, NodePolicy::EveryMessage), form, script);
    }
}

#[test]
fn endpoints_are_subscribed_before_the_clusters_are_acked() {
    play_both(
        "
sub CDS *
connect
  D> CDS first node
  S> CDS first at \"\" [] node
resp CDS v1 n1 a=1 b=1
  > CDS apply a=1 b=1
sub EDS a b
  D> EDS first +a,b
  S> EDS first at \"\" [a,b]
ok
  D> CDS ack n1
  S> CDS ack n1 at \"v1\" []
",
    );
}

#[test]
fn a_nack_names_each_bad_resource_and_the_good_ones_are_kept() {
    play_both(
        "
sub LDS *
connect
  D> LDS first node
  S> LDS first at \"\" [] node
resp LDS v1 n1 a=1 b=1
  > LDS apply a=1 b=1
ok
  D> LDS ack n1
  S> LDS ack n1 at \"v1\" []
resp LDS v2 n2 a=2 b=2 c=2
  > LDS apply a=2 b=2 c=2
bad b c
  D> LDS nack (Error adding/updating listener(s) b: is bad / c: is bad) n2
  S> LDS nack (Error adding/updating listener(s) b: is bad / c: is bad) n2 at \"v1\" []
resp LDS v3 n3 a=2 b=2 c=2
  > LDS apply b=2 c=2 unchanged 1
ok
  D> LDS ack n3
  S> LDS ack n3 at \"v3\" []
",
    );
}

#[test]
fn a_rejected_resource_is_offered_again_even_when_it_returns_to_what_is_held() {
    play_both(
        "
sub CDS *
connect
  D> CDS first node
  S> CDS first at \"\" [] node
resp CDS v1 n1 a=1
  > CDS apply a=1
ok
  D> CDS ack n1
  S> CDS ack n1 at \"v1\" []
resp CDS v2 n2 a=2
  > CDS apply a=2
bad a
  D> CDS nack (Error adding/updating cluster(s) a: is bad) n2
  S> CDS nack (Error adding/updating cluster(s) a: is bad) n2 at \"v1\" []
resp CDS v3 n3 a=1
  > CDS apply a=1
ok
  D> CDS ack n3
  S> CDS ack n3 at \"v3\" []
resp CDS v4 n4 a=1
  > CDS apply unchanged 1
ok
  D> CDS ack n4
  S> CDS ack n4 at \"v4\" []
",
    );
}

#[test]
fn a_reconnect_names_everything_held_and_forgets_the_nonce() {
    play_both(
        "
sub CDS *
sub EDS a
connect
  D> CDS first node
  D> EDS first +a
  S> CDS first at \"\" [] node
  S> EDS first at \"\" [a]
resp CDS v1 n1 a=1 b=1
  > CDS apply a=1 b=1
ok
  D> CDS ack n1
  S> CDS ack n1 at \"v1\" []
resp EDS v1 n2 a=1
  > EDS apply a=1
ok
  D> EDS ack n2
  S> EDS ack n2 at \"v1\" [a]
resp CDS v2 n3 b=2 c=2 -a
  D> CDS apply b=2 c=2 -a
  S> CDS apply b=2 c=2 -a
bad b
  D> CDS nack (Error adding/updating cluster(s) b: is bad) n3
  S> CDS nack (Error adding/updating cluster(s) b: is bad) n3 at \"v1\" []
disconnect
sub EDS b
connect
  D> CDS first held b:,c: node
  D> EDS first +a,b held a:
  S> CDS first at \"v1\" [] node
  S> EDS first at \"v1\" [a,b]
",
    );
}

#[test]
fn delta_removals_are_what_the_server_says() {
    play(
        Form::Delta,
        "
sub CDS *
connect
  > CDS first node
resp CDS v1 n1 a=1 b=1
  > CDS apply a=1 b=1
ok
  > CDS ack n1
resp CDS v2 n2 c=1
  > CDS apply c=1
ok
  > CDS ack n2
resp CDS v3 n3 -a -gone
  > CDS apply -a -gone
ok
  > CDS ack n3
disconnect
connect
  > CDS first held b:,c: node
",
    );
}

#[test]
fn what_a_sotw_response_leaves_out_is_removed_of_cds_and_lds_only() {
    play(
        Form::Sotw,
        "
sub LDS *
sub EDS a b
connect
  > EDS first at \"\" [a,b] node
  > LDS first at \"\" []
resp EDS v1 n1 a=1 b=1
  > EDS apply a=1 b=1
ok
  > EDS ack n1 at \"v1\" [a,b]
resp EDS v2 n2 b=2
  > EDS apply b=2
ok
  > EDS ack n2 at \"v2\" [a,b]
resp LDS v1 n3 x=1 y=1
  > LDS apply x=1 y=1
ok
  > LDS ack n3 at \"v1\" []
resp LDS v2 n4 y=1
  > LDS apply -x unchanged 1
ok
  > LDS ack n4 at \"v2\" []
resp LDS v3 n5
  > LDS apply -y
ok
  > LDS ack n5 at \"v3\" []
",
    );
}

#[test]
fn a_rejected_newcomer_that_leaves_is_reported_as_removed() {
    play(
        Form::Sotw,
        "
sub LDS *
connect
  > LDS first at \"\" [] node
resp LDS v1 n1 x=1
  > LDS apply x=1
bad x
  > LDS nack (Error adding/updating listener(s) x: is bad) n1 at \"\" []
resp LDS v2 n2
  > LDS apply -x
ok
  > LDS ack n2 at \"v2\" []
",
    );
    play(
        Form::Delta,
        "
sub LDS *
connect
  > LDS first node
resp LDS v1 n1 x=1
  > LDS apply x=1
bad x
  > LDS nack (Error adding/updating listener(s) x: is bad) n1
disconnect
connect
  > LDS first held x: node
resp LDS v2 n1 -x
  > LDS apply -x
ok
  > LDS ack n1
disconnect
connect
  > LDS first node
",
    );
}

#[test]
fn each_nonce_is_answered_once_and_in_order() {
    play_both(
        "
sub CDS *
connect
  D> CDS first node
  S> CDS first at \"\" [] node
resp CDS v1 n1 a=1
  > CDS apply a=1
resp CDS v2 n2 a=2
resp CDS v3 n3 a=3
ok
  D> CDS ack n1
  S> CDS ack n1 at \"v1\" []
  > CDS apply a=2
bad a
  D> CDS nack (Error adding/updating cluster(s) a: is bad) n2
  S> CDS nack (Error adding/updating cluster(s) a: is bad) n2 at \"v1\" []
  > CDS apply a=3
ok
  D> CDS ack n3
  S> CDS ack n3 at \"v3\" []
",
    );
}

#[test]
fn a_verdict_from_a_lost_stream_counts_but_is_not_sent() {
    play_both(
        "
sub CDS *
sub LDS *
connect
  D> CDS first node
  D> LDS first
  S> CDS first at \"\" [] node
  S> LDS first at \"\" []
resp CDS v1 n1 a=1
  > CDS apply a=1
resp CDS v2 n2 a=2
disconnect
connect
  D> LDS first node
  S> LDS first at \"\" [] node
ok
  D> CDS first held a:
  S> CDS first at \"v1\" []
resp CDS v2 m1 a=1
  > CDS apply unchanged 1
ok
  D> CDS ack m1
  S> CDS ack m1 at \"v2\" []
",
    );
}

#[test]
fn subscription_changes_are_spontaneous_in_delta_and_wait_for_the_ack_in_sotw() {
    play_both(
        "
sub EDS a
connect
  D> EDS first +a node
  S> EDS first at \"\" [a] node
sub EDS a
sub EDS b c
  D> EDS change +b,c
  S> EDS change at \"\" [a,b,c]
resp EDS v1 n1 a=1 b=1 c=1
  > EDS apply a=1 b=1 c=1
sub EDS d
  D> EDS change +d
unsub EDS b
  D> EDS change -b
ok
  D> EDS ack n1
  S> EDS ack n1 at \"v1\" [a,c,d]
unsub EDS a c nobody
  D> EDS change -a,c
  S> EDS change n1 at \"v1\" [d]
unsub EDS d
  D> EDS change -d
  S> EDS change n1 at \"v1\" []
disconnect
connect
",
    );
}

#[test]
fn an_unsubscribed_resource_is_forgotten_and_comes_anew() {
    play_both(
        "
sub EDS a b
connect
  D> EDS first +a,b node
  S> EDS first at \"\" [a,b] node
resp EDS v1 n1 a=1 b=1
  > EDS apply a=1 b=1
ok
  D> EDS ack n1
  S> EDS ack n1 at \"v1\" [a,b]
unsub EDS a
  D> EDS change -a
  S> EDS change n1 at \"v1\" [b]
resp EDS v2 n2 a=1 b=1
  > EDS apply unchanged 1 unrequested 1
ok
  D> EDS ack n2
  S> EDS ack n2 at \"v2\" [b]
sub EDS a
  D> EDS change +a
  S> EDS change n2 at \"v2\" [a,b]
resp EDS v3 n3 a=1
  > EDS apply a=1
ok
  D> EDS ack n3
  S> EDS ack n3 at \"v3\" [a,b]
",
    );
}

#[test]
fn a_resource_unsubscribed_while_it_is_judged_is_not_held() {
    play(
        Form::Delta,
        "
sub EDS a b
connect
  > EDS first +a,b node
resp EDS v1 n1 a=1 b=1
  > EDS apply a=1 b=1
unsub EDS a
  > EDS change -a
ok
  > EDS ack n1
disconnect
connect
  > EDS first +b held b: node
",
    );
}

#[test]
fn hold_keeps_requests_back_but_not_answers() {
    play_both(
        "
hold LDS
sub CDS *
sub LDS *
connect
  D> CDS first node
  S> CDS first at \"\" [] node
release LDS
  D> LDS first
  S> LDS first at \"\" []
hold LDS
resp LDS v1 n1 a=1
  > LDS apply a=1
ok
  D> LDS ack n1
  S> LDS ack n1 at \"v1\" []
hold EDS
sub EDS a
sub EDS b
unsub EDS a
release EDS
  D> EDS first +b
  S> EDS first at \"\" [b]
release EDS
",
    );
}

#[test]
fn two_of_one_name_are_refused_and_the_rest_is_applied() {
    play_both(
        "
sub CDS *
connect
  D> CDS first node
  S> CDS first at \"\" [] node
resp CDS v1 n1 a=1 b=1 a=2
  > CDS apply b=1 (a: is named more than once in the response)
ok
  D> CDS nack (Error adding/updating cluster(s) a: is named more than once in the response) n1
  S> CDS nack (Error adding/updating cluster(s) a: is named more than once in the response) n1 at \"\" []
resp CDS v2 n2 a=1 b=1
  > CDS apply a=1 unchanged 1
ok
  D> CDS ack n2
  S> CDS ack n2 at \"v2\" []
",
    );
    play(
        Form::Delta,
        "
sub CDS *
connect
  > CDS first node
resp CDS v1 n1 a=1 -a
  > CDS apply (a: is named more than once in the response)
ok
  > CDS nack (Error adding/updating cluster(s) a: is named more than once in the response) n1
",
    );
}

#[test]
fn a_resource_without_a_name_is_refused_and_removes_nothing() {
    play_both(
        "
sub CDS *
connect
  D> CDS first node
  S> CDS first at \"\" [] node
resp CDS v1 n1 a=1
  > CDS apply a=1
ok
  D> CDS ack n1
  S> CDS ack n1 at \"v1\" []
resp CDS v2 n2 b=1 =1
  > CDS apply b=1 (: resource 1 of the response has no readable name)
ok
  D> CDS nack (Error adding/updating cluster(s) resource 1 of the response has no readable name) n2
  S> CDS nack (Error adding/updating cluster(s) resource 1 of the response has no readable name) n2 at \"v1\" []
",
    );
}

#[test]
fn a_ttl_ends_a_resource_unless_a_heartbeat_renews_it() {
    play(
        Form::Delta,
        "
sub CDS *
connect
  > CDS first node
resp CDS v1 n1 a=1~10 b=1~10 c=1
  > CDS apply a=1 b=1 c=1
ok
  > CDS ack n1
wait 6
resp CDS v2 n2 a~10 never~10
  > CDS apply unchanged 1 unrequested 1
ok
  > CDS ack n2
wait 4
  > CDS apply -b
ok
wait 5
wait 1
  > CDS apply -a
ok
wait 100
disconnect
connect
  > CDS first held c: node
resp CDS v3 m1 d
  > CDS apply (d: has no body)
ok
  > CDS nack (Error adding/updating cluster(s) d: has no body) m1
",
    );
}

#[test]
fn a_wildcard_beside_names_is_said_with_a_star() {
    play_both(
        "
sub CDS *
sub CDS a
connect
  D> CDS first +*,a node
  S> CDS first at \"\" [*,a] node
",
    );
    play_both(
        "
sub EDS a
connect
  D> EDS first +a node
  S> EDS first at \"\" [a] node
sub EDS *
  D> EDS change +*
  S> EDS change at \"\" [*,a]
",
    );
}

#[test]
fn a_type_nobody_asked_for_gets_no_answer() {
    let mut machine = Subscriptions::new(Form::Delta, NodePolicy::FirstMessage);
    let _ = machine.subscribe(type_url::CLUSTER, Names::Wildcard);
    let _ = machine.on_connect();
    let response = Response {
        type_url: type_url::LISTENER.into(),
        ..Response::default()
    };
    assert_eq!(machine.on_response(response, Instant::now()), []);
    assert_eq!(machine.ignored(), 1);
}

#[test]
fn a_body_of_another_message_is_refused_but_v2_is_the_same_message() {
    let mut machine = Subscriptions::new(Form::Delta, NodePolicy::FirstMessage);
    let _ = machine.subscribe(type_url::CLUSTER, Names::Wildcard);
    let _ = machine.on_connect();
    let resource = |name: &str, type_url: &str| Arrived {
        name: Some(name.into()),
        version: String::new(),
        body: Some(body(type_url, "1")),
        ttl: None,
    };
    let response = Response {
        type_url: type_url::CLUSTER.into(),
        resources: vec![
            resource("old", "type.googleapis.com/envoy.api.v2.Cluster"),
            resource("wrong", type_url::LISTENER),
        ],
        ..Response::default()
    };
    let outputs = machine.on_response(response, Instant::now());
    let said: Vec<String> = outputs.iter().map(describe).collect();
    let reason = format!("is a {}, not a {}", type_url::LISTENER, type_url::CLUSTER);
    assert_eq!(said, [format!("CDS apply old=1 (wrong: {reason})")]);
}
