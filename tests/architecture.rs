//! The house as `ARCHITECTURE.md` tells it, checked: which crate may know which, where protobuf and gRPC stop, that
//! the modules of a crate form no circle, how large things may be, and the forms that every file and crate keeps.
//!
//! A new crate or arrow is a decision: it is made here, in the table, with its reason in the commit.

mod architecture {
    mod circles;
    mod sizes;
    pub(crate) mod sources;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use architecture::sources;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Which crate may depend on which inside the house. `redplane` is the binary.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "redplane",
        &[
            "admin",
            "command",
            "config",
            "control",
            "listener",
            "proto",
            "proxy",
            "reconcile",
            "resp",
            "telemetry",
            "upstream",
            "world",
        ],
    ),
    (
        "reconcile",
        &[
            "admin",
            "config",
            "discovery",
            "listener",
            "proto",
            "proxy",
            "telemetry",
            "upstream",
            "world",
            "xds",
        ],
    ),
    (
        "listener",
        &[
            "external-auth",
            "http",
            "proxy",
            "rbac",
            "world",
            "upstream",
            "config",
            "telemetry",
        ],
    ),
    (
        "http",
        &[
            "http-route",
            "jwt",
            "rbac",
            "world",
            "upstream",
            "config",
            "telemetry",
        ],
    ),
    ("http-route", &["config"]),
    ("external-auth", &["upstream", "config", "telemetry", "proto"]),
    (
        "proxy",
        &[
            "blocking",
            "pubsub",
            "tracking",
            "transaction",
            "redis-flow",
            "redis-core",
            "merge",
            "world",
            "upstream",
            "command",
            "resp",
            "config",
            "telemetry",
        ],
    ),
    (
        "blocking",
        &["command", "merge", "redis-core", "redis-flow", "resp", "upstream"],
    ),
    (
        "pubsub",
        &[
            "command",
            "config",
            "merge",
            "redis-core",
            "redis-flow",
            "resp",
            "telemetry",
            "upstream",
        ],
    ),
    (
        "tracking",
        &[
            "command",
            "config",
            "merge",
            "redis-core",
            "redis-flow",
            "resp",
            "upstream",
        ],
    ),
    (
        "transaction",
        &[
            "command",
            "config",
            "merge",
            "redis-core",
            "redis-flow",
            "resp",
            "upstream",
        ],
    ),
    (
        "redis-flow",
        &[
            "redis-core",
            "merge",
            "world",
            "upstream",
            "command",
            "resp",
            "config",
            "telemetry",
        ],
    ),
    (
        "redis-core",
        &[
            "merge",
            "world",
            "upstream",
            "command",
            "resp",
            "config",
            "telemetry",
        ],
    ),
    ("merge", &["command", "resp"]),
    ("world", &["http-route", "upstream", "config", "telemetry"]),
    ("discovery", &["upstream", "resp", "config", "telemetry"]),
    ("upstream", &["aws", "command", "config", "telemetry"]),
    ("aws", &["config"]),
    ("jwt", &["config"]),
    ("rbac", &["config"]),
    ("admin", &["config", "upstream", "telemetry", "proto"]),
    ("xds", &["proto", "telemetry"]),
    ("control", &["proto"]),
    ("config", &["config-core", "config-http", "proto"]),
    ("config-http", &["config-core", "proto"]),
    ("config-core", &["proto"]),
    ("command", &[]),
    ("resp", &[]),
    ("proto", &[]),
    ("telemetry", &["config-core"]),
    ("testkit", &["resp", "proto"]),
];

/// Walls: these packages may be dependencies of these crates only.
const WALLS: &[(&[&str], &[&str])] = &[
    (
        &["prost", "prost-types", "prost-reflect", "envoy-types"],
        &["proto", "config", "config-core", "config-http", "xds", "control"],
    ),
    (&["tonic", "tonic-prost"], &["xds", "control", "external-auth"]),
];

/// Crates of the engine: no circle between their modules.
const WITHOUT_CIRCLES: &[&str] = &[
    "crates/blocking/src",
    "crates/merge/src",
    "crates/proxy/src",
    "crates/pubsub/src",
    "crates/redis-core/src",
    "crates/redis-flow/src",
    "crates/tracking/src",
    "crates/transaction/src",
];

/// Envoy's messages may be named in these crates only; behind them are validated types.
const MESSAGES: &[&str] = &[
    "config",
    "config-core",
    "config-http",
    "control",
    "external-auth",
    "proto",
    "reconcile",
    "src",
    "xds",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Metadata {
    let manifest = root().join("Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .expect("cargo metadata works here")
}

/// The short name: `redplane-xds` is `xds`.
fn short_name(name: &str) -> &str {
    name.strip_prefix("redplane-").unwrap_or(name)
}

fn allowed(package: &Package) -> &'static [&'static str] {
    let name = short_name(&package.name);
    let row = ARROWS.iter().find(|(from, _)| *from == name);
    row.unwrap_or_else(|| panic!("{name} is not in the table of arrows: decide which it may know"))
        .1
}

#[test]
fn arrows_point_one_way() {
    let metadata = metadata();
    let house: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let inside = package
            .dependencies
            .iter()
            .filter(|d| house.contains(d.name.as_str()));
        for dependency in inside {
            let (to, kind) = (short_name(&dependency.name), dependency.kind);
            let is_fine = match to {
                "testkit" => kind == DependencyKind::Development,
                // A test may build the message from which its subject is configured, start a cluster, and ask the
                // command table.
                "proto" | "discovery" | "command" if kind == DependencyKind::Development => true,
                _ => allowed(package).contains(&to),
            };
            if !is_fine {
                wrong.push(format!("{} -> {to} ({kind})", short_name(&package.name)));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not allowed: {wrong:#?}");
}

#[test]
fn walls_stand() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let name = short_name(&package.name);
        let real = package
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development);
        for dependency in real {
            let wall = WALLS
                .iter()
                .find(|(outside, _)| outside.contains(&dependency.name.as_str()));
            if wall.is_some_and(|(_, inside)| !inside.contains(&name)) {
                wrong.push(format!("{name} -> {}", dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "dependencies across a wall: {wrong:#?}");
}

#[test]
fn messages_stop_at_their_wall() {
    let mut wrong = Vec::new();
    for (name, files) in sources::product() {
        let names_messages = |file: &&sources::Source| file.code.contains("redplane_proto::pb");
        if !MESSAGES.contains(&name.as_str()) {
            let found = files.iter().filter(names_messages);
            wrong.extend(found.map(|file| format!("{name}: {}", file.path.display())));
        }
    }
    assert!(
        wrong.is_empty(),
        "Envoy's messages outside their wall: {wrong:#?}"
    );
}

#[test]
fn every_crate_keeps_the_lints() {
    let manifest = |path: &Path| std::fs::read_to_string(path).expect("a manifest can be read");
    assert!(manifest(&root().join("Cargo.toml")).contains("unsafe_code = \"forbid\""));
    for package in &metadata().packages {
        let text = manifest(package.manifest_path.as_std_path());
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{} does not inherit the lints",
            package.name
        );
        assert!(
            package.publish.as_deref() == Some(&[]),
            "{} could be published",
            package.name
        );
    }
}

#[test]
fn every_file_opens_with_its_head() {
    let mut wrong = Vec::new();
    for path in sources() {
        let lines = read(&path)
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        if !(1..=15).contains(&lines) {
            wrong.push(format!("{}: {lines} lines", shown(&path)));
        }
    }
    assert!(
        wrong.is_empty(),
        "a file opens with a head of at most 15 lines: {wrong:#?}"
    );
}

#[test]
fn modules_have_names() {
    const NAMELESS: &[&str] = &[
        "mod.rs",
        "utils.rs",
        "util.rs",
        "common.rs",
        "misc.rs",
        "helpers.rs",
        "manager.rs",
    ];
    let is_nameless = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| NAMELESS.iter().any(|nameless| name == *nameless))
    };
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|path| is_nameless(path))
        .map(|path| shown(path))
        .collect();
    assert!(wrong.is_empty(), "name what is inside: {wrong:#?}");
}

#[test]
fn modules_of_the_engine_point_one_way() {
    for folder in WITHOUT_CIRCLES {
        let found = circle(&imports(&root().join(folder)));
        assert!(found.is_empty(), "{folder}: modules in a circle: {found:?}");
    }
}

/// By module of a crate's folder, the modules of it that its files import.
fn imports(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources() {
        let Ok(relative) = path.strip_prefix(folder) else {
            continue;
        };
        let first = relative.components().next().expect("a file has a name");
        let name = first.as_os_str().to_string_lossy();
        let name = name.trim_end_matches(".rs").to_owned();
        if name != "lib" && !path.ends_with("tests.rs") {
            let own = modules.entry(name.clone()).or_default();
            own.extend(named(&read(&path)).into_iter().filter(|to| *to != name));
        }
    }
    modules
}

/// The modules of its crate that the code of a file names, its comments and tests left out.
fn named(text: &str) -> BTreeSet<String> {
    let product = text.lines().take_while(|line| *line != "#[cfg(test)]");
    let code = product.filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let word = |rest: &str| -> String {
        rest.chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect()
    };
    let prefix = "crate::";
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                found.extend(list.split(',').map(|item| word(item.trim_start())));
            }
            None => drop(found.insert(word(rest))),
        }
    }
    // Types at the top of a crate are no modules.
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    found
}

/// Modules that import themselves by way of others.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reaches_itself = |start: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = imports[start].iter().collect();
        while let Some(name) = next.pop() {
            if name == start {
                return true;
            }
            if seen.insert(name) {
                next.extend(imports.get(name).into_iter().flatten());
            }
        }
        false
    };
    imports
        .keys()
        .filter(|name| reaches_itself(name))
        .cloned()
        .collect()
}

/// Every Rust source of the house, generated code aside.
fn sources() -> Vec<PathBuf> {
    let mut found = vec![root().join("build.rs")];
    found.retain(|path| path.exists());
    for folder in ["src", "tests", "benches", "crates"] {
        collect(&root().join(folder), &mut found);
    }
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a source can be read")
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
