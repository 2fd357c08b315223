//! Who wants what of the control plane: the xDS protocol as a pure state machine, one for both wire forms.
//!
//! Every input returns what to send and what to apply, in order. A response becomes one
//! [`Update`](crate::Update); the next response of that type waits until the verdict is in, and then each
//! nonce is answered exactly once: ACK, or NACK naming what is bad while the rest is applied. Subscription
//! changes never ride on an ACK in delta; in state-of-the-world, where every request repeats the whole list,
//! they wait for a pending ACK instead of racing it.
//!
//! A lost stream forgets nonces and queued responses, keeps everything accepted, and lets an outstanding
//! verdict still count; the first request of a type on the next stream waits for it, so that it can name all
//! that is held. The machine never does I/O and never reads a clock. Envoy: `source/docs/xds.md`.

mod kind;
mod message;
mod offer;
mod settle;
#[cfg(test)]
mod tests;

use std::time::Instant;

pub use self::message::{Arrived, Body, Output, Purpose, Request, Response};

use self::kind::{Arrival, Kind};
use crate::type_url;
use crate::update::Verdict;

/// The wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `DELTA_GRPC`: changes only.
    Delta,
    /// `GRPC`: state of the world.
    Sotw,
}

/// When the node goes along with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePolicy {
    /// `set_node_on_first_message_only: true`. Delta streams always do this.
    FirstMessage,
    /// With every state-of-the-world request.
    EveryMessage,
}

/// What is subscribed of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Everything there is (CDS, LDS).
    Wildcard,
    /// These resources, in addition to those subscribed before.
    List(Vec<String>),
}

/// The subscriptions of one stream, or of one file.
#[derive(Debug)]
pub struct Subscriptions {
    form: Form,
    node: NodePolicy,
    /// In the order of requests.
    kinds: Vec<Kind>,
    /// Number of the current stream, if one is up.
    stream: Option<u64>,
    streams: u64,
    node_due: bool,
    tickets: u64,
    ignored: u64,
}

impl Subscriptions {
    /// A machine without subscriptions and without a stream.
    pub fn new(form: Form, node: NodePolicy) -> Self {
        Self {
            form,
            node,
            kinds: Vec::new(),
            stream: None,
            streams: 0,
            node_due: false,
            tickets: 0,
            ignored: 0,
        }
    }

    /// Adds names of a type; what the server has not been told yet is asked for at once when a stream is up.
    #[must_use]
    pub fn subscribe(&mut self, type_url: &str, names: Names) -> Vec<Output> {
        let index = self.kind_or_new(type_url);
        match names {
            Names::Wildcard => self.kinds[index].subscribe_all(),
            Names::List(names) => self.kinds[index].subscribe(names),
        }
        self.flush(index).into_iter().collect()
    }

    /// Takes names back and forgets their resources; no removal is reported for them.
    #[must_use]
    pub fn unsubscribe(&mut self, type_url: &str, names: &[String]) -> Vec<Output> {
        let Some(index) = self.kind(type_url) else {
            return Vec::new();
        };
        self.kinds[index].unsubscribe(names);
        self.flush(index).into_iter().collect()
    }

    /// Withholds the first request of a type and its subscription changes until [`release`](Self::release).
    /// Answers still go.
    pub fn hold(&mut self, type_url: &str) {
        let index = self.kind_or_new(type_url);
        self.kinds[index].set_paused(true);
    }

    /// Ends [`hold`](Self::hold) and sends what was withheld.
    #[must_use]
    pub fn release(&mut self, type_url: &str) -> Vec<Output> {
        let Some(index) = self.kind(type_url) else {
            return Vec::new();
        };
        self.kinds[index].set_paused(false);
        self.flush(index).into_iter().collect()
    }

    /// A stream is up: the first requests of all types, in order, at once.
    #[must_use]
    pub fn on_connect(&mut self) -> Vec<Output> {
        self.on_disconnect();
        self.streams += 1;
        self.stream = Some(self.streams);
        self.node_due = true;
        (0..self.kinds.len())
            .filter_map(|index| self.flush(index))
            .collect()
    }

    /// The stream is gone. What was accepted stays.
    pub fn on_disconnect(&mut self) {
        self.stream = None;
        for kind in &mut self.kinds {
            kind.forget_stream();
        }
    }

    /// A response of the current stream. `now` starts the TTLs in it.
    #[must_use]
    pub fn on_response(&mut self, response: Response, now: Instant) -> Vec<Output> {
        let open = self
            .kind(&response.type_url)
            .filter(|index| self.kinds[*index].is_open());
        let (Some(index), Some(stream)) = (open, self.stream) else {
            self.ignored += 1;
            return Vec::new();
        };
        self.kinds[index].enqueue(Arrival {
            response,
            now,
            stream: Some(stream),
        });
        self.pump(index).into_iter().collect()
    }

    /// The verdict on an update. One with an unknown ticket changes nothing.
    #[must_use]
    pub fn on_verdict(&mut self, verdict: Verdict) -> Vec<Output> {
        let Some(index) = self.kinds.iter().position(|kind| kind.awaits(verdict.ticket)) else {
            return Vec::new();
        };
        let mut outputs = Vec::new();
        if let Some(answer) = self.kinds[index].settle(verdict.rejected)
            && answer.stream.is_some()
            && answer.stream == self.stream
        {
            let node = self.node_goes_along();
            outputs.push(Output::Send(self.kinds[index].answer(answer, self.form, node)));
        }
        outputs.extend(self.flush(index));
        outputs.extend(self.pump(index));
        outputs
    }

    /// Removes what its TTL has ended. See [`deadline`](Self::deadline).
    #[must_use]
    pub fn on_tick(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        for index in 0..self.kinds.len() {
            self.kinds[index].expire(now);
            outputs.extend(self.pump(index));
        }
        outputs
    }

    /// When [`on_tick`](Self::on_tick) is due next.
    pub fn deadline(&self) -> Option<Instant> {
        self.kinds.iter().filter_map(Kind::deadline).min()
    }

    /// Number of updates without a verdict.
    pub fn outstanding(&self) -> usize {
        self.kinds.iter().filter(|kind| kind.is_waiting()).count()
    }

    /// Number of responses so far about types that were not asked for; they are dropped without an answer, as
    /// Envoy does.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Names of the accepted resources of a type.
    pub fn accepted(&self, type_url: &str) -> Vec<&str> {
        self.kind(type_url)
            .map_or_else(Vec::new, |index| self.kinds[index].accepted_names())
    }

    fn kind(&self, type_url: &str) -> Option<usize> {
        self.kinds.iter().position(|kind| kind.type_url() == type_url)
    }

    fn kind_or_new(&mut self, type_url: &str) -> usize {
        self.kind(type_url).unwrap_or_else(|| {
            let rank = type_url::rank(type_url);
            let index = self
                .kinds
                .partition_point(|kind| type_url::rank(kind.type_url()) <= rank);
            self.kinds.insert(index, Kind::new(type_url));
            index
        })
    }

    fn node_goes_along(&mut self) -> bool {
        let every = self.form == Form::Sotw && self.node == NodePolicy::EveryMessage;
        std::mem::take(&mut self.node_due) || every
    }

    /// Sends the first request or the subscription changes of a type, if there is anything to say.
    fn flush(&mut self, index: usize) -> Option<Output> {
        self.stream?;
        if !self.kinds[index].has_news(self.form) {
            return None;
        }
        let node = self.node_goes_along();
        Some(Output::Send(self.kinds[index].news(self.form, node)))
    }

    /// Hands on the next response of a type unless one is still being judged.
    fn pump(&mut self, index: usize) -> Option<Output> {
        let arrival = self.kinds[index].next_arrival()?;
        self.tickets += 1;
        Some(Output::Apply(self.kinds[index].offer(
            arrival,
            self.tickets,
            self.form,
        )))
    }
}
