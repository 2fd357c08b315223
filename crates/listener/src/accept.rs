//! The accept loop of one socket on one worker.

use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::Socket;
use tokio::task::spawn_local;

use crate::connection;
use crate::descriptor::watch;
use crate::worker::{Active, Worker};

/// How long to wait when the process or the machine has no room for another connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts until the socket no longer listens or the listener is gone.
pub(crate) async fn run(worker: Rc<Worker>, active: Weak<Active>, socket: Arc<Socket>) {
    let socket = match watch(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "cannot watch a listening socket"),
    };
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        let Some(active) = active.upgrade() else {
            return;
        };
        let (accepted, ended) = drain_queue(&worker, &active, ready.get_inner());
        if accepted > 0 {
            worker.accepted(&active, accepted);
        }
        match ended {
            // A Unix socket that was shut down says "would block" for ever.
            Ended::Empty if ready.ready().is_read_closed() => return,
            Ended::Empty => ready.clear_ready(),
            Ended::Full => tokio::task::yield_now().await,
            Ended::NoRoom => tokio::time::sleep(BACK_OFF).await,
            Ended::Closed => return,
        }
    }
}

/// Why a run of accepts ended.
enum Ended {
    /// Nobody waits.
    Empty,
    /// Others may have a turn.
    Full,
    /// Descriptors or memory ran out.
    NoRoom,
    /// The socket no longer listens.
    Closed,
}

/// So many connections before others have a turn.
const MOST: u64 = 32;

fn drain_queue(worker: &Rc<Worker>, active: &Rc<Active>, socket: &Socket) -> (u64, Ended) {
    let mut accepted = 0;
    while accepted < MOST {
        match socket.accept() {
            Ok((socket, _)) => {
                accepted += 1;
                spawn_local(connection::serve(Rc::clone(worker), Rc::clone(active), socket));
            }
            Err(error) => match fate(&error) {
                Some(ended) => return (accepted, ended),
                None => continue,
            },
        }
    }
    (accepted, Ended::Full)
}

/// `None` is a client that went away while it waited: the next one may be fine.
fn fate(error: &io::Error) -> Option<Ended> {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Some(Ended::Empty);
    }
    match Errno::from_io_error(error) {
        Some(Errno::NOMEM | Errno::NFILE | Errno::MFILE | Errno::NOBUFS) => {
            tracing::warn!(%error, "cannot accept connections");
            Some(Ended::NoRoom)
        }
        Some(Errno::BADF | Errno::INVAL) => Some(Ended::Closed),
        _ => None,
    }
}
