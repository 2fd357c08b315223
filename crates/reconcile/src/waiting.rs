//! What Redis clients wait for, as the admin page shows it.

use std::time::Duration;

use redplane_admin::{OldestView, WaitingClientView, WaitingView};
use redplane_proxy::{Oldest, Peers, WaitingClient, WaitsAt};

/// How long a worker may take to look. A turn takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// `/redis/waiting`
pub(crate) fn view(peers: &Peers) -> WaitingView {
    let answers = peers.waiting(PATIENCE);
    let mut view = WaitingView {
        workers: peers.count(),
        answered: answers.len(),
        left_out: answers.iter().map(|answer| answer.left_out).sum(),
        clients: Vec::new(),
    };
    let clients = answers.into_iter().flat_map(|answer| answer.clients);
    view.clients = clients.map(client).collect();
    let age = |client: &WaitingClientView| client.oldest.as_ref().map_or(0, |oldest| oldest.age_ms);
    view.clients.sort_by_key(|client| std::cmp::Reverse(age(client)));
    view
}

fn client(client: WaitingClient) -> WaitingClientView {
    WaitingClientView {
        worker: client.worker,
        id: client.id,
        address: client
            .remote
            .map_or_else(|| "unix".to_owned(), |remote| remote.to_string()),
        listener: client.listener.0,
        rests: client.rests,
        owed: client.owed,
        backlog: client.backlog,
        oldest: client.oldest.map(oldest),
    }
}

fn oldest(oldest: Oldest) -> OldestView {
    let (place, server) = match oldest.place {
        WaitsAt::Server {
            cluster,
            host,
            connection,
            connected,
            ahead,
        } => {
            let state = if connected { "" } else { ", which is not open yet" };
            let text = format!("at {host} of {cluster}, connection {connection}{state}, {ahead} before it");
            (text, Some((cluster, host, connection)))
        }
        WaitsAt::Name(name) => (format!("for the address of {name}"), None),
        WaitsAt::Again { host } => (format!("to be sent again to {host}"), None),
        WaitsAt::Fault => ("for an injected delay".to_owned(), None),
        WaitsAt::Proxy => ("in the proxy".to_owned(), None),
    };
    let (cluster, host, connection) = match server {
        Some((cluster, host, connection)) => (Some(cluster), Some(host), Some(connection)),
        None => (None, None, None),
    };
    OldestView {
        command: oldest.command,
        age_ms: u64::try_from(oldest.age.as_millis()).unwrap_or(u64::MAX),
        attempt: oldest.attempt,
        place,
        cluster,
        host,
        connection,
    }
}
