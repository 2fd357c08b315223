//! Turns the command data into the static table: `redis-commands.json` (one record per command, from the
//! servers' own table), `envoy-commands.json` (what only Envoy serves, and the list of what it serves) and
//! `policies.json` (how the proxy treats a command where its class does not say it all).
//!
//! A command without a policy fails the build, so new data can never be served by accident. The name index
//! is laid out here too, with the same packing (`src/pack.rs`) that `lookup` uses.

#[path = "src/pack.rs"]
mod pack;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, fs, path::Path};

/// Slots of the name index: under a quarter full, and 2 KiB stay in the first-level cache.
const INDEX_SLOTS: usize = 1 << pack::INDEX_BITS;

fn main() {
    for file in [
        "build.rs",
        "src/pack.rs",
        "redis-commands.json",
        "envoy-commands.json",
        "policies.json",
    ] {
        println!("cargo:rerun-if-changed={file}");
    }
    let redis = read("redis-commands.json");
    let envoy = read("envoy-commands.json");
    let policies = read("policies.json");
    let mut records: BTreeMap<String, &Value> = BTreeMap::new();
    for record in rows(&redis).chain(rows(&envoy["commands"])) {
        let name = text(record, "name").to_lowercase().replace(' ', "|");
        assert!(
            records.insert(name.clone(), record).is_none(),
            "{name} is described twice"
        );
    }
    check_used(&policies, &records);
    let names: Vec<&str> = records.keys().map(String::as_str).collect();
    let mut out = String::new();
    write!(out, "pub(crate) static TABLE: [Command; {}] = [", names.len()).expect("a string takes it");
    for (id, (name, record)) in records.iter().enumerate() {
        let row = Row {
            id,
            name,
            record,
            policies: &policies,
            names: &names,
            envoy: &envoy,
        };
        row.print(&mut out);
    }
    out.push_str("];\n");
    print_index(&names, &mut out);
    let folder = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&folder).join("table.rs"), out).expect("OUT_DIR can be written");
}

fn read(file: &str) -> Value {
    let bytes = fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array of records").iter()
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or("")
}

/// A policy that names no command is a misspelling.
fn check_used(policies: &Value, records: &BTreeMap<String, &Value>) {
    for name in policies
        .as_object()
        .expect("an object")
        .keys()
        .filter(|name| !name.ends_with(" *"))
    {
        assert!(
            records.contains_key(&name.to_lowercase().replace(' ', "|")),
            "no such command: {name}"
        );
    }
}

struct Row<'a> {
    id: usize,
    name: &'a str,
    record: &'a Value,
    policies: &'a Value,
    names: &'a [&'a str],
    envoy: &'a Value,
}

impl Row<'_> {
    fn print(&self, out: &mut String) {
        let record = self.record;
        let (container, _) = self.name.split_once('|').unwrap_or((self.name, ""));
        let packed = pack::pack(self.name.as_bytes());
        let subcommands = self.subcommands();
        let flags = flags("Flags", record["flags"].as_array());
        let handling = self.handling();
        let (request, reply) = (self.request(), self.reply());
        write!(
            out,
            "Command {{ id: CommandId({}), name: {:?}, container: {container:?}, arity: {}, flags: {flags}, \
             keys: CommandKeys {{ specs: &{}, fast: {}, range: ({}, {}, {}) }}, \
             request: RequestPolicy::{request}, reply: ReplyPolicy::{reply}, effect: Effect::{}, handling: {handling}, \
             about: About {{ class: Class::{}, served_by_envoy: {}, since: {:?}, note: {:?} }}, \
             index: Indexed {{ name: Packed {{ low: {}, high: {}, len: {} }}, subcommands: ({}, {}) }} }},",
            self.id,
            self.name,
            record["arity"],
            self.key_specs(),
            self.fast_keys(),
            record["range"][0],
            record["range"][1],
            record["range"][2],
            self.policy("effect").as_str().unwrap_or("None"),
            camel(text(record, "proxy"), '_'),
            self.served_by_envoy(),
            text(record, "since"),
            self.note(),
            packed.low,
            packed.high,
            packed.len,
            subcommands.start,
            subcommands.end,
        )
        .expect("a string takes it");
    }

    /// The command's own policy, or the one that its container gives to all the rest.
    fn policy(&self, field: &str) -> &Value {
        let name = self.name.to_uppercase().replace('|', " ");
        let own = &self.policies[&name][field];
        let by_class = self.record["proxy"] == "refuse";
        match name.split_once(' ') {
            Some((container, _)) if own.is_null() && by_class => {
                &self.policies[format!("{container} *")][field]
            }
            _ => own,
        }
    }

    /// What the engine has to do for it beside serving it. Redis lets what it flags `no_auth` come before a login.
    fn handling(&self) -> String {
        let own = self.policy("handling").as_array().cloned();
        let mut names = own.unwrap_or_default();
        let before_login = Value::from("before_login");
        if rows(&self.record["flags"]).any(|flag| flag == "no_auth") && !names.contains(&before_login) {
            names.push(before_login);
        }
        if self.replica() {
            names.push(Value::from("may_use_replica"));
        }
        flags("Handling", Some(&names))
    }

    /// Our own remark. Those of the servers' data speak to those who write a proxy, not to those who use one.
    fn note(&self) -> &str {
        match self.policy("note").as_str() {
            Some(own) => own,
            None if rows(&self.envoy["commands"]).any(|record| record == self.record) => {
                text(self.record, "note")
            }
            None => "",
        }
    }

    fn request(&self) -> String {
        if let Some(own) = self.policy("request").as_str() {
            return own.to_owned();
        }
        let class = text(self.record, "proxy");
        match class {
            "keyed" => "ByKey".to_owned(),
            "keyed_multi_split" => "MultiShard".to_owned(),
            "all_shards" => "AllShards".to_owned(),
            "all_nodes" => "AllNodes".to_owned(),
            // A server's own words, for its own version.
            "local" if self.name.ends_with("|help") => "AnyNode".to_owned(),
            "local" if !self.subcommands().is_empty() => "Container".to_owned(),
            _ => panic!("{}: class {class} needs a request policy", self.name),
        }
    }

    fn reply(&self) -> String {
        if let Some(own) = self.policy("reply").as_str() {
            return own.to_owned();
        }
        match (
            self.record["response_policy"].as_str(),
            text(self.record, "proxy"),
        ) {
            (Some("agg_sum"), _) => "Sum",
            (Some("agg_min"), _) => "Min",
            (Some("agg_logical_and"), _) => "LogicalAnd",
            (Some("all_succeeded"), _) => "AllSucceeded",
            (Some("one_succeeded"), _) => "OneSucceeded",
            (None, class) if !class.starts_with("all_") && class != "keyed_multi_split" => "Pass",
            (policy, _) => panic!("{}: reply policy {policy:?} needs an entry", self.name),
        }
        .to_owned()
    }

    /// Reference: a replica may answer what is readonly and keyed, split, scripted or asked of all shards.
    fn replica(&self) -> bool {
        let readonly = rows(&self.record["flags"]).any(|flag| flag == "readonly");
        let class = text(self.record, "proxy");
        let kind = ["keyed", "keyed_multi_split", "script", "blocking", "all_shards"].contains(&class);
        readonly && kind && self.policy("replica").as_bool().unwrap_or(true)
    }

    fn served_by_envoy(&self) -> bool {
        let (container, sub) = self.name.split_once('|').unwrap_or((self.name, ""));
        let subs = self.envoy["served_subcommands"][container].as_array();
        let sub_is_served = sub.is_empty() || subs.is_none_or(|subs| subs.iter().any(|served| served == sub));
        sub_is_served && rows(&self.envoy["served"]).any(|served| served == container)
    }

    fn subcommands(&self) -> std::ops::Range<usize> {
        let prefix = format!("{}|", self.name);
        let start = self
            .names
            .iter()
            .position(|name| name.starts_with(&prefix))
            .unwrap_or(0);
        let count = self.names.iter().filter(|name| name.starts_with(&prefix)).count();
        let end = start + count;
        assert!(
            self.names[start..end].iter().all(|n| n.starts_with(&prefix)),
            "{}: not in a row",
            self.name
        );
        start..end
    }

    fn key_specs(&self) -> String {
        let specs = rows(&self.record["key_specs"])
            .filter_map(spec)
            .collect::<Vec<_>>();
        format!("[{}]", specs.join(","))
    }

    /// One plain range is enough unless keys must be searched for.
    fn fast_keys(&self) -> String {
        let range: Vec<i64> = rows(&self.record["range"]).filter_map(Value::as_i64).collect();
        let movable = self.record["movable_keys"] == true;
        match (rows(&self.record["key_specs"]).count(), movable, range.as_slice()) {
            (0, ..) => "FastKeys::None".to_owned(),
            (_, false, [1, 1, 1]) => "FastKeys::First".to_owned(),
            (_, false, [first @ 1..=99, last, step @ 1..=99]) => {
                format!("FastKeys::Range {{ first: {first}, last: {last}, step: {step} }}")
            }
            _ => "FastKeys::Spec".to_owned(),
        }
    }
}

fn spec(spec: &Value) -> Option<String> {
    let (begin, find) = (&spec["begin"], &spec["find"]);
    let flags = flags("KeyFlags", spec["flags"].as_array());
    if begin == "unknown" {
        // SORT: BY and GET patterns name no key of this slot; STORE is an option that can stand anywhere.
        let stores = rows(&spec["flags"]).any(|flag| flag == "ow");
        return stores.then(|| format!("KeySpec {{ begin: Begin::SortStore, find: ONE, flags: {flags} }}"));
    }
    let begin = match begin["keyword"].as_str() {
        Some(word) => format!(
            "Begin::Keyword {{ word: {:?}, from: {} }}",
            word.to_lowercase(),
            begin["from"]
        ),
        None => format!("Begin::Index({})", begin["index"]),
    };
    let find = match find["keynum"].as_u64() {
        Some(at) => format!(
            "Find::KeyNum {{ at: {at}, first: {}, step: {} }}",
            find["first"], find["step"]
        ),
        None => format!(
            "Find::Range {{ last: {}, step: {}, limit: {} }}",
            find["last"],
            find["step"],
            find["limit"].as_u64().unwrap_or(0)
        ),
    };
    Some(format!(
        "KeySpec {{ begin: {begin}, find: {find}, flags: {flags} }}"
    ))
}

fn flags(kind: &str, names: Option<&Vec<Value>>) -> String {
    let names = names.map(Vec::as_slice).unwrap_or_default();
    let bits = names
        .iter()
        .filter_map(Value::as_str)
        .map(|name| format!("{kind}::{}.0", name.to_uppercase()));
    let bits = bits.collect::<Vec<_>>().join(" | ");
    format!("{kind}({})", if bits.is_empty() { "0" } else { &bits })
}

fn camel(words: &str, between: char) -> String {
    words
        .split(between)
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect()
}

/// Tries multipliers until the fewest names stand off their own slot, so that most lookups are one probe.
fn print_index(names: &[&str], out: &mut String) {
    let top = || names.iter().enumerate().filter(|(_, name)| !name.contains('|'));
    let mut best: Option<(usize, u64, Vec<u16>)> = None;
    for attempt in 1..=2000_u64 {
        let seed = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut index = vec![0_u16; INDEX_SLOTS];
        let mut moved = 0;
        for (id, name) in top() {
            let mut at = pack::pack(name.as_bytes()).slot(seed);
            while index[at] != 0 {
                at = (at + 1) % INDEX_SLOTS;
                moved += 1;
            }
            index[at] = u16::try_from(id + 1).expect("fewer than 65535 commands");
        }
        if best.as_ref().is_none_or(|(least, ..)| moved < *least) {
            best = Some((moved, seed, index));
        }
    }
    let (_, seed, index) = best.expect("at least one attempt");
    writeln!(out, "pub(crate) const SEED: u64 = {seed};").expect("a string takes it");
    writeln!(out, "pub(crate) static INDEX: [u16; {INDEX_SLOTS}] = {index:?};").expect("a string takes it");
}
