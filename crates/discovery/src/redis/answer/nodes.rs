//! `CLUSTER NODES`: one line for each node, with its flags and config epoch.
//!
//! `<id> <ip:port@bus[,hostname[,...]]> <flags> <primary> <ping> <pong> <epoch> <link> <slot> ...`

use std::collections::HashMap;
use std::net::IpAddr;

use redplane_config::endpoint::Health;

/// What gossip tells of the nodes, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gossip {
    /// Nodes by id.
    pub nodes: HashMap<String, Seen>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `fail` is unhealthy, `fail?` (not agreed upon yet) degraded.
    pub health: Health,
    /// Config epoch; a replica shows its primary's.
    pub epoch: u64,
    /// Where it is, if known.
    pub ip: Option<IpAddr>,
    /// Announced name; may be empty.
    pub hostname: String,
    /// It serves slots.
    pub serves: bool,
}

impl Gossip {
    /// Reads the text; lines that make no sense are left out.
    pub fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        Self {
            nodes: text.lines().filter_map(line).collect(),
        }
    }

    /// Whether most primaries with slots look alive. A node in a minority partition sees the others fail.
    pub fn quorum(&self) -> bool {
        let primaries = self.nodes.values().filter(|node| node.serves);
        let alive = primaries
            .clone()
            .filter(|node| node.health == Health::Healthy)
            .count();
        self.nodes.is_empty() || 2 * alive > primaries.count()
    }
}

fn line(line: &str) -> Option<(String, Seen)> {
    let mut words = line.split_ascii_whitespace();
    let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
    let epoch = words.nth(3)?.parse().ok()?;
    // After the link's state come slots; those in brackets are on their way.
    let serves = words.skip(1).any(|slot| !slot.starts_with('['));
    let has = |wanted: &str| flags.split(',').any(|flag| flag == wanted);
    let health = match () {
        () if has("fail") || has("noaddr") => Health::Unhealthy,
        () if has("fail?") || has("handshake") => Health::Degraded,
        () => Health::Healthy,
    };
    let (place, names) = address.split_once(',').unwrap_or((address, ""));
    let ip = place
        .split('@')
        .next()?
        .rsplit_once(':')?
        .0
        .trim_matches(['[', ']']);
    let hostname = names
        .split(',')
        .next()
        .filter(|name| !name.contains('='))
        .unwrap_or_default();
    let seen = Seen {
        health,
        epoch,
        ip: ip.parse().ok(),
        hostname: hostname.to_owned(),
        serves,
    };
    Some((id.to_owned(), seen))
}
