//! Questions to Sentinels and to the master they name, on connections that are kept for the next time.
//!
//! Sentinels have credentials of their own; the master is asked with those of the cluster.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redplane_config::cluster::SentinelCluster;
use redplane_upstream::cluster::Cluster;
use redplane_upstream::host::Host;

use super::answer::{Answer, Replies, is_master};
use crate::session::{Session, login, within};

/// A Sentinel and what it answered.
pub(super) struct SentinelReply {
    pub(super) sentinel: Arc<Host>,
    /// Still good for the next question.
    pub(super) session: Option<Session>,
    pub(super) outcome: Result<Answer, String>,
}

/// Asks a Sentinel about the master.
pub(super) async fn ask(
    cluster: Arc<Cluster>,
    settings: Arc<SentinelCluster>,
    sentinel: Arc<Host>,
    session: Option<Session>,
) -> SentinelReply {
    if let Some(mut session) = session
        && let Ok(replies) = exchange(&mut session, &settings).await
    {
        let outcome = Answer::read(&replies);
        return SentinelReply {
            sentinel,
            session: Some(session),
            outcome,
        };
    }
    let fresh = async {
        let mut session = open(&cluster, &settings, &sentinel).await?;
        let replies = exchange(&mut session, &settings).await?;
        Ok::<_, io::Error>((session, replies))
    };
    let (session, outcome) = match fresh.await {
        Ok((session, replies)) => (Some(session), Answer::read(&replies)),
        Err(error) => (None, Err(error.to_string())),
    };
    SentinelReply {
        sentinel,
        session,
        outcome,
    }
}

/// A connection to a Sentinel.
pub(super) async fn open(
    cluster: &Cluster,
    settings: &SentinelCluster,
    sentinel: &Host,
) -> io::Result<Session> {
    Session::open_as(cluster, sentinel, login(&settings.username, &settings.password)).await
}

/// All questions in one write.
async fn exchange(session: &mut Session, settings: &SentinelCluster) -> io::Result<Replies> {
    let deadline = within(settings.refresh_timeout);
    let name = settings.master_name.as_bytes();
    let commands: [&[&[u8]]; 4] = [
        &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name],
        &[b"SENTINEL", b"MASTER", name],
        &[b"SENTINEL", b"REPLICAS", name],
        &[b"SENTINEL", b"SENTINELS", name],
    ];
    session.send(&commands).await?;
    Ok(Replies {
        address: session.reply(deadline).await?,
        master: session.reply(deadline).await?,
        replicas: session.reply(deadline).await?,
        sentinels: session.reply(deadline).await?,
    })
}

/// Asks a server for its role, on `kept` if that still works. `None`: it did not say.
pub(super) async fn role(
    cluster: &Cluster,
    server: &Host,
    kept: Option<Session>,
    timeout: Duration,
) -> (Option<Session>, io::Result<Option<bool>>) {
    if let Some(mut session) = kept
        && let Ok(role) = ask_role(&mut session, timeout).await
    {
        return (Some(session), Ok(role));
    }
    let mut session = match Session::open(cluster, server).await {
        Ok(session) => session,
        Err(error) => return (None, Err(error)),
    };
    match ask_role(&mut session, timeout).await {
        Ok(role) => (Some(session), Ok(role)),
        Err(error) => (None, Err(error)),
    }
}

async fn ask_role(session: &mut Session, timeout: Duration) -> io::Result<Option<bool>> {
    session.send(&[&[b"ROLE"]]).await?;
    Ok(is_master(&session.reply(within(timeout)).await?))
}
