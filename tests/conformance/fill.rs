//! Writes what the judges answer into case files: `REDPLANE_CONFORMANCE=fill`.
//!
//! A step without expectations gets them from plain Redis and from Envoy: one `expect:` where both agree, else a
//! line for each and Redis's answer as redplane's, to be read, corrected and given its `why:` by the author. Lines
//! that are already there are never touched.

use std::collections::BTreeMap;
use std::path::Path;

use redplane_testkit::case::{Case, Leg, Step};

use super::run::{Answer, record};
use super::servers::Servers;

/// Fills every step that lacks expectations and returns how many lines were written.
pub(crate) fn fill(servers: &Servers, folder: &Path, cases: &[Case]) -> Result<usize, String> {
    let mut additions: BTreeMap<&str, BTreeMap<usize, Vec<String>>> = BTreeMap::new();
    for case in cases {
        if case.states(Leg::Redis) && case.states(Leg::Envoy) || !case.holds_for(&servers.version) {
            continue;
        }
        let redis = record(servers, case, Leg::Redis).map_err(|e| format!("{}: {e}", case.name))?;
        let envoy = record(servers, case, Leg::Envoy).map_err(|e| format!("{}: {e}", case.name))?;
        for (step, (redis, envoy)) in case.steps.iter().zip(redis.iter().zip(&envoy)) {
            let lines = lines_for(step, redis, envoy);
            additions.entry(&case.file).or_default().insert(step.line, lines);
        }
    }
    for (file, at_lines) in &additions {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        std::fs::write(&path, with_lines(&text, at_lines)).map_err(|e| e.to_string())?;
    }
    Ok(additions.values().flat_map(BTreeMap::values).map(Vec::len).sum())
}

fn lines_for(step: &Step, redis: &Answer, envoy: &Answer) -> Vec<String> {
    let keyed = |key: &str, answer: &Answer| answer.iter().map(|a| format!("{key}: {a}")).collect::<Vec<_>>();
    if !step.all.is_empty() {
        return Vec::new();
    }
    if step.own.is_empty() && redis == envoy {
        return keyed("expect", redis);
    }
    let mut lines = Vec::new();
    for (leg, answer) in [(Leg::Redis, redis), (Leg::Envoy, envoy), (Leg::Redplane, redis)] {
        if !step.own.contains_key(&leg) {
            lines.extend(keyed(leg.key(), answer));
        }
    }
    lines
}

fn with_lines(text: &str, at_lines: &BTreeMap<usize, Vec<String>>) -> String {
    let mut out = String::new();
    for (at, line) in text.lines().enumerate() {
        out.push_str(line);
        out.push('\n');
        for added in at_lines.get(&(at + 1)).into_iter().flatten() {
            out.push_str(added);
            out.push('\n');
        }
    }
    out
}
