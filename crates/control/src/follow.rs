//! Keeps a server's world equal to a folder, as long as the folder makes sense.

use std::path::Path;

use crate::finding::Faults;
use crate::options::Options;
use crate::serve::Server;
use crate::watch::Changes;
use crate::world::World;

/// Publishes the folder after every change until it can no longer be watched. A folder with a fault is told and
/// not published: the last good world stays.
pub async fn follow(
    changes: &mut Changes,
    dir: &Path,
    options: &Options,
    server: &Server,
    tell: impl Fn(&Result<World, Faults>),
) {
    while changes.next().await.is_some() {
        let world = World::with_options(dir, options);
        tell(&world);
        if let Ok(world) = world {
            server.publish(world);
        }
    }
}
