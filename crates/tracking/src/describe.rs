//! What CLIENT TRACKINGINFO and GETREDIR say of a client that tracks, or does not.

use std::collections::BTreeSet;

use bytes::Bytes;
use redplane_resp::encode;

use crate::{Mode, Tracker};

/// CLIENT GETREDIR of a client that tracks: 0 for itself.
pub fn redirect_of(tracker: &Tracker) -> i64 {
    tracker.redirect.map_or(0, |redirect| redirect.id as i64)
}

/// CLIENT TRACKINGINFO.
pub(super) fn describe(tracker: Option<&Tracker>, out: &mut Vec<u8>, resp3: bool) {
    let mode = tracker.map(|tracker| &tracker.mode);
    let is = |set: fn(&Tracker) -> bool| tracker.is_some_and(set);
    let flags = [
        ("off", tracker.is_none()),
        ("on", tracker.is_some()),
        ("bcast", is(Tracker::is_broadcast)),
        ("optin", mode == Some(&Mode::OptIn)),
        ("caching-yes", mode == Some(&Mode::OptIn) && is(|own| own.caching)),
        ("optout", mode == Some(&Mode::OptOut)),
        ("caching-no", mode == Some(&Mode::OptOut) && is(|own| own.caching)),
        ("noloop", is(|own| own.noloop)),
        ("broken_redirect", is(|own| own.broken)),
    ];
    let set = flags.iter().filter(|(_, set)| *set);
    encode::map(out, 3, resp3);
    encode::bulk(out, b"flags");
    let kind = if resp3 { b'~' } else { b'*' };
    encode::header(out, kind, set.clone().count() as i64);
    set.for_each(|(name, _)| encode::bulk(out, name.as_bytes()));
    encode::bulk(out, b"redirect");
    encode::integer(out, tracker.map_or(-1, redirect_of));
    encode::bulk(out, b"prefixes");
    let none: BTreeSet<Bytes> = BTreeSet::new();
    let prefixes = match mode {
        Some(Mode::Broadcast(prefixes)) => prefixes,
        _ => &none,
    };
    encode::array(out, prefixes.len());
    prefixes.iter().for_each(|prefix| encode::bulk(out, prefix));
}
