//! File subscriptions: `path_config_source`, with or without `watched_directory`.
//!
//! The file holds a `DiscoveryResponse` and is read as one state-of-the-world response; the same machine as
//! on a stream finds what changed, so an update looks the same wherever it came from. Replacement is noticed
//! through the directory: an atomic rename or a symlink swap as Envoy does, and in-place writes besides. A
//! file that cannot be read or understood is reported and what it said before stays. Envoy:
//! `FilesystemSubscriptionImpl`.

mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use self::read::{Fingerprint, Found, Look, read};
use crate::client::{Command, Counters, Event, Handle, now, obey, tick};
use crate::subscriptions::{Form, Names, NodePolicy, Output, Purpose, Subscriptions};

const EVENTS: usize = 16;

/// A file to follow.
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// The file; its ending says the format: `.json`, `.yaml`, `.yml`, else protobuf as in `.pb`.
    pub path: PathBuf,
    /// Directory to watch instead of the file's own, where a symlink swap happens further up.
    pub watched_directory: Option<PathBuf>,
    /// The type of all resources in the file.
    pub type_url: String,
    /// Which of them are wanted; more can be subscribed later.
    pub names: Names,
}

/// A file that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be watched: {source}", directory.display())]
pub struct Unwatchable {
    directory: PathBuf,
    source: notify::Error,
}

/// A running file subscription; its events and orders are those of a [`Client`](crate::Client).
#[derive(Debug)]
pub struct FileSource {
    handle: Handle,
    events: mpsc::Receiver<Event>,
}

impl FileSource {
    /// Watches, reads the file once, and again whenever it changes. Uses `tokio::spawn`; the task ends with
    /// its handles.
    pub fn start(config: FileConfig) -> Result<Self, Unwatchable> {
        let (sender, changes) = mpsc::channel(1);
        let watcher = watch(&config, sender)?;
        let (handle, commands) = Handle::new();
        let (events, receiver) = mpsc::channel(EVENTS);
        let mut machine = Subscriptions::new(Form::Sotw, NodePolicy::FirstMessage);
        // A stream that never ends; what would be sent on it tells whether the file was good.
        let _first = machine.subscribe(&config.type_url, config.names);
        let _first = machine.on_connect();
        let task = Task {
            machine,
            path: config.path,
            type_url: config.type_url,
            last: None,
            reads: 0,
            complaint: String::new(),
            due: true,
            changes,
            commands,
            events,
            counters: Arc::clone(handle.counters()),
            _watcher: watcher,
        };
        tokio::spawn(task.run());
        Ok(Self {
            handle,
            events: receiver,
        })
    }

    /// A handle for orders and verdicts.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next event; `None` when the task has ended. May be cancelled.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// Watches the directory: the file itself is replaced, and a watch on it would follow the old one into
/// oblivion.
fn watch(config: &FileConfig, changes: mpsc::Sender<()>) -> Result<RecommendedWatcher, Unwatchable> {
    let directory = match (&config.watched_directory, config.path.parent()) {
        (Some(watched), _) => watched.as_path(),
        (None, Some(parent)) if !parent.as_os_str().is_empty() => parent,
        (None, _) => Path::new("."),
    };
    let unwatchable = |source| Unwatchable {
        directory: directory.to_owned(),
        source,
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| may_matter(event.kind)) {
            // One waiting wake-up is enough: the file is looked at when it is taken.
            let _ = changes.try_send(());
        }
    })
    .map_err(unwatchable)?;
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .map_err(unwatchable)?;
    Ok(watcher)
}

/// A move or swap in the directory, or the end of a write. Opening and reading do not count: reading the file
/// would then wake us for ever.
fn may_matter(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) => true,
        EventKind::Remove(_) | EventKind::Other => true,
    }
}

struct Task {
    machine: Subscriptions,
    path: PathBuf,
    type_url: String,
    /// What the file looked like when it was read last.
    last: Option<Fingerprint>,
    reads: u64,
    /// What was wrong with the file last; empty when nothing was.
    complaint: String,
    /// Whether the file should be read as soon as no verdict is out.
    due: bool,
    changes: mpsc::Receiver<()>,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
    _watcher: RecommendedWatcher,
}

impl Task {
    async fn run(mut self) {
        while self.turn().await.is_some() {}
    }

    async fn turn(&mut self) -> Option<()> {
        if self.due && self.machine.outstanding() == 0 {
            self.due = false;
            return self.look().await;
        }
        let outputs = tokio::select! {
            biased;
            command = self.commands.recv() => {
                let command = command?;
                // Names that were not wanted at the last reading may be in the file.
                if matches!(command, Command::Subscribe(..)) {
                    self.last = None;
                    self.due = true;
                }
                obey(&mut self.machine, command)
            }
            () = self.events.closed() => return None,
            change = self.changes.recv() => {
                change?;
                self.due = true;
                Vec::new()
            }
            () = tick(&self.machine) => self.machine.on_tick(now()),
        };
        self.deliver(outputs).await
    }

    /// Reads the file if it is another one than before.
    async fn look(&mut self) -> Option<()> {
        let path = self.path.clone();
        let before = self.last.clone();
        // Reading and parsing a large file must not hold up whatever else runs on this thread.
        let looked = tokio::task::spawn_blocking(move || read(&path, before.as_ref())).await;
        let reason = match looked {
            Ok(Ok(Look::Same(fingerprint))) => {
                self.last = Some(fingerprint);
                return Some(());
            }
            Ok(Ok(Look::New(found))) => match self.take(*found) {
                Ok(outputs) => {
                    self.complaint.clear();
                    return self.deliver(outputs).await;
                }
                Err(reason) => reason,
            },
            Ok(Err((fingerprint, reason))) => {
                self.last = fingerprint;
                reason
            }
            Err(ended) => ended.to_string(),
        };
        self.complain(format!("{}: {reason}", self.path.display())).await
    }

    /// Reports a file that cannot be used, once for as long as it stays so.
    async fn complain(&mut self, reason: String) -> Option<()> {
        if self.complaint == reason {
            return Some(());
        }
        tracing::warn!(%reason, "file subscription keeps its last good content");
        self.counters.connect_failures.fetch_add(1, Relaxed);
        self.complaint.clone_from(&reason);
        self.events.send(Event::Unreadable { reason }).await.ok()
    }

    fn take(&mut self, found: Found) -> Result<Vec<Output>, String> {
        let Found {
            fingerprint,
            mut response,
            ignored,
        } = found;
        self.last = Some(fingerprint);
        if ignored.count > 0 {
            let count = u64::try_from(ignored.count).unwrap_or(u64::MAX);
            self.counters.ignored_fields.fetch_add(count, Relaxed);
            tracing::warn!(path = %self.path.display(), fields = ?ignored.paths, "unknown fields are ignored");
        }
        if response.type_url.is_empty() {
            self.type_url.clone_into(&mut response.type_url);
        }
        if response.type_url != self.type_url {
            return Err(format!(
                "type_url: is {}, expected {}",
                response.type_url, self.type_url
            ));
        }
        self.reads += 1;
        response.nonce = self.reads.to_string();
        self.counters.responses.fetch_add(1, Relaxed);
        Ok(self.machine.on_response(response, now()))
    }

    async fn deliver(&self, outputs: Vec<Output>) -> Option<()> {
        for output in outputs {
            match output {
                Output::Apply(update) => self.events.send(Event::Update(update)).await.ok()?,
                Output::Send(request) => match request.purpose {
                    Purpose::Nack(reason) => {
                        tracing::warn!(path = %self.path.display(), %reason, "file update rejected");
                        self.counters.nacks.fetch_add(1, Relaxed);
                    }
                    Purpose::Ack => {
                        self.counters.acks.fetch_add(1, Relaxed);
                    }
                    Purpose::First | Purpose::Change => {}
                },
            }
        }
        Some(())
    }
}
