//! Tells when a folder has changed and come to rest.
//!
//! Editors write in several steps (a copy, a rename, a second write); a change is told once, after the folder was
//! quiet for a moment, or after a second at the latest.

use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

const QUIET: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(1);

/// The changes of one folder. Dropping it ends the watch.
#[derive(Debug)]
pub struct Changes {
    events: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

/// Watches a folder, not its sub-folders. Fails when the folder is not there or the system has no watch to spare.
pub fn watch(dir: impl AsRef<Path>) -> notify::Result<Changes> {
    // One waiting signal says everything that more would say.
    let (signal, events) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // Full: a signal is waiting already. Closed: nobody listens any more.
            let _ = signal.try_send(());
        }
    })?;
    watcher.watch(dir.as_ref(), RecursiveMode::NonRecursive)?;
    Ok(Changes {
        events,
        _watcher: watcher,
    })
}

/// Reading the folder must not look like a change to it.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

impl Changes {
    /// Waits for the next change. `None` when the folder cannot be watched any longer.
    pub async fn next(&mut self) -> Option<()> {
        self.events.recv().await?;
        let latest = Instant::now() + LATEST;
        while let Ok(Ok(Some(()))) = timeout_at(latest, timeout(QUIET, self.events.recv())).await {}
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_once_and_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = watch(dir.path()).unwrap();
        std::fs::write(dir.path().join("a.yaml"), "one").unwrap();
        std::fs::write(dir.path().join("b.yaml"), "two").unwrap();
        changes.next().await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("a.yaml")).unwrap(), "one");
        let more = timeout(Duration::from_millis(200), changes.next()).await;
        assert!(more.is_err(), "a read, or a second signal for one change");
        std::fs::rename(dir.path().join("a.yaml"), dir.path().join("c.yaml")).unwrap();
        timeout(Duration::from_secs(5), changes.next())
            .await
            .unwrap()
            .unwrap();
    }
}
