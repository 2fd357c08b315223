//! Any interleaving of pushes, verdicts, subscriptions and reconnects keeps the protocol and ends in the
//! server's world.
//!
//! A model of an Istiod-like server and of a receiver that refuses some content stand on both sides of the
//! machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;

use super::play::{body, url};
use crate::subscriptions::{
    Arrived, Body, Form, Names, NodePolicy, Output, Purpose, Request, Response, Subscriptions,
};
use crate::update::{Rejected, Update, Verdict};

const KINDS: [&str; 3] = ["CDS", "EDS", "LDS"];
/// Content that the receiver refuses.
const BAD: u8 = 0;

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Disconnect,
    /// The server's world changes.
    Set(usize, u8, u8),
    Remove(usize, u8),
    /// The server pushes all it has of a type.
    Push(usize),
    /// The receiver judges its oldest update of a type.
    Judge(usize),
    WrongVerdict(u64),
    Want(u8),
    Leave(u8),
    Hold,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = 0..KINDS.len();
    prop_oneof![
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        6 => (kind.clone(), 0u8..5, 0u8..4).prop_map(|(k, n, c)| Step::Set(k, n, c)),
        3 => (kind.clone(), 0u8..5).prop_map(|(k, n)| Step::Remove(k, n)),
        6 => kind.clone().prop_map(Step::Push),
        8 => kind.prop_map(Step::Judge),
        1 => (500u64..900).prop_map(Step::WrongVerdict),
        2 => (0u8..5).prop_map(Step::Want),
        2 => (0u8..5).prop_map(Step::Leave),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
    ]
}

/// One type on both sides.
#[derive(Default)]
struct Side {
    world: BTreeMap<String, u8>,
    /// What the server believes the client has, on this stream.
    believed: BTreeSet<String>,
    opened: bool,
    /// Nonces of this stream without an answer, oldest first.
    unanswered: Vec<String>,
    received: BTreeMap<String, u8>,
    update: Option<Update>,
}

struct Model {
    form: Form,
    machine: Subscriptions,
    sides: [Side; 3],
    wanted: BTreeSet<String>,
    connected: bool,
    requests_on_stream: usize,
    nonces: u64,
    tickets: BTreeSet<u64>,
}

impl Model {
    fn new(form: Form) -> Self {
        let mut model = Self {
            form,
            machine: Subscriptions::new(form, NodePolicy::FirstMessage),
            sides: Default::default(),
            wanted: BTreeSet::new(),
            connected: false,
            requests_on_stream: 0,
            nonces: 0,
            tickets: BTreeSet::new(),
        };
        for kind in ["LDS", "CDS"] {
            let outputs = model.machine.subscribe(url(kind), Names::Wildcard);
            model.see(outputs);
        }
        model
    }

    fn side(&mut self, type_url: &str) -> &mut Side {
        let index = KINDS.iter().position(|kind| url(kind) == type_url).unwrap();
        &mut self.sides[index]
    }

    fn see(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(request) => self.hear(&request),
                Output::Apply(update) => {
                    assert!(self.tickets.insert(update.ticket), "a ticket twice");
                    let side = self.side(&update.type_url);
                    assert!(side.update.is_none(), "two updates of one type at once");
                    side.update = Some(update);
                }
            }
        }
    }

    /// The server hears a request.
    fn hear(&mut self, request: &Request) {
        assert!(self.connected, "sent without a stream");
        assert_eq!(request.node, self.requests_on_stream == 0, "node exactly once");
        self.requests_on_stream += 1;
        let side = self.side(&request.type_url);
        let answer = matches!(request.purpose, Purpose::Ack | Purpose::Nack(_));
        assert_eq!(
            request.purpose == Purpose::First,
            !side.opened,
            "the first request is the first"
        );
        side.opened = true;
        if answer {
            assert!(!side.unanswered.is_empty(), "an answer without a question");
            assert_eq!(
                side.unanswered.remove(0),
                request.nonce,
                "answered in order, once"
            );
        }
        if let Body::Delta {
            subscribe,
            unsubscribe,
            initial_versions,
        } = &request.body
        {
            assert!(
                !answer || subscribe.is_empty() && unsubscribe.is_empty(),
                "an ACK changes no names"
            );
            assert!(answer || request.nonce.is_empty(), "a change is spontaneous");
            side.believed.extend(initial_versions.keys().cloned());
            for name in unsubscribe {
                side.believed.remove(name);
            }
        }
    }

    fn push(&mut self, index: usize) {
        if !self.connected || !self.sides[index].opened {
            return;
        }
        self.nonces += 1;
        let wanted = self.wanted.clone();
        let visible = |name: &String| KINDS[index] != "EDS" || wanted.contains(name);
        let side = &mut self.sides[index];
        let type_url = url(KINDS[index]);
        let resources: Vec<Arrived> = side
            .world
            .iter()
            .filter(|(name, _)| visible(name))
            .map(|(name, content)| Arrived {
                name: Some(name.clone()),
                version: String::new(),
                body: Some(body(type_url, &content.to_string())),
                ttl: None,
            })
            .collect();
        let sent: BTreeSet<String> = resources.iter().filter_map(|one| one.name.clone()).collect();
        let removed = side.believed.difference(&sent).cloned().collect();
        side.believed = sent;
        let nonce = format!("n{}", self.nonces);
        side.unanswered.push(nonce.clone());
        let response = Response {
            type_url: type_url.to_owned(),
            version: nonce.clone(),
            nonce,
            resources,
            removed: if self.form == Form::Delta {
                removed
            } else {
                Vec::new()
            },
            ..Response::default()
        };
        let outputs = self.machine.on_response(response, Instant::now());
        self.see(outputs);
    }

    /// The receiver applies what is good and refuses the rest.
    fn judge(&mut self, index: usize) {
        let Some(update) = self.sides[index].update.take() else {
            return;
        };
        let mut rejected = Vec::new();
        for resource in &update.resources {
            let content: u8 = String::from_utf8_lossy(&resource.body.value).parse().unwrap();
            let name = resource.name.clone();
            if content == BAD {
                rejected.push(Rejected::new(name, "is bad"));
            } else if KINDS[index] != "EDS" || self.wanted.contains(&name) {
                self.sides[index].received.insert(name, content);
            }
        }
        for name in &update.removed {
            self.sides[index].received.remove(name);
        }
        let outputs = self.machine.on_verdict(Verdict::reject(&update, rejected));
        self.see(outputs);
        let received: Vec<&str> = self.sides[index].received.keys().map(String::as_str).collect();
        assert_eq!(
            self.machine.accepted(url(KINDS[index])),
            received,
            "both hold the same"
        );
    }

    fn connect(&mut self) {
        self.disconnect();
        self.connected = true;
        self.requests_on_stream = 0;
        let outputs = self.machine.on_connect();
        self.see(outputs);
    }

    fn disconnect(&mut self) {
        self.machine.on_disconnect();
        self.connected = false;
        for side in &mut self.sides {
            side.opened = false;
            side.believed.clear();
            side.unanswered.clear();
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Connect => self.connect(),
            Step::Disconnect => self.disconnect(),
            Step::Set(index, name, content) => {
                self.sides[*index].world.insert(name.to_string(), *content);
            }
            Step::Remove(index, name) => {
                self.sides[*index].world.remove(&name.to_string());
            }
            Step::Push(index) => self.push(*index),
            Step::Judge(index) => self.judge(*index),
            Step::WrongVerdict(ticket) => {
                let verdict = Verdict {
                    ticket: ticket + 1_000_000,
                    rejected: Vec::new(),
                };
                assert_eq!(self.machine.on_verdict(verdict), []);
            }
            Step::Want(name) => {
                self.wanted.insert(name.to_string());
                let outputs = self
                    .machine
                    .subscribe(url("EDS"), Names::List(vec![name.to_string()]));
                self.see(outputs);
            }
            Step::Leave(name) => {
                self.wanted.remove(&name.to_string());
                self.sides[1].received.remove(&name.to_string());
                if let Some(update) = &mut self.sides[1].update {
                    update
                        .resources
                        .retain(|resource| resource.name != name.to_string());
                }
                let outputs = self.machine.unsubscribe(url("EDS"), &[name.to_string()]);
                self.see(outputs);
            }
            Step::Hold => self.machine.hold(url("LDS")),
            Step::Release => {
                let outputs = self.machine.release(url("LDS"));
                self.see(outputs);
            }
        }
    }

    /// Everything heals: a stream, a world without bad content, a push of it, and all verdicts.
    fn settle(&mut self) {
        let outputs = self.machine.release(url("LDS"));
        self.see(outputs);
        if !self.connected {
            self.connect();
        }
        for index in 0..KINDS.len() {
            for content in self.sides[index].world.values_mut() {
                *content = (*content).max(BAD + 1);
            }
            while self.sides[index].update.is_some() {
                self.judge(index);
            }
            self.push(index);
            while self.sides[index].update.is_some() {
                self.judge(index);
            }
            assert_eq!(self.sides[index].unanswered, Vec::<String>::new());
        }
        assert_eq!(self.machine.outstanding(), 0);
    }
}

fn check(form: Form, steps: &[Step]) {
    let mut model = Model::new(form);
    for step in steps {
        model.take(step);
    }
    model.settle();
    for (kind, side) in KINDS.iter().zip(&model.sides) {
        if *kind != "EDS" {
            assert_eq!(side.received, side.world, "{kind} ends in the server's world");
            continue;
        }
        for name in &model.wanted {
            if let Some(content) = side.world.get(name) {
                assert_eq!(side.received.get(name), Some(content), "EDS of {name}");
            }
        }
        // State of the world cannot take endpoints away; delta can.
        let gone = |name: &&String| !side.world.contains_key(*name);
        if form == Form::Delta {
            assert_eq!(side.received.keys().filter(gone).count(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delta_converges(steps in proptest::collection::vec(step(), 0..80)) {
        check(Form::Delta, &steps);
    }

    #[test]
    fn state_of_the_world_converges(steps in proptest::collection::vec(step(), 0..80)) {
        check(Form::Sotw, &steps);
    }
}
