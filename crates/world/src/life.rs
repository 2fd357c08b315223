//! How long the connections of a filter chain may go on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The life of a chain, handed on from version to version for as long as its connections may go on under the next one.
#[derive(Debug)]
pub struct Life {
    /// Unique in the process.
    pub number: u64,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// The chain is gone, or has become another one: connections end at their next quiet point.
    Draining,
    /// Those that are left have to end now.
    Over,
}

impl Life {
    /// A chain that serves.
    pub(crate) fn begin() -> Self {
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            stage: watch::Sender::new(Stage::Serving),
        }
    }

    /// Connections are to end at their next quiet point.
    pub fn drain(&self) {
        self.advance(Stage::Draining);
    }

    /// The connections that are left are to end.
    pub fn end(&self) {
        self.advance(Stage::Over);
    }

    /// Whether connections are to end.
    pub fn is_draining(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    /// Whether connections have to end now.
    pub fn is_over(&self) -> bool {
        *self.stage.borrow() == Stage::Over
    }

    /// Waits until connections are to end at their next quiet point.
    pub async fn draining(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Waits until connections have to end.
    pub async fn over(&self) {
        self.reached(Stage::Over).await;
    }

    async fn reached(&self, wanted: Stage) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.stage.subscribe().wait_for(|stage| *stage >= wanted).await;
    }

    fn advance(&self, next: Stage) {
        self.stage.send_if_modified(|stage| {
            let grows = next > *stage;
            if grows {
                *stage = next;
            }
            grows
        });
    }
}
