//! What the connections of a pool begin with: protocol, database and tracking are matters of a connection, so each
//! choice of them has connections of its own.

use redplane_config::redis_proxy::Protocol;

/// What a connection asks its server to tell it: a part of its greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// Nothing.
    #[default]
    Off,
    /// Changes of keys that were read through it.
    Keys,
    /// Changes of all keys.
    Broadcast,
}

/// What connections of a pool begin with. A filter has a variant for each greeting that its clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Replies cannot be translated by their type alone, so each protocol has connections of its own.
    pub protocol: Protocol,
    /// And so has each database: which one is a matter of the connection.
    pub database: u32,
    /// And what servers are asked to tell: they do so on the connection that asked.
    pub tracking: Tracking,
}

impl Greeting {
    /// The same without tracking.
    pub fn untracked(self) -> Self {
        Self {
            tracking: Tracking::Off,
            ..self
        }
    }
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            protocol: Protocol::Resp2,
            database: 0,
            tracking: Tracking::Off,
        }
    }
}
