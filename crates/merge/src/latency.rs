//! LATENCY HISTORY, LATEST and HISTOGRAM of all nodes as one server would give them.
//!
//! Follows <https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency-monitor/>. Replies that have
//! another form make the merge fail rather than the answer wrong.

use std::collections::BTreeMap;

use redplane_resp::encode;
use redplane_resp::value::{self, Value};

/// A command's histogram: its calls, and for each bound in microseconds how many took no longer.
type Histogram = (i64, BTreeMap<i64, i64>);

fn decoded(replies: &[&[u8]]) -> Option<Vec<Value>> {
    let decode = |raw: &&[u8]| Some(value::decode(raw).ok()??.0);
    replies.iter().map(decode).collect()
}

/// Entries of time and milliseconds, in order of time; of one second the worst.
pub(crate) fn history(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let mut entries: BTreeMap<i64, i64> = BTreeMap::new();
    for reply in decoded(replies)? {
        for entry in reply.elements()? {
            let [time, spike] = entry.elements()? else {
                return None;
            };
            let worst = entries.entry(time.integer()?).or_default();
            *worst = spike.integer()?.max(*worst);
        }
    }
    encode::array(out, entries.len());
    for (time, spike) in entries {
        encode::array(out, 2);
        encode::integer(out, time);
        encode::integer(out, spike);
    }
    Some(())
}

/// Entries of event, time of the last spike, that spike, the worst one: each event once.
pub(crate) fn latest(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let mut events: BTreeMap<Vec<u8>, [i64; 3]> = BTreeMap::new();
    for reply in decoded(replies)? {
        for entry in reply.elements()? {
            // Valkey has more behind the fourth element.
            let [event, time, spike, worst, ..] = entry.elements()? else {
                return None;
            };
            let (time, spike, worst) = (time.integer()?, spike.integer()?, worst.integer()?);
            let known = events.entry(event.text()?.to_vec()).or_default();
            if time >= known[0] {
                (known[0], known[1]) = (time, spike);
            }
            known[2] = known[2].max(worst);
        }
    }
    encode::array(out, events.len());
    for (event, numbers) in events {
        encode::array(out, 4);
        encode::bulk(out, &event);
        numbers
            .into_iter()
            .for_each(|number| encode::integer(out, number));
    }
    Some(())
}

/// Calls are added; so are, at each bound that any node has, the calls that took no longer.
pub(crate) fn histograms(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let mut commands: BTreeMap<Vec<u8>, Vec<Histogram>> = BTreeMap::new();
    for reply in decoded(replies)? {
        for (name, histogram) in pairs(&reply)? {
            let own = commands.entry(name.text()?.to_vec()).or_default();
            own.push(histogram_of(histogram)?);
        }
    }
    let resp3 = replies.iter().any(|raw| raw.starts_with(b"%"));
    encode::map(out, commands.len(), resp3);
    for (name, nodes) in commands {
        let bounds: BTreeMap<i64, i64> = nodes
            .iter()
            .flat_map(|(_, counts)| counts.keys())
            .map(|bound| {
                (
                    *bound,
                    nodes.iter().map(|(_, counts)| up_to(counts, *bound)).sum(),
                )
            })
            .collect();
        encode::bulk(out, &name);
        encode::map(out, 2, resp3);
        encode::bulk(out, b"calls");
        encode::integer(out, nodes.iter().map(|(calls, _)| calls).sum());
        encode::bulk(out, b"histogram_usec");
        encode::map(out, bounds.len(), resp3);
        for (bound, count) in bounds {
            encode::integer(out, bound);
            encode::integer(out, count);
        }
    }
    Some(())
}

fn up_to(counts: &BTreeMap<i64, i64>, bound: i64) -> i64 {
    counts.range(..=bound).next_back().map_or(0, |(_, count)| *count)
}

fn histogram_of(value: &Value) -> Option<Histogram> {
    let mut histogram = Histogram::default();
    for (name, value) in pairs(value)? {
        match name.text()? {
            b"calls" => histogram.0 = value.integer()?,
            b"histogram_usec" => {
                for (bound, count) in pairs(value)? {
                    histogram.1.insert(bound.integer()?, count.integer()?);
                }
            }
            _ => {}
        }
    }
    Some(histogram)
}

/// A map, or the flat array that RESP2 has in its place.
fn pairs(value: &Value) -> Option<Vec<(&Value, &Value)>> {
    if let Value::Map(pairs) = value {
        return Some(pairs.iter().map(|(key, value)| (key, value)).collect());
    }
    let flat = value.elements()?.chunks_exact(2);
    Some(flat.map(|pair| (&pair[0], &pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(merge: impl Fn(&[&[u8]], &mut Vec<u8>) -> Option<()>, replies: [&str; 2]) -> Option<String> {
        let mut out = Vec::new();
        let raw = replies.map(str::as_bytes);
        merge(&raw, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn spikes_of_all_nodes_in_order_of_time() {
        let one = "*2\r\n*2\r\n:5\r\n:100\r\n*2\r\n:9\r\n:1\r\n";
        let two = "*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:9\r\n:3\r\n";
        let all = "*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:100\r\n*2\r\n:9\r\n:3\r\n";
        assert_eq!(merged(history, [one, two]).as_deref(), Some(all));
        assert_eq!(merged(history, ["*0\r\n", "*0\r\n"]).as_deref(), Some("*0\r\n"));
        assert_eq!(merged(history, ["*0\r\n", ":1\r\n"]), None);
    }

    #[test]
    fn the_last_and_the_worst_spike_of_an_event() {
        let one = "*1\r\n*4\r\n$4\r\nfork\r\n:5\r\n:100\r\n:700\r\n";
        let two = "*1\r\n*4\r\n$4\r\nfork\r\n:6\r\n:90\r\n:95\r\n";
        let all = "*1\r\n*4\r\n$4\r\nfork\r\n:6\r\n:90\r\n:700\r\n";
        assert_eq!(merged(latest, [one, two]).as_deref(), Some(all));
    }

    #[test]
    fn histograms_are_added_bound_by_bound() {
        let of = |calls: u8, counts: &str, length: u8| {
            format!(
                "*2\r\n$3\r\nset\r\n*4\r\n$5\r\ncalls\r\n:{calls}\r\n$14\r\nhistogram_usec\r\n*{length}\r\n{counts}"
            )
        };
        let one = of(5, ":1\r\n:2\r\n:4\r\n:5\r\n", 4);
        let two = of(3, ":2\r\n:3\r\n", 2);
        let all = of(8, ":1\r\n:2\r\n:2\r\n:5\r\n:4\r\n:8\r\n", 6);
        assert_eq!(merged(histograms, [&one, &two]), Some(all.clone()));
        let maps = |text: &str| text.replace("*2", "%1").replace("*4", "%2").replace("*6", "%3");
        assert_eq!(merged(histograms, [&maps(&one), &maps(&two)]), Some(maps(&all)));
    }
}
