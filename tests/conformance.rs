//! The same commands and bytes to redplane, to real Envoy 1.40 and to a plain Redis, with the expected bytes of
//! each stated in `tests/conformance/*.case`. The format is told in `tests/conformance/README.md`.
//!
//! `REDPLANE_CONFORMANCE=fill` writes the judges' answers into steps that have none; any other value runs only the
//! cases whose name or file contains it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use redplane_testkit::case::{Case, Leg, read_folder};
use redplane_testkit::{ProxyKind, repository_root};

mod conformance {
    pub(crate) mod fill;
    pub(crate) mod run;
    pub(crate) mod servers;
}

use conformance::servers::Servers;

/// Passed, failed and unstated cases of a leg.
#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
    unstated: usize,
}

fn folder() -> PathBuf {
    repository_root().join("tests/conformance")
}

#[test]
fn there_are_at_least_three_hundred_cases() {
    let cases = read_folder(&folder()).expect("the case files are well-formed");
    assert!(cases.len() >= 300, "{} cases", cases.len());
}

#[test]
fn every_leg_answers_as_stated() {
    let mut cases = read_folder(&folder()).expect("the case files are well-formed");
    let wish = std::env::var("REDPLANE_CONFORMANCE").unwrap_or_default();
    let mut servers = Servers::start(redplane());
    if wish == "fill" {
        let lines = conformance::fill::fill(&servers, &folder(), &cases).expect("the cases can be recorded");
        say(&format!("conformance: {lines} lines written, read them"));
        return;
    }
    cases.retain(|case| case.file.contains(&wish) || case.name.contains(&wish));
    let other_version = cases
        .iter()
        .filter(|case| !case.holds_for(&servers.version))
        .count();
    cases.retain(|case| case.holds_for(&servers.version));

    let legs: Vec<Leg> = Leg::ALL.into_iter().filter(|leg| servers.has(*leg)).collect();
    let mut counts: BTreeMap<Leg, Count> = BTreeMap::new();
    for case in &cases {
        for &leg in &legs {
            judge(&mut servers, case, leg, counts.entry(leg).or_default());
        }
    }
    report(&cases, &counts, other_version);
    let failed: usize = counts.values().map(|count| count.failed).sum();
    assert_eq!(
        failed, 0,
        "{failed} answers are not as stated; the lines above say which"
    );
}

fn judge(servers: &mut Servers, case: &Case, leg: Leg, count: &mut Count) {
    if !case.states(leg) {
        count.unstated += 1;
        // The judges must always be stated: a case that only redplane answers proves nothing.
        if matches!(leg, Leg::Redis | Leg::Envoy) {
            count.failed += 1;
            say(&format!(
                "FAIL {}  {}:{} {}: no expectation",
                leg.key(),
                case.file,
                case.line,
                case.name
            ));
        }
        return;
    }
    match conformance::run::run(servers, case, leg) {
        Ok(()) => count.passed += 1,
        Err(difference) => {
            count.failed += 1;
            say(&format!(
                "FAIL {}  {}:{} {}  {difference}",
                leg.key(),
                case.file,
                case.line,
                case.name
            ));
            if let Some(end) = servers.obituary(leg) {
                panic!("the case {} ended the process: {end}", case.name);
            }
        }
    }
}

fn report(cases: &[Case], counts: &BTreeMap<Leg, Count>, other_version: usize) {
    for (leg, count) in counts {
        let unstated = match leg {
            Leg::Redplane => format!(", {} left to later work", count.unstated),
            _ => String::new(),
        };
        say(&format!(
            "conformance: {:9} {} passed, {} failed{unstated}",
            leg.key(),
            count.passed,
            count.failed
        ));
    }
    if !counts.contains_key(&Leg::Redplane) {
        say("conformance: redplane  SKIPPED: the binary does not serve yet (--version prints nothing)");
    }
    if other_version > 0 {
        say(&format!(
            "conformance: {other_version} cases are for another version of Redis"
        ));
    }
    say(&format!("conformance: {} cases in all", cases.len()));
}

/// The binary under test, once it is one: from the moment `--version` names it, its leg is no longer optional.
fn redplane() -> Option<ProxyKind> {
    let path = Path::new(env!("CARGO_BIN_EXE_redplane"));
    let output = Command::new(path)
        .arg("--version")
        .output()
        .expect("the binary runs");
    (!output.stdout.is_empty()).then(|| ProxyKind::Redplane(path.to_owned()))
}

/// Straight to standard error: the harness hides what a passing test prints, and these counts are to be seen.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
