//! The ledger against a plain list of what is open, on a clock of its own.

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_wait_is_over_with_its_last_need() {
    let (mut ledger, begun) = (Ledger::default(), Instant::now());
    ledger.open("a", vec![("x", None), ("y", Some(at(10)))], begun);
    ledger.open("b", vec![("x", Some(at(20)))], begun);
    assert_eq!(ledger.due(), Some(begun + at(10)));
    assert_eq!(ledger.met(&"x"), ["b"]);
    assert!(ledger.expire(begun + at(9)).is_empty());
    let expired = ledger.expire(begun + at(10));
    assert_eq!(expired.len(), 1);
    assert_eq!(
        (expired[0].waiter, expired[0].need, expired[0].over),
        ("a", "y", true)
    );
    assert!(ledger.met(&"y").is_empty());
    assert!(ledger.expire(begun + at(100)).is_empty());
    assert_eq!(ledger.due(), None);
}

#[test]
fn no_time_limit_is_for_ever_and_holds_up_nobody_else() {
    let (mut ledger, begun) = (Ledger::default(), Instant::now());
    ledger.open("patient", vec![("never", None), ("soon", Some(at(1)))], begun);
    ledger.open("other", vec![("soon", Some(at(1)))], begun);
    let expired = ledger.expire(begun + at(1));
    let over: Vec<&str> = expired
        .iter()
        .filter(|one| one.over)
        .map(|one| one.waiter)
        .collect();
    assert_eq!(over, ["other"]);
    assert!(ledger.expire(begun + Duration::from_secs(1 << 30)).is_empty());
    assert_eq!(ledger.met(&"never"), ["patient"]);
}

#[test]
fn who_has_gone_is_told_nothing() {
    let (mut ledger, begun) = (Ledger::default(), Instant::now());
    let gone = ledger.open("a", vec![("x", Some(at(5)))], begun);
    ledger.close(gone);
    assert!(ledger.met(&"x").is_empty());
    assert!(ledger.expire(begun + at(50)).is_empty());
}

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Open(Vec<(u8, Option<u64>)>),
    Met(u8),
    Close(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let need = (0..4u8, proptest::option::of(0..30u64));
    prop_oneof![
        proptest::collection::vec(need, 1..4).prop_map(Step::Open),
        (0..4u8).prop_map(Step::Met),
        (0..8usize).prop_map(Step::Close),
        (0..20u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn every_wait_ends_once_and_not_before_its_needs_have(steps in proptest::collection::vec(step(), 0..60)) {
        let (mut ledger, begun, mut now) = (Ledger::<usize, u8>::default(), Instant::now(), 0u64);
        // The model: needs of each wait with the end of their time; an empty list is over or closed.
        let mut model: Vec<Vec<(u8, Option<u64>)>> = Vec::new();
        let mut ids = Vec::new();
        for step in steps {
            let mut told: Vec<usize> = Vec::new();
            let before: Vec<bool> = model.iter().map(Vec::is_empty).collect();
            match step {
                Step::Open(mut needs) => {
                    needs.sort_unstable();
                    needs.dedup_by_key(|(need, _)| *need);
                    let asked = needs.iter().map(|(need, ms)| (*need, ms.map(at))).collect();
                    ids.push(ledger.open(model.len(), asked, begun + at(now)));
                    model.push(needs.into_iter().map(|(need, ms)| (need, ms.map(|ms| now + ms))).collect());
                    continue;
                }
                Step::Met(need) => {
                    told = ledger.met(&need);
                    model.iter_mut().for_each(|open| open.retain(|(one, _)| *one != need));
                }
                Step::Close(at) => {
                    if let Some(id) = ids.get(at) {
                        ledger.close(*id);
                        model[at].clear();
                    }
                    continue;
                }
                Step::Pass(ms) => {
                    now += ms;
                    let expired = ledger.expire(begun + at(now));
                    told.extend(expired.iter().filter(|one| one.over).map(|one| one.waiter));
                    let passed = |end: &Option<u64>| end.is_some_and(|end| end <= now);
                    model.iter_mut().for_each(|open| open.retain(|(_, end)| !passed(end)));
                }
            }
            told.sort_unstable();
            let over = model.iter().enumerate().filter(|(at, open)| open.is_empty() && !before[*at]);
            prop_assert_eq!(told, over.map(|(at, _)| at).collect::<Vec<_>>());
        }
    }
}
