//! The task behind a client: connect, converse, pause, and again.
//!
//! Commands are carried out in every phase. A function returns `None` when the client's handle is gone.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Command, Config, Counters, Event};
use crate::backoff::Backoff;
use crate::subscriptions::{Output, Purpose, Request, Subscriptions};
use crate::transport::{Endpoint, Outgoing, Stream, Target};

pub(super) struct Task {
    event_loop: EventLoop,
    target: Target,
    endpoints: Vec<Endpoint>,
    next_endpoint: usize,
    backoff: Backoff,
    counters: Arc<Counters>,
}

/// What goes on without a stream as well: commands come in, TTLs end, events go out.
struct EventLoop {
    machine: Subscriptions,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::Sender<Event>,
}

impl Task {
    pub(super) fn new(
        config: &Config,
        target: Target,
        commands: mpsc::UnboundedReceiver<Command>,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        Self {
            event_loop: EventLoop {
                machine: Subscriptions::new(config.form, config.node_policy),
                commands,
                events,
            },
            target,
            endpoints: config.endpoints.clone(),
            next_endpoint: random.usize(..config.endpoints.len()),
            backoff: Backoff::new(config.backoff_base, config.backoff_cap, random.u64(..)),
            counters,
        }
    }

    pub(super) async fn run(mut self) {
        while self.live_once().await.is_some() {}
    }

    /// One attempt, the stream that may come of it, and the pause after it.
    async fn live_once(&mut self) -> Option<()> {
        let endpoint = self.endpoints[self.next_endpoint].clone();
        self.next_endpoint = (self.next_endpoint + 1) % self.endpoints.len();
        let (reason, established) = match self.event_loop.meanwhile(self.target.open(&endpoint)).await? {
            Err(reason) => {
                self.counters.connect_failures.fetch_add(1, Relaxed);
                (reason, false)
            }
            Ok((outgoing, stream)) => {
                self.counters.connects.fetch_add(1, Relaxed);
                self.counters.connected.store(true, Relaxed);
                self.tell(Event::Connected {
                    endpoint: endpoint.to_string(),
                })
                .await?;
                tracing::info!(%endpoint, "xDS stream open");
                let reason = self.converse(outgoing, stream).await;
                self.counters.connected.store(false, Relaxed);
                self.counters.disconnects.fetch_add(1, Relaxed);
                (reason?, true)
            }
        };
        let retry_in = self.backoff.pause();
        tracing::info!(%endpoint, %reason, established, ?retry_in, "xDS stream closed");
        self.tell(Event::Disconnected {
            reason,
            established,
            retry_in,
        })
        .await?;
        self.event_loop.meanwhile(tokio::time::sleep(retry_in)).await
    }

    /// Talks until the stream ends and says why it did.
    async fn converse(&mut self, outgoing: Outgoing, mut stream: Stream) -> Option<String> {
        let outputs = self.event_loop.machine.on_connect();
        self.deliver(outputs, &outgoing).await?;
        loop {
            let outputs = tokio::select! {
                biased;
                command = self.event_loop.commands.recv() => obey(&mut self.event_loop.machine, command?),
                () = self.event_loop.events.closed() => return None,
                () = tick(&self.event_loop.machine) => self.event_loop.machine.on_tick(now()),
                response = stream.next(), if self.event_loop.machine.outstanding() == 0 => match response {
                    Ok(response) => {
                        self.backoff.reset();
                        self.counters.responses.fetch_add(1, Relaxed);
                        self.event_loop.machine.on_response(response, now())
                    }
                    Err(reason) => {
                        self.event_loop.machine.on_disconnect();
                        return Some(reason);
                    }
                },
            };
            self.counters
                .ignored
                .store(self.event_loop.machine.ignored(), Relaxed);
            self.deliver(outputs, &outgoing).await?;
        }
    }

    async fn deliver(&self, outputs: Vec<Output>, outgoing: &Outgoing) -> Option<()> {
        for output in outputs {
            match output {
                Output::Send(request) => {
                    self.count(&request);
                    outgoing.send(request);
                }
                Output::Apply(update) => self.tell(Event::Update(update)).await?,
            }
        }
        Some(())
    }

    fn count(&self, request: &Request) {
        self.counters.requests.fetch_add(1, Relaxed);
        match &request.purpose {
            Purpose::Nack(reason) => {
                tracing::warn!(type_url = %request.type_url, %reason, "xDS update rejected");
                self.counters.nacks.fetch_add(1, Relaxed);
            }
            Purpose::Ack => {
                self.counters.acks.fetch_add(1, Relaxed);
            }
            Purpose::First | Purpose::Change => {}
        }
    }

    async fn tell(&self, event: Event) -> Option<()> {
        self.event_loop.events.send(event).await.ok()
    }
}

impl EventLoop {
    /// Awaits something while no stream is up. The machine has nothing to send then, but a TTL may end.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let outputs = tokio::select! {
                biased;
                command = self.commands.recv() => obey(&mut self.machine, command?),
                () = self.events.closed() => return None,
                () = tick(&self.machine) => self.machine.on_tick(now()),
                result = &mut future => return Some(result),
            };
            for output in outputs {
                if let Output::Apply(update) = output {
                    self.events.send(Event::Update(update)).await.ok()?;
                }
            }
        }
    }
}

/// Carries an order to the machine.
pub(crate) fn obey(machine: &mut Subscriptions, command: Command) -> Vec<Output> {
    match command {
        Command::Subscribe(type_url, names) => machine.subscribe(&type_url, names),
        Command::Unsubscribe(type_url, names) => machine.unsubscribe(&type_url, &names),
        Command::Hold(type_url) => {
            machine.hold(&type_url);
            Vec::new()
        }
        Command::Release(type_url) => machine.release(&type_url),
        Command::Verdict(verdict) => machine.on_verdict(verdict),
    }
}

/// Waits for the next TTL to end; for ever when there is none.
pub(crate) async fn tick(machine: &Subscriptions) {
    match machine.deadline() {
        Some(deadline) => tokio::time::sleep_until(Instant::from_std(deadline)).await,
        None => std::future::pending().await,
    }
}

/// The clock, read at the edge; tokio's, so that a test can pause it.
pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}
