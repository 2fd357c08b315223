//! What a response becomes: changes, removals, refusals, ends of TTLs.

use std::time::Instant;

use super::play::{body, describe, play, play_both};
use crate::subscriptions::{Arrived, Form, Names, NodePolicy, Response, Subscriptions};
use crate::type_url;

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
