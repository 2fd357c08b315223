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

use crate::documents;

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
    let folder = dir.as_ref().to_path_buf();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns = |event: notify::Event| {
            is_change(event.kind) && event.paths.iter().any(|path| is_watched(path, &folder))
        };
        if event.map_or(true, concerns) {
            // Full: a signal is waiting already. Closed: the receiver is gone.
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

/// The files that are read, the folder itself, and the link by which Kubernetes swaps a mounted ConfigMap. Anything
/// else in the folder, a log perhaps, is not configuration.
fn is_watched(path: &Path, folder: &Path) -> bool {
    documents::is_read(path) || path == folder || path.file_name().is_some_and(|name| name == "..data")
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
        std::fs::write(dir.path().join("log.txt"), "not read").unwrap();
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
