//! How large a crate, a file and a type may be.

use crate::sources::{Source, product};

/// Product lines of a crate.
const LARGEST_CRATE: usize = 6_000;
/// Lines of a file, its tests not counted.
const LONGEST_FILE: usize = 350;
/// Fields of a type.
const MOST_FIELDS: usize = 12;

/// Types that are plain settings: one field for each flag or option.
const SETTINGS: &[(&str, &str)] = &[("src", "Flags"), ("xds", "Config")];
/// The crates whose types are the configuration itself.
const MODEL: &[&str] = &["config", "config-core", "config-http"];

#[test]
fn no_crate_is_too_large() {
    let mut wrong = Vec::new();
    for (room, files) in product() {
        let lines: usize = files.iter().map(Source::lines).sum();
        if room != "testkit" && lines > LARGEST_CRATE {
            wrong.push(format!("{room}: {lines} lines"));
        }
    }
    assert!(
        wrong.is_empty(),
        "no crate over {LARGEST_CRATE} product lines: {wrong:#?}"
    );
}

#[test]
fn no_file_is_too_long() {
    let mut wrong = Vec::new();
    for (room, files) in product() {
        for file in files {
            if room != "testkit" && file.lines() > LONGEST_FILE {
                let path = file.path.display();
                wrong.push(format!("{room}: {path} has {} lines", file.lines()));
            }
        }
    }
    assert!(wrong.is_empty(), "no file over {LONGEST_FILE} lines: {wrong:#?}");
}

#[test]
fn no_type_has_too_many_fields() {
    let mut wrong = Vec::new();
    for (room, files) in product() {
        for (name, fields) in files.iter().flat_map(|file| structs(&file.code)) {
            if !MODEL.contains(&room.as_str())
                && fields > MOST_FIELDS
                && !SETTINGS.contains(&(room.as_str(), name.as_str()))
            {
                wrong.push(format!("{room}::{name} has {fields} fields"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "no type over {MOST_FIELDS} fields but plain settings: {wrong:#?}"
    );
}

/// The structs of a file that have named fields, with their number. The house is formatted: a struct of a module
/// begins and ends at the margin.
fn structs(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for line in code.lines() {
        match &mut open {
            Some(_) if line.starts_with('}') => found.extend(open.take()),
            Some((_, fields)) => *fields += usize::from(is_field(line)),
            None => open = head(line).map(|name| (name, 0)),
        }
    }
    found
}

fn head(line: &str) -> Option<String> {
    let (before, rest) = line.split_once("struct ")?;
    let is_visibility = before.is_empty() || before.starts_with("pub") && before.ends_with(' ');
    if !is_visibility {
        return None;
    }
    let name = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    line.ends_with('{').then_some(name)
}

fn is_field(line: &str) -> bool {
    let Some(line) = line.strip_prefix("    ") else {
        return false;
    };
    let line = match line.strip_prefix("pub") {
        Some(public) => public.split_once(' ').map_or("", |(_, rest)| rest),
        None => line,
    };
    let name = line.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    name.is_some_and(|end| end > 0 && line[end..].starts_with(':'))
}

#[test]
fn fields_are_counted() {
    let code = "pub(crate) struct A<'a> {\n    /// x\n    pub(super) a: u8,\n    r#b: u8,\n    c: fn(\n        d: u8,\n    ),\n}\n\
                struct B;\npub(super) struct F {\n    f: u8,\n}\npub struct C(u8);\nenum D {\n    A { x: u8 },\n}\npub struct E {\n    pub e: u8,\n}\n";
    let expected = [("A", 2), ("F", 1), ("E", 1)].map(|(name, fields)| (name.to_owned(), fields));
    assert_eq!(structs(code), expected);
}
