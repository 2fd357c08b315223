//! What is asked for, when, and in which order.

use super::play::{play, play_both, play_with};
use crate::subscriptions::{Form, NodePolicy, Subscriptions};

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
fn a_resource_left_and_wanted_again_while_it_is_judged_comes_anew() {
    play(
        Form::Delta,
        "
sub EDS a
connect
  > EDS first +a node
resp EDS v1 n1 a=1
  > EDS apply a=1
ok
  > EDS ack n1
resp EDS v2 n2 a=1
  > EDS apply unchanged 1
unsub EDS a
  > EDS change -a
sub EDS a
  > EDS change +a
ok
  > EDS ack n2
resp EDS v3 n3 a=1
  > EDS apply a=1
",
    );
}
