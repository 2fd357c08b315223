//! Requests and responses in the neutral form, between the machine and the wire.
//!
//! Plain data. What a field is called in delta and in state-of-the-world is known to `wire` only.

use std::collections::BTreeMap;
use std::time::Duration;

use redplane_proto::pb::google::protobuf::Any;

use crate::update::{Rejected, Update};

/// What the machine wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this on the stream.
    Send(Request),
    /// Hand this to the one who applies configuration; a verdict must come back.
    Apply(Update),
}

/// A request of either form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type it is about.
    pub type_url: String,
    /// Whether the node goes along.
    pub node: bool,
    /// Nonce that is answered; empty makes it spontaneous.
    pub nonce: String,
    /// Why it is sent.
    pub purpose: Purpose,
    /// What differs between the forms.
    pub body: Body,
}

/// Why a request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The first of its type on a stream.
    First,
    /// Names were added or taken back.
    Change,
    /// Everything in a response is applied.
    Ack,
    /// Not everything is; the text becomes `error_detail`.
    Nack(String),
}

/// The part of a request that differs between the forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Delta: changes only.
    Delta {
        /// Names asked for; empty in the first request of a type means all.
        subscribe: Vec<String>,
        /// Names no longer wanted.
        unsubscribe: Vec<String>,
        /// Names held from an earlier stream with their versions; only in the first request of a type.
        initial_versions: BTreeMap<String, String>,
    },
    /// State of the world: everything, each time.
    Sotw {
        /// Last accepted version.
        version: String,
        /// All names; empty means all resources for CDS and LDS.
        names: Vec<String>,
    },
}

/// A response of either form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// The type it is about.
    pub type_url: String,
    /// `system_version_info` or `version_info`.
    pub version: String,
    /// Nonce to answer.
    pub nonce: String,
    /// Resources in the order received.
    pub resources: Vec<Arrived>,
    /// Names removed by the server (delta only).
    pub removed: Vec<String>,
    /// Errors of single resources that the server reports.
    pub errors: Vec<Rejected>,
    /// `control_plane.identifier`.
    pub control_plane: String,
}

/// A resource as it arrived, before anything is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Absent when none could be read.
    pub name: Option<String>,
    /// The server's version of it.
    pub version: String,
    /// Absent in a heartbeat that only renews the TTL.
    pub body: Option<Any>,
    /// Time after which it is removed unless renewed.
    pub ttl: Option<Duration>,
}
