//! Runs one case on one leg and says how it differed.

use std::time::Duration;

use redplane_testkit::case::{Case, Expected, Leg, Step, escape, lines_of};
use redplane_testkit::{Client, Reply};

use super::servers::Servers;

/// Within this time a peer that has nothing more to say is taken to be silent.
const QUIET: Duration = Duration::from_millis(80);

/// What a leg answered to one step, in the lines of a case file.
pub(crate) type Answer = Vec<String>;

/// Runs a case; the error is one line that says what was sent, expected and got.
pub(crate) fn run(servers: &Servers, case: &Case, leg: Leg) -> Result<(), String> {
    let mut client = servers.prepare(case, leg)?.patience(Duration::from_secs(4));
    for step in &case.steps {
        play_others(servers, case, leg, step)?;
        send(&mut client, step);
        let expected = step.expected(leg);
        if expected.contains(&Expected::Whatever) {
            client.read_until_close();
            continue;
        }
        let count = expected
            .iter()
            .filter(|e| matches!(e, Expected::Reply(_)))
            .count();
        let replies = client.read_replies(count);
        let closes = expected.contains(&Expected::Closed);
        let surplus = if closes {
            client.read_until_close().0
        } else {
            client.leftover().to_vec()
        };
        let same = is_expected(expected, &replies);
        if !same || !surplus.is_empty() || closes != client.is_closed() {
            return Err(difference(step, leg, &replies, &surplus, &client));
        }
    }
    // What comes after the last expected byte is a reply too many.
    client.half_close();
    let (surplus, _) = client.patience(Duration::from_secs(2)).read_until_close();
    match (surplus.is_empty(), case.steps.last()) {
        (false, Some(step)) => Err(format!("sent {}, got too much: {}", step.shown, escape(&surplus))),
        _ => Ok(()),
    }
}

/// Runs a case and returns what the leg answered to each step.
pub(crate) fn record(servers: &Servers, case: &Case, leg: Leg) -> Result<Vec<Answer>, String> {
    let mut client = servers.prepare(case, leg)?;
    let mut answers = Vec::new();
    for step in &case.steps {
        play_others(servers, case, leg, step)?;
        send(&mut client, step);
        let replies = client.read_until_quiet(QUIET);
        let mut lines = lines_of(&replies, client.is_closed());
        if !client.leftover().is_empty() {
            lines.push(format!("leftover {}", escape(client.leftover())));
        }
        answers.push(lines);
    }
    Ok(answers)
}

fn send(client: &mut Client, step: &Step) {
    // A peer that has closed is noticed by what does not come back.
    let _ = client.send(&step.bytes);
    if step.finish {
        client.half_close();
    }
}

fn play_others(servers: &Servers, case: &Case, leg: Leg, step: &Step) -> Result<(), String> {
    if step.other.is_empty() {
        return Ok(());
    }
    let mut client = servers.connect(case, leg)?;
    for words in &step.other {
        let reply = client
            .command(words)
            .map_err(|e| format!("the second connection: {e}"))?;
        if reply.is_error() {
            return Err(format!("the second connection: {reply}"));
        }
    }
    Ok(())
}

fn is_expected(expected: &[Expected], replies: &[Reply]) -> bool {
    let patterns: Vec<_> = expected
        .iter()
        .filter_map(|e| match e {
            Expected::Reply(pattern) => Some(pattern),
            Expected::Closed | Expected::Whatever | Expected::Nothing => None,
        })
        .collect();
    patterns.len() == replies.len() && patterns.iter().zip(replies).all(|(p, r)| p.matches(r))
}

fn difference(step: &Step, leg: Leg, replies: &[Reply], surplus: &[u8], client: &Client) -> String {
    let expected: Vec<String> = step.expected(leg).iter().map(|e| format!("{e}")).collect();
    let mut got = lines_of(replies, client.is_closed()).join(" | ");
    if !surplus.is_empty() {
        got.push_str(&format!(" | and bytes {}", escape(surplus)));
    }
    format!(
        "sent {}  expected {}  got {got}",
        step.shown,
        expected.join(" | ")
    )
}
