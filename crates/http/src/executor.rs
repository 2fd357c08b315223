//! Tasks of hyper on the thread that they belong to.

use hyper::rt::Executor;
use tokio::task::spawn_local;

/// Spawns on this thread.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        // What a task answers is of no use to anybody.
        drop(spawn_local(async move {
            future.await;
        }));
    }
}
