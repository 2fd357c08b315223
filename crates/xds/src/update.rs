//! What travels between the client and the code that applies configuration.
//!
//! An [`Update`] goes out, exactly one [`Verdict`] with its ticket comes back. Both are plain data: nothing
//! here decides.

use redplane_proto::pb::google::protobuf::Any;

/// One resource that is new or whose content changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Name under which it is subscribed and removed.
    pub name: String,
    /// The server's version of this resource; empty from Istiod's delta, the response's version in
    /// state-of-the-world.
    pub version: String,
    /// The resource, byte for byte as received.
    pub body: Any,
}

/// A resource that was refused, and why. The reason travels to the control plane in the NACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Name of the resource; may be empty when it had none.
    pub name: String,
    /// Reason for people, with the path of the offending field where there is one.
    pub reason: String,
}

impl Rejected {
    /// A refusal of `name` because of `reason`.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
        }
    }
}

/// What one response changes. Also sent when it changes nothing, because an empty response is a successful
/// update.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Unique per machine; the verdict names it.
    pub ticket: u64,
    /// Type of every resource in it.
    pub type_url: String,
    /// `system_version_info` (delta) or `version_info` (state-of-the-world) of the response.
    pub version: String,
    /// Nonce of the response; empty when none will be answered (a file, or resources whose TTL ended).
    pub nonce: String,
    /// New and changed resources.
    pub resources: Vec<Resource>,
    /// Names that are gone. May hold names that the receiver never had.
    pub removed: Vec<String>,
    /// Refused before they got here: two of one name, no name, no body, wrong type. Already part of the NACK.
    pub refused: Vec<Rejected>,
    /// Per-resource errors that the control plane reports (`resource_errors`); the last good resource stays.
    pub errors: Vec<Rejected>,
    /// How many resources of the response were skipped because their content is the one already accepted.
    pub unchanged: usize,
    /// How many resources of the response were not subscribed to; they are dropped.
    pub unrequested: usize,
    /// `control_plane.identifier` of the response, empty when absent.
    pub control_plane: String,
}

/// The answer to an [`Update`]: all of it is good, or these resources are not while the others are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Ticket of the update.
    pub ticket: u64,
    /// Refused resources. Empty means ACK.
    pub rejected: Vec<Rejected>,
}

impl Verdict {
    /// Everything in the update is applied.
    pub fn accept(update: &Update) -> Self {
        Self {
            ticket: update.ticket,
            rejected: Vec::new(),
        }
    }

    /// These resources are refused, the rest of the update is applied.
    pub fn reject(update: &Update, rejected: Vec<Rejected>) -> Self {
        Self {
            ticket: update.ticket,
            rejected,
        }
    }
}
