//! Asking one node, on a connection that is kept for the next time.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redplane_resp::value::Value;
use redplane_upstream::cluster::Cluster;
use redplane_upstream::host::Host;

use super::answer::{Answer, Replies};
use crate::session::{Session, within};

/// How a node did.
pub(super) struct NodeReply {
    pub(super) host: Arc<Host>,
    /// Still good for the next question.
    pub(super) session: Option<Session>,
    pub(super) outcome: Result<Answer, Silence>,
    /// A connection was made for it.
    pub(super) connected: bool,
    pub(super) took: Duration,
}

/// Why a node's answer counts for nothing.
#[derive(Debug)]
pub(super) enum Silence {
    Connect(io::Error),
    Broken(io::Error),
    Refused(String),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Broken(error) => write!(f, "no answer: {error}"),
            Self::Refused(reason) => write!(f, "unexpected response to CLUSTER SLOTS: {reason}"),
        }
    }
}

/// How much a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// `CLUSTER SLOTS`.
    Slots,
    /// And `CLUSTER SHARDS` and `CLUSTER NODES`: health and config epochs.
    All,
}

/// Asks a host for its view.
pub(super) async fn ask(
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    session: Option<Session>,
    extent: Extent,
    timeout: Duration,
) -> NodeReply {
    if let Some(mut session) = session {
        let start = Instant::now();
        match exchange(&mut session, extent, timeout).await {
            // A server closes idle connections; that says nothing about its health.
            Err(error) if error.kind() != io::ErrorKind::TimedOut => {}
            replies => return judged(host, session, replies, false, Instant::now() - start),
        }
    }
    let opened = Session::open(&cluster, &host).await;
    let mut session = match opened {
        Ok(session) => session,
        Err(error) => {
            let outcome = Err(Silence::Connect(error));
            return NodeReply {
                host,
                session: None,
                outcome,
                connected: false,
                took: Duration::ZERO,
            };
        }
    };
    let start = Instant::now();
    let replies = exchange(&mut session, extent, timeout).await;
    judged(host, session, replies, true, Instant::now() - start)
}

fn judged(
    host: Arc<Host>,
    session: Session,
    replies: io::Result<(Replies, InStep)>,
    connected: bool,
    took: Duration,
) -> NodeReply {
    let (in_step, outcome) = match replies {
        Err(error) => (InStep(false), Err(Silence::Broken(error))),
        Ok((replies, in_step)) => {
            let asked = host
                .address
                .ip()
                .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
            (in_step, Answer::read(&replies, asked).map_err(Silence::Refused))
        }
    };
    NodeReply {
        host,
        session: in_step.0.then_some(session),
        outcome,
        connected,
        took,
    }
}

/// Whether all replies came: a connection whose last reply did not come cannot be used again.
struct InStep(bool);

/// All commands in one write. Only the first reply is needed; a server that stalls on the others is taken as one that
/// does not know them.
async fn exchange(session: &mut Session, extent: Extent, timeout: Duration) -> io::Result<(Replies, InStep)> {
    let deadline = within(timeout);
    let commands: [&[&[u8]]; 3] = [
        &[b"CLUSTER", b"SLOTS"],
        &[b"CLUSTER", b"SHARDS"],
        &[b"CLUSTER", b"NODES"],
    ];
    let count = if extent == Extent::Slots {
        1
    } else {
        commands.len()
    };
    session.send(&commands[..count]).await?;
    let slots = session.reply(deadline).await?;
    if extent == Extent::Slots {
        let (shards, nodes) = (None, None);
        return Ok((Replies { slots, shards, nodes }, InStep(true)));
    }
    let shards = session.reply(deadline).await.ok();
    let nodes = match shards {
        Some(_) => session.reply(deadline).await.ok(),
        None => None,
    };
    let in_step = InStep(nodes.is_some());
    Ok((Replies { slots, shards, nodes }, in_step))
}

/// Asks a host for its availability zone (Valkey's `INFO`); empty when it does not say.
pub(super) async fn zone(cluster: &Cluster, host: &Host, timeout: Duration) -> io::Result<String> {
    let mut session = Session::open(cluster, host).await?;
    session.send(&[&[b"INFO"]]).await?;
    let reply = session.reply(within(timeout)).await?;
    Ok(zone_in(&reply))
}

fn zone_in(reply: &Value) -> String {
    let text = String::from_utf8_lossy(reply.text().unwrap_or_default());
    let zone = text
        .lines()
        .find_map(|line| line.strip_prefix("availability_zone:"));
    zone.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_a_line_of_info() {
        let info = |text: &str| zone_in(&Value::Bulk(Some(text.as_bytes().to_vec())));
        assert_eq!(
            info("# Server\r\nredis_version:7\r\navailability_zone:eu-1a\r\n"),
            "eu-1a"
        );
        assert_eq!(info("# Server\r\navailability_zone:\r\n"), "");
        assert_eq!(zone_in(&Value::Error(b"ERR".to_vec())), "");
    }
}
