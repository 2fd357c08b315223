//! Plays a script of inputs against the machine and compares what it says, line by line.
//!
//! An input starts in the first column; what must come of it follows indented, `>` for both forms, `D>` for
//! delta and `S>` for state of the world. Resources are `name=content`, with `~seconds` for a TTL and `-name`
//! for a removal.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use redplane_proto::pb::google::protobuf::Any;

use crate::subscriptions::{
    Arrived, Body, Form, Names, NodePolicy, Output, Purpose, Request, Response, Subscriptions,
};
use crate::type_url;
use crate::update::{Rejected, Update, Verdict};

const TYPES: [(&str, &str); 6] = [
    ("CDS", type_url::CLUSTER),
    ("EDS", type_url::ENDPOINT),
    ("LDS", type_url::LISTENER),
    ("RDS", type_url::ROUTE),
    ("SDS", type_url::SECRET),
    ("ECDS", type_url::EXTENSION),
];

/// The type URL of a short name.
pub(super) fn url(short: &str) -> &str {
    TYPES
        .iter()
        .find(|(name, _)| *name == short)
        .map_or(short, |(_, url)| url)
}

fn short(url: &str) -> &str {
    TYPES
        .iter()
        .find(|(_, known)| *known == url)
        .map_or(url, |(name, _)| name)
}

/// A resource body with some content.
pub(super) fn body(type_url: &str, content: &str) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: content.as_bytes().to_vec(),
    }
}

/// Plays a script in both forms.
pub(super) fn play_both(script: &str) {
    play(Form::Delta, script);
    play(Form::Sotw, script);
}

/// Plays a script in one form.
pub(super) fn play(form: Form, script: &str) {
    play_with(Subscriptions::new(form, NodePolicy::FirstMessage), form, script);
}

/// Plays a script against a machine of one's own.
pub(super) fn play_with(machine: Subscriptions, form: Form, script: &str) {
    let mut player = Player {
        machine,
        form,
        now: Instant::now(),
        open: Vec::new(),
    };
    let mut lines = script.lines().filter(|line| !line.trim().is_empty()).peekable();
    while let Some(input) = lines.next() {
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
            let (mark, text) = line.trim().split_once("> ").expect("an expectation has a mark");
            if mark.is_empty() || mark == mark_of(form) {
                expected.push(text.to_owned());
            }
        }
        let outputs = player.step(input);
        let said: Vec<String> = outputs.iter().map(describe).collect();
        assert_eq!(said, expected, "{form:?}, after {input:?}");
    }
}

fn mark_of(form: Form) -> &'static str {
    match form {
        Form::Delta => "D",
        Form::Sotw => "S",
    }
}

struct Player {
    machine: Subscriptions,
    form: Form,
    now: Instant,
    /// Updates without a verdict, oldest first.
    open: Vec<Update>,
}

impl Player {
    fn step(&mut self, input: &str) -> Vec<Output> {
        let words: Vec<&str> = input.split_whitespace().collect();
        let outputs = match words.as_slice() {
            ["connect"] => self.machine.on_connect(),
            ["disconnect"] => {
                self.machine.on_disconnect();
                Vec::new()
            }
            ["sub", kind, "*"] => self.machine.subscribe(url(kind), Names::Wildcard),
            ["sub", kind, names @ ..] => self.machine.subscribe(url(kind), Names::List(owned(names))),
            ["unsub", kind, names @ ..] => self.machine.unsubscribe(url(kind), &owned(names)),
            ["hold", kind] => {
                self.machine.hold(url(kind));
                Vec::new()
            }
            ["release", kind] => self.machine.release(url(kind)),
            ["resp", kind, version, nonce, resources @ ..] => {
                let response = self.response(kind, version, nonce, resources);
                self.machine.on_response(response, self.now)
            }
            ["ok"] => {
                let update = self.open.remove(0);
                self.machine.on_verdict(Verdict::accept(&update))
            }
            ["bad", names @ ..] => {
                let update = self.open.remove(0);
                let rejected = names.iter().map(|name| Rejected::new(*name, "is bad")).collect();
                self.machine.on_verdict(Verdict::reject(&update, rejected))
            }
            ["wait", seconds] => {
                self.now += Duration::from_secs(seconds.parse().unwrap());
                self.machine.on_tick(self.now)
            }
            _ => panic!("what is {input:?}?"),
        };
        self.open.extend(outputs.iter().filter_map(|output| match output {
            Output::Apply(update) => Some(update.clone()),
            Output::Send(_) => None,
        }));
        outputs
    }

    fn response(&self, kind: &str, version: &str, nonce: &str, words: &[&str]) -> Response {
        let (removed, resources): (Vec<&str>, Vec<&str>) =
            words.iter().partition(|word| word.starts_with('-'));
        let version_of_each = if self.form == Form::Sotw { version } else { "" };
        Response {
            type_url: url(kind).to_owned(),
            version: version.to_owned(),
            nonce: nonce.to_owned(),
            resources: resources
                .iter()
                .map(|word| arrived(url(kind), version_of_each, word))
                .collect(),
            removed: removed.iter().map(|name| name[1..].to_owned()).collect(),
            ..Response::default()
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn arrived(type_url: &str, version: &str, word: &str) -> Arrived {
    let (word, ttl) = match word.split_once('~') {
        Some((word, seconds)) => (word, Some(Duration::from_secs(seconds.parse().unwrap()))),
        None => (word, None),
    };
    let (name, content) = match word.split_once('=') {
        Some((name, content)) => (name, Some(content)),
        None => (word, None),
    };
    Arrived {
        name: (!name.is_empty()).then(|| name.to_owned()),
        version: version.to_owned(),
        body: content.map(|content| body(type_url, content)),
        ttl,
    }
}

/// An output in one line.
pub(super) fn describe(output: &Output) -> String {
    match output {
        Output::Send(request) => describe_request(request),
        Output::Apply(update) => describe_update(update),
    }
}

fn describe_request(request: &Request) -> String {
    let kind = short(&request.type_url);
    let mut line = match &request.purpose {
        Purpose::First => format!("{kind} first"),
        Purpose::Change => format!("{kind} change"),
        Purpose::Ack => format!("{kind} ack"),
        Purpose::Nack(text) => format!("{kind} nack ({})", text.replace('\n', " / ")),
    };
    if !request.nonce.is_empty() {
        write!(line, " {}", request.nonce).unwrap();
    }
    match &request.body {
        Body::Delta {
            subscribe,
            unsubscribe,
            initial_versions,
        } => {
            if !subscribe.is_empty() {
                write!(line, " +{}", subscribe.join(",")).unwrap();
            }
            if !unsubscribe.is_empty() {
                write!(line, " -{}", unsubscribe.join(",")).unwrap();
            }
            if !initial_versions.is_empty() {
                let held: Vec<_> = initial_versions.iter().map(|(n, v)| format!("{n}:{v}")).collect();
                write!(line, " held {}", held.join(",")).unwrap();
            }
        }
        Body::Sotw { version, names } => {
            write!(line, " at {version:?} [{}]", names.join(",")).unwrap();
        }
    }
    if request.node {
        line.push_str(" node");
    }
    line
}

fn describe_update(update: &Update) -> String {
    let mut line = format!("{} apply", short(&update.type_url));
    for resource in &update.resources {
        let content = String::from_utf8_lossy(&resource.body.value);
        write!(line, " {}={content}", resource.name).unwrap();
    }
    for name in &update.removed {
        write!(line, " -{name}").unwrap();
    }
    for one in &update.refused {
        write!(line, " ({}: {})", one.name, one.reason).unwrap();
    }
    if update.unchanged > 0 {
        write!(line, " unchanged {}", update.unchanged).unwrap();
    }
    if update.unrequested > 0 {
        write!(line, " unrequested {}", update.unrequested).unwrap();
    }
    line
}
