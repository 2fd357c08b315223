//! `/redis/waiting`: why a reply is late. Which Redis clients wait, why their input rests, and where the oldest of what
//! they are owed is. Ours: Envoy has no such page.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::reply::Reply;
use crate::request::Request;
use crate::{Sources, WaitingClientView, WaitingView};

/// The page.
pub(crate) fn page(sources: &Sources, request: &Request) -> Reply {
    let waiting = (sources.views.waiting)();
    if request.params.first("format") == Some("json") {
        return Reply::json(&json!({
            "clients": waiting.clients.iter().map(client_json).collect::<Vec<Value>>(),
            "clients_left_out": waiting.left_out,
            "workers_asked": waiting.workers,
            "workers_answered": waiting.answered,
        }));
    }
    Reply::text(text(&waiting))
}

fn text(waiting: &WaitingView) -> String {
    let mut page = String::new();
    for client in &waiting.clients {
        // Writing into a String cannot fail.
        let _ = write!(
            page,
            "worker {} client {} {} {}: owed {}, backlog {} bytes",
            client.worker, client.id, client.address, client.listener, client.owed, client.backlog
        );
        if !client.rests.is_empty() {
            let _ = write!(page, ", rests: {}", client.rests.join(" "));
        }
        if let Some(oldest) = &client.oldest {
            let _ = write!(
                page,
                "; oldest: {} for {} ms, attempt {}, {}",
                oldest.command, oldest.age_ms, oldest.attempt, oldest.place
            );
        }
        page.push('\n');
    }
    if waiting.left_out > 0 {
        let _ = writeln!(page, "and {} more", waiting.left_out);
    }
    if waiting.answered < waiting.workers {
        let _ = writeln!(
            page,
            "{} of {} workers answered",
            waiting.answered, waiting.workers
        );
    }
    page
}

fn client_json(client: &WaitingClientView) -> Value {
    let oldest = client.oldest.as_ref().map(|oldest| {
        json!({
            "command": oldest.command,
            "age_ms": oldest.age_ms,
            "attempt": oldest.attempt,
            "place": oldest.place,
            "cluster": oldest.cluster,
            "host": oldest.host,
            "connection": oldest.connection,
        })
    });
    json!({
        "worker": client.worker,
        "id": client.id,
        "address": client.address,
        "listener": client.listener,
        "rests": client.rests,
        "owed": client.owed,
        "backlog_bytes": client.backlog,
        "oldest": oldest,
    })
}
