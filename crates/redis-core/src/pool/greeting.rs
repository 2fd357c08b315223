//! What the connections of a pool begin with: protocol, login, database and tracking are matters of a connection, so each
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

/// A login that clients brought, by its number; 0 is none of a client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoginId(pub u32);

impl LoginId {
    /// The cluster's own login, or none at all.
    pub const NONE: Self = Self(0);
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
    /// And whose commands servers take them for.
    pub login: LoginId,
}

impl Greeting {
    /// The same for a cluster whose replies nobody reads: without tracking, and without a client's login.
    pub fn for_mirrors(self) -> Self {
        Self {
            tracking: Tracking::Off,
            login: LoginId::NONE,
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
            login: LoginId::NONE,
        }
    }
}
