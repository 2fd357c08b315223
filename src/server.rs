//! The process at work: the control thread, its workers, and the order in which they start and end.
//!
//! 1. Workers, without listeners. 2. The admin interface. 3. What the bootstrap configures. 4. The control plane.
//!
//! From then on one loop takes events, orders and signals until it is told to end.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redplane_admin::{Action, Level, Levels, Order};
use redplane_config::Address;
use redplane_listener::{Workers, redis};
use redplane_reconcile::{Bootstrap, Feeds, Parts, Reconcile, World, sources};
use redplane_telemetry::Registry;
use redplane_telemetry::access_log::{Files, Options};
use redplane_upstream::{Context, Dns};
use redplane_world::Store;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::concurrency;
use crate::flags::{Flags, Mode};
use crate::logging::Log;
use crate::version;

/// Events and orders that may wait for the control thread.
const QUEUE: usize = 64;

/// How long the answer to `/quitquitquit` may take to leave.
const FAREWELL: Duration = Duration::from_millis(50);

/// Serves until a signal or an order ends it.
///
/// # Errors
/// One line: what could not be started and why.
pub(crate) fn run(flags: &Flags, bootstrap: Bootstrap, log: &Log) -> Result<(), String> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    let result = runtime.block_on(serve(flags, bootstrap, log, started));
    // Pages that are still being made are not waited for.
    runtime.shutdown_background();
    result
}

async fn serve(flags: &Flags, bootstrap: Bootstrap, log: &Log, started: Instant) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot take signals: {error}"))?;
    let admin = bind_admin(flags, &bootstrap).await?;
    let registry = Registry::new();
    registry.configure(bootstrap.stats.clone());
    let files = Arc::new(Files::new(registry.clone(), access_logs(flags)));
    let world = Arc::new(start_world(flags, &bootstrap, &registry, &files, started)?);
    world.show_bootstrap(&bootstrap);
    let (orders, mut ordered) = mpsc::channel(QUEUE);
    if let Some(listener) = admin {
        let sources = Arc::new(sources(
            &world,
            bootstrap.config.admin_paths.clone(),
            levels(flags, log),
            orders,
        ));
        tokio::spawn(async move {
            let Err(error) = redplane_admin::serve(listener, sources).await;
            tracing::error!(%error, "the admin interface has ended");
        });
    } else {
        levels(flags, log);
    }
    let (queue, mut incoming) = mpsc::channel(QUEUE);
    let zone = bootstrap.config.node.zone.clone();
    let mut context = Context::new(registry.clone(), Dns::system(), zone);
    context.secrets = world.secrets().clone();
    let mut reconcile = Reconcile::new(Arc::clone(&world), context, Feeds::new(queue), &bootstrap);
    reconcile.start(&bootstrap)?;
    if flags.mode == Mode::InitOnly {
        return Ok(());
    }
    let mut flush = tokio::time::interval(bootstrap.config.stats_flush_interval);
    drop(bootstrap);
    let mut quit = None;
    loop {
        let due = reconcile.due().map(tokio::time::Instant::from_std);
        tokio::select! {
            Some(event) = incoming.recv() => reconcile.take(event)?,
            Some(order) = ordered.recv() => quit = obey(&world, &files, log, order).or(quit),
            ended = signals.next(log, &files) => {
                if ended {
                    break;
                }
            }
            () = at(due) => reconcile.expire()?,
            _ = flush.tick() => registry.tick(),
            () = at(quit) => break,
        }
    }
    tracing::info!("exiting");
    world.workers().stop();
    files.flush();
    Ok(())
}

async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => pending().await,
    }
}

/// Opens the admin address, before anything else costs time.
async fn bind_admin(flags: &Flags, bootstrap: &Bootstrap) -> Result<Option<TcpListener>, String> {
    let address = match &bootstrap.config.admin {
        None => return Ok(None),
        Some(Address::Ip(address)) => *address,
        Some(other) => return Err(format!("admin.address: '{other}': only IP addresses are served")),
    };
    let refuse = |error: std::io::Error| format!("admin.address: cannot bind '{address}': {error}");
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    if let Some(path) = &flags.admin_address_path {
        let bound: SocketAddr = listener.local_addr().map_err(refuse)?;
        std::fs::write(path, bound.to_string())
            .map_err(|error| format!("--admin-address-path: {}: {error}", path.display()))?;
    }
    Ok(Some(listener))
}

fn access_logs(flags: &Flags) -> Options {
    Options {
        flush_interval: Duration::from_millis(flags.file_flush_interval_msec.max(1)),
        flush_size: flags.file_flush_min_size_kb.saturating_mul(1024),
        ..Options::default()
    }
}

fn start_world(
    flags: &Flags,
    bootstrap: &Bootstrap,
    registry: &Registry,
    files: &Arc<Files>,
    started: Instant,
) -> Result<World, String> {
    let count = flags.concurrency.unwrap_or_else(concurrency::default).max(1);
    let store = Store::new();
    let peers = redplane_proxy::Peers::new(count, open_files());
    let context = redplane_listener::Context {
        store: store.clone(),
        registry: registry.clone(),
        files: Arc::clone(files),
        make_driver: make_driver(&store, registry, &bootstrap.config.node.zone, &peers),
    };
    let workers =
        Workers::start(count, context).map_err(|error| format!("cannot start the workers: {error}"))?;
    Ok(World::new(Parts {
        registry: registry.clone(),
        store,
        workers,
        peers,
        drain_time: flags.drain_time(),
        options: flags.options(count),
        node: bootstrap.node.clone(),
        version: version(),
        runtime: bootstrap.runtime.clone(),
        started,
    }))
}

fn make_driver(
    store: &Store,
    registry: &Registry,
    zone: &str,
    peers: &Arc<redplane_proxy::Peers>,
) -> redplane_listener::MakeDriver {
    let peers = Arc::clone(peers);
    let (store, registry, zone) = (Arc::new(store.clone()), registry.clone(), Arc::<str>::from(zone));
    let scripts = Arc::<redplane_proxy::Scripts>::default();
    Arc::new(move |worker| {
        let context = redplane_proxy::Context {
            store: Arc::clone(&store),
            registry: registry.clone(),
            zone: Arc::clone(&zone),
            seed: fastrand::u64(..),
            peers: Arc::clone(&peers),
            worker,
            scripts: Arc::clone(&scripts),
        };
        // A resolver of its own: its sockets belong to the worker's runtime.
        redis::start(context, Dns::system())
    })
}

/// How many descriptors the process may have; nothing else bounds the number of clients.
fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The levels that the flags ask for, and the way to change them.
fn levels(flags: &Flags, log: &Log) -> Levels {
    let applied = log.clone();
    let levels = Levels::new(
        flags.log_level,
        Box::new(move |levels: &[(&'static str, Level)]| applied.set_levels(levels)),
    );
    let components: Vec<(&str, Level)> = flags.component_log_level.to_vec();
    levels.set(&components);
    levels
}

/// Does what an admin page asks for; answers when to end, if that was asked.
fn obey(world: &World, files: &Files, log: &Log, order: Order) -> Option<tokio::time::Instant> {
    let mut quit = None;
    match order.action {
        Action::DrainListeners {
            inbound_only,
            graceful,
            skip_exit,
        } => {
            tracing::info!(inbound_only, graceful, skip_exit, "draining listeners");
            world.drain(inbound_only, graceful, skip_exit);
        }
        Action::FailHealthCheck => world.set_failing(true),
        Action::PassHealthCheck => world.set_failing(false),
        Action::ReopenLogs => reopen(log, files),
        Action::ModifyRuntime(pairs) => world.modify_runtime(pairs),
        Action::Quit => quit = Some(tokio::time::Instant::now() + FAREWELL),
    }
    // A client that has gone does not wait for it.
    let _ = order.done.send(());
    quit
}

fn reopen(log: &Log, files: &Files) {
    log.reopen();
    files.reopen();
}

/// The signals that Envoy knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one; true when it asks us to end.
    async fn next(&mut self, log: &Log, files: &Files) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => {
                tracing::info!("caught SIGTERM");
                true
            }
            _ = self.interrupt.recv() => {
                tracing::info!("caught SIGINT");
                true
            }
            _ = self.reopen.recv() => {
                reopen(log, files);
                false
            }
            // Envoy: caught so that it does not end the process.
            _ = self.hangup.recv() => false,
        }
    }
}
