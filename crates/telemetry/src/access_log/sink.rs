//! Log files: a thread per file that collects lines and writes them together.
//!
//! The caller only puts a line into a bounded queue. When the disk is slow the queue fills and lines are dropped and
//! counted; a worker never waits for a disk. Lines are written whole, and several in one write. Envoy: `FileAccessLog`,
//! `--file-flush-interval-msec`, `--file-flush-min-size-kb`, `/reopen_logs`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::stats::filesystem;
use crate::{Block, Registry};

/// When lines are written out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At the latest so long after they came (`--file-flush-interval-msec`, 10 s).
    pub flush_interval: Duration,
    /// As soon as so many bytes wait (`--file-flush-min-size-kb`, 64 KiB).
    pub flush_size: usize,
    /// How many lines may wait before further ones are dropped.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_secs(10),
            flush_size: 64 * 1024,
            queue: 8192,
        }
    }
}

/// All log files of the process, one sink per path.
#[derive(Debug)]
pub struct Files {
    options: Options,
    registry: Registry,
    /// A std mutex: taken when a configuration is built and when logs are reopened, never per line.
    sinks: Mutex<HashMap<String, Weak<Sink>>>,
}

impl Files {
    /// No files yet. Writes are counted below `filesystem.`.
    pub fn new(registry: Registry, options: Options) -> Self {
        Self {
            options,
            registry,
            sinks: Mutex::default(),
        }
    }

    /// The sink of a path; the same path gives the same sink.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or no thread can be started.
    pub fn open(&self, path: &str) -> io::Result<Arc<Sink>> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = sinks.get(path).and_then(Weak::upgrade) {
            return Ok(sink);
        }
        let scope = self.registry.scope("filesystem.", &filesystem::SCHEMA);
        let sink = Arc::new(Sink::open(path, self.options, scope.block())?);
        sinks.retain(|_, sink| sink.strong_count() > 0);
        sinks.insert(path.to_owned(), Arc::downgrade(&sink));
        Ok(sink)
    }

    /// Opens every file anew, after a rotation moved the old one away (`POST /reopen_logs`, SIGUSR1).
    pub fn reopen(&self) {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks
            .values()
            .filter_map(Weak::upgrade)
            .for_each(|sink| sink.reopen());
    }

    /// Writes out what waits in every file, and waits for it; before the process ends.
    pub fn flush(&self) {
        let sinks: Vec<_> = {
            let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
            sinks.values().filter_map(Weak::upgrade).collect()
        };
        sinks.iter().for_each(|sink| sink.flush());
    }
}

/// One log file. When the last handle goes, what waits is written and the file is closed.
#[derive(Debug)]
pub struct Sink {
    queue: SyncSender<Message>,
    reopen: Arc<AtomicBool>,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

impl Sink {
    fn open(path: &str, options: Options, stats: Block) -> io::Result<Self> {
        let output = Output::open(path)?;
        let (queue, lines) = sync_channel(options.queue.max(1));
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            path: path.to_owned(),
            output,
            options,
            stats,
            reopen: Arc::clone(&reopen),
            waiting: Vec::new(),
            oldest: None,
        };
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&lines))?;
        Ok(Self {
            queue,
            reopen,
            dropped: AtomicU64::new(0),
        })
    }

    /// Hands a line over; it must bring its newline. Never blocks: a line that finds no room is dropped and counted.
    pub fn write(&self, line: String) {
        match self.queue.try_send(Message::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Relaxed);
            }
        }
    }

    /// How many lines found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }

    /// Waits until all lines so far are with the operating system.
    fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            // The writer answers or has ended; both end the wait.
            let _ = wait.recv();
        }
    }
}

/// Where lines end up.
enum Output {
    File(File),
    Stdout,
    Stderr,
}

impl Output {
    /// `/dev/stdout` cannot be opened when it is a socket or belongs to another user; the descriptor itself still works.
    fn open(path: &str) -> io::Result<Self> {
        match (OpenOptions::new().create(true).append(true).open(path), path) {
            (Ok(file), _) => Ok(Self::File(file)),
            (Err(_), "/dev/stdout") => Ok(Self::Stdout),
            (Err(_), "/dev/stderr") => Ok(Self::Stderr),
            (Err(error), _) => Err(error),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

struct Writer {
    path: String,
    output: Output,
    options: Options,
    stats: Block,
    reopen: Arc<AtomicBool>,
    waiting: Vec<u8>,
    /// When the oldest waiting line came.
    oldest: Option<Instant>,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Message>) {
        loop {
            let patience = self.oldest.map_or(self.options.flush_interval, |oldest| {
                self.options
                    .flush_interval
                    .saturating_sub(Instant::now().duration_since(oldest))
            });
            match lines.recv_timeout(patience) {
                Ok(Message::Line(line)) => self.take(&line),
                Ok(Message::Flush(done)) => {
                    self.write_out();
                    // The caller may have given up.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !self.waiting.is_empty() {
                        self.stats.inc(filesystem::FLUSHED_BY_TIMER);
                    }
                    self.write_out();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.write_out();
    }

    fn take(&mut self, line: &str) {
        self.stats.inc(filesystem::WRITE_BUFFERED);
        self.waiting.extend_from_slice(line.as_bytes());
        self.stats
            .set(filesystem::WRITE_TOTAL_BUFFERED, self.waiting.len() as u64);
        self.oldest.get_or_insert_with(Instant::now);
        if self.waiting.len() >= self.options.flush_size {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        if self.reopen.swap(false, Relaxed) {
            match Output::open(&self.path) {
                Ok(output) => self.output = output,
                Err(_) => self.stats.inc(filesystem::REOPEN_FAILED),
            }
        }
        if !self.waiting.is_empty() {
            let written = self.output.write(&self.waiting);
            self.stats.inc(if written.is_ok() {
                filesystem::WRITE_COMPLETED
            } else {
                filesystem::WRITE_FAILED
            });
        }
        self.waiting.clear();
        self.oldest = None;
        self.stats.set(filesystem::WRITE_TOTAL_BUFFERED, 0);
    }
}
