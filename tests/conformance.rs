//! The same commands and bytes to redplane, to real Envoy 1.40 and to a plain Redis, with the expected bytes of
//! each stated in `tests/conformance/*.case`. The format is told in `tests/conformance/README.md`.
//!
//! `REDPLANE_CONFORMANCE=fill` writes the judges' answers into steps that have none; any other value runs only the
//! cases whose name or file contains it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use redplane_testkit::case::{Case, Leg, read_folder};
use redplane_testkit::scene::{self, Scene};
use redplane_testkit::{ProxyKind, repository_root};

mod conformance {
    pub(crate) mod extremes;
    pub(crate) mod fill;
    pub(crate) mod matrix;
    pub(crate) mod run;
    pub(crate) mod servers;
    pub(crate) mod stage;
}

use conformance::matrix::{arity_scenes, in_blocks, play_all, table, without_scene};
use conformance::servers::Servers;
use conformance::stage::Stage;

/// Passed and failed cases of a leg.
#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
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

fn scenes() -> Vec<Scene> {
    scene::read_folder(&folder().join("scenes")).expect("the scene files are well-formed")
}

#[test]
fn every_command_of_the_table_has_a_scene() {
    let missing = without_scene(&table(&repository_root()), &scenes());
    assert!(missing.is_empty(), "no scene names {}", missing.join(", "));
}

/// What every command answers to right and wrong requests, as servers answer it, in RESP2 and RESP3.
#[test]
fn every_command_answers_as_a_server_does() {
    let begun = Instant::now();
    let mut all = scenes();
    all.extend(in_blocks(&all));
    all.extend(arity_scenes(&table(&repository_root())));
    let wish = std::env::var("REDPLANE_CONFORMANCE").unwrap_or_default();
    all.retain(|scene| scene.file.contains(&wish) || scene.name.contains(&wish));
    let mut stage = Stage::start(PathBuf::from(env!("CARGO_BIN_EXE_redplane")));
    let outcome = play_all(&mut stage, &all);
    let mended: Vec<&String> = outcome
        .owed
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(place, _)| place)
        .collect();
    outcome
        .differences
        .iter()
        .for_each(|line| say(&format!("FAIL {line}")));
    mended
        .iter()
        .for_each(|place| say(&format!("FAIL nothing is owed any more: {place}")));
    say(&format!(
        "conformance: {} scenes, {} answers compared, {} differ, {} requests owed, {} s",
        all.len(),
        outcome.compared,
        outcome.differences.len(),
        outcome.owed.len(),
        Instant::now().duration_since(begun).as_secs()
    ));
    let failed = outcome.differences.len() + mended.len();
    assert_eq!(
        failed, 0,
        "{failed} answers are not a server's; the lines above say which"
    );
}

/// A million requests at once, values of megabytes, replies nested thousands deep.
#[test]
fn what_is_large_or_deep_comes_back_as_from_a_server() {
    let mut stage = Stage::start(PathBuf::from(env!("CARGO_BIN_EXE_redplane")));
    let found = conformance::extremes::differences(&mut stage);
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(stage.obituary(), None);
}

fn judge(servers: &mut Servers, case: &Case, leg: Leg, count: &mut Count) {
    if !case.states(leg) {
        // A node of the cluster is asked where its answer matters.
        if leg != Leg::Node {
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
        say(&format!(
            "conformance: {:9} {} passed, {} failed",
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
