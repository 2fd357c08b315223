//! Circles among the top modules of a crate: `use crate::…`, `use super::…` and paths, through re-exports of the root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::sources::{Source, product};

#[test]
fn modules_of_a_crate_form_no_circle() {
    let mut wrong = Vec::new();
    for (room, files) in product() {
        let circles = circles(&arrows(&files));
        wrong.extend(
            circles
                .iter()
                .map(|circle| format!("{room}: {}", circle.join(" "))),
        );
    }
    assert!(wrong.is_empty(), "modules that need each other: {wrong:#?}");
}

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Which top module names which.
fn arrows(files: &[Source]) -> Arrows {
    let modules: BTreeSet<&str> = files.iter().filter_map(Source::top_module).collect();
    let exported: BTreeMap<String, String> = files
        .iter()
        .filter(|file| file.top_module().is_none())
        .flat_map(|root| re_exports(&root.code, &modules))
        .collect();
    let mut arrows = Arrows::new();
    for file in files {
        let Some(own) = file.top_module() else { continue };
        let upwards = "super::".repeat(file.modules.len());
        let named = first_words(&file.code, "crate::")
            .into_iter()
            .chain(first_words(&file.code, &upwards));
        for word in named {
            let target = modules.get(word.as_str()).copied();
            let target = target.or_else(|| exported.get(&word).map(String::as_str));
            if let Some(target) = target.filter(|target| *target != own) {
                arrows
                    .entry(own.to_owned())
                    .or_default()
                    .insert(target.to_owned());
            }
        }
    }
    arrows
}

/// What the crate's root offers under its own name, with the module it comes from.
fn re_exports(root: &str, modules: &BTreeSet<&str>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in root.split(';') {
        let Some((_, path)) = line.rsplit_once("use ") else {
            continue;
        };
        let Some((module, names)) = path.split_once("::") else {
            continue;
        };
        if modules.contains(module.trim()) {
            let words = names.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
            found.extend(words.map(|word| (word.to_owned(), module.trim().to_owned())));
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first word behind each `prefix`, or the first words of the group behind it.
fn first_words(code: &str, prefix: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        // `super::super::x` is no `super::x`, and neither is `::crate_x`.
        if before.is_some_and(|c| is_word(c) || c == ':') || code[at + prefix.len()..].starts_with("super::")
        {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => words.extend(group_items(group).iter().map(|item| first_word(item))),
            None => words.push(first_word(rest)),
        }
    }
    words
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| is_word(*c)).collect()
}

/// The items of a group, up to its closing brace.
fn group_items(group: &str) -> Vec<String> {
    let (mut items, mut depth, mut item) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    items.push(item);
    items
}

/// Sets of modules each of which reaches all others of its set.
fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = arrows
        .keys()
        .map(|from| (from.as_str(), reach(arrows, from)))
        .collect();
    let mut circles = BTreeSet::new();
    for (from, to) in &reached {
        let back = |other: &&&str| reached.get(**other).is_some_and(|others| others.contains(from));
        let circle: Vec<String> = to
            .iter()
            .filter(back)
            .map(|module| (*module).to_owned())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reach<'a>(arrows: &'a Arrows, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = arrows[from].iter().map(String::as_str).collect();
    while let Some(module) = open.pop() {
        if seen.insert(module) {
            open.extend(arrows.get(module).into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

#[test]
fn a_circle_is_found() {
    let source = |path: &str, code: &str| Source::new(Path::new(path), code);
    let files = [
        source("lib.rs", "mod a; mod b; mod c; pub use c::{Deep, other};"),
        source("a.rs", "use crate::{b::{self, X}, y};"),
        source("b.rs", "use super::c;\n// use crate::a"),
        source(
            "b/inner.rs",
            "fn f() { super::super::Deep::new() } use super::own;",
        ),
        source("c.rs", "use std::fmt;"),
    ];
    let found = arrows(&files);
    assert_eq!(found["a"], BTreeSet::from(["b".to_owned()]));
    assert_eq!(found["b"], BTreeSet::from(["c".to_owned()]));
    assert!(circles(&found).is_empty());
    let back = [&files[..], &[source("c/deep.rs", "use crate::a::Y;")]].concat();
    assert_eq!(
        circles(&arrows(&back)),
        [["a", "b", "c"].map(str::to_owned).to_vec()]
    );
}
