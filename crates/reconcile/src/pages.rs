//! What the admin interface asks for, and the owners that answer it.

use std::sync::{Arc, PoisonError};

use redplane_admin::{Levels, Order, ServerView, Sources, Views};
use redplane_config::matcher::StringMatcher;
use tokio::sync::mpsc;

use crate::world::World;
use crate::{dump, views, waiting};

/// The admin interface's view of the world; no `allowed` paths allow all.
pub fn sources(
    world: &Arc<World>,
    allowed: Vec<StringMatcher>,
    levels: Levels,
    orders: mpsc::Sender<Order>,
) -> Sources {
    fn look<T>(
        world: &Arc<World>,
        look: impl Fn(&World) -> T + Send + Sync + 'static,
    ) -> Box<dyn Fn() -> T + Send + Sync> {
        let world = Arc::clone(world);
        Box::new(move || look(&world))
    }
    Sources {
        registry: world.registry.clone(),
        refresh: look(world, |world| {
            world.server.refresh(world.uptime(), views::connections(world));
        }),
        views: Views {
            clusters: look(world, views::clusters),
            listeners: look(world, views::listeners),
            config: look(world, dump::config),
            server: look(world, |world| ServerView {
                version: world.about.version.clone(),
                state: world.state(),
                uptime: world.uptime(),
                command_line_options: world.about.options.clone(),
                node: world.about.node.clone(),
            }),
            certificates: look(world, views::certificates),
            runtime: look(world, |world| {
                world
                    .runtime
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            }),
            init: look(world, views::init),
            waiting: look(world, |world| waiting::view(&world.peers)),
        },
        levels,
        allows: Box::new(move |path| {
            let mut paths = allowed.iter();
            allowed.is_empty() || paths.any(|matcher| matcher.matches(path.as_bytes()))
        }),
        orders,
    }
}
