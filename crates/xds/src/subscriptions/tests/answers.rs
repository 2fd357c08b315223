//! ACK, NACK, and what becomes of a verdict whose stream is gone.

use std::time::Instant;

use super::play::play_both;
use crate::subscriptions::{Form, Names, NodePolicy, Response, Subscriptions};
use crate::type_url;

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
