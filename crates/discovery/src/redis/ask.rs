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

/// Asks a host for its view.
pub(super) async fn ask(
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    session: Option<Session>,
    timeout: Duration,
) -> NodeReply {
    if let Some(mut session) = session {
        let start = Instant::now();
        match exchange(&mut session, timeout).await {
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
    let replies = exchange(&mut session, timeout).await;
    judged(host, session, replies, true, Instant::now() - start)
}

fn judged(
    host: Arc<Host>,
    session: Session,
    replies: io::Result<Replies>,
    connected: bool,
    took: Duration,
) -> NodeReply {
    let (whole, outcome) = match replies {
        Err(error) => (false, Err(Silence::Broken(error))),
        Ok(replies) => {
            let asked = host
                .address
                .ip()
                .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
            (
                replies.nodes.is_some(),
                Answer::read(&replies, asked).map_err(Silence::Refused),
            )
        }
    };
    // A connection whose last reply did not come is out of step.
    NodeReply {
        host,
        session: whole.then_some(session),
        outcome,
        connected,
        took,
    }
}

/// All questions in one write. Only the first answer is needed; a server that stalls on the others is taken as one
/// that does not know them.
async fn exchange(session: &mut Session, timeout: Duration) -> io::Result<Replies> {
    let deadline = within(timeout);
    let commands: [&[&[u8]]; 3] = [
        &[b"CLUSTER", b"SLOTS"],
        &[b"CLUSTER", b"SHARDS"],
        &[b"CLUSTER", b"NODES"],
    ];
    session.send(&commands).await?;
    let slots = session.reply(deadline).await?;
    let shards = session.reply(deadline).await.ok();
    let nodes = match shards {
        Some(_) => session.reply(deadline).await.ok(),
        None => None,
    };
    Ok(Replies { slots, shards, nodes })
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
