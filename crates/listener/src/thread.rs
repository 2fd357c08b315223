//! One worker thread: a tokio runtime, and what the control side wants of it.
//!
//! What is configured is looked up in the published world; [`Order`]s carry sockets, and say what is to end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use redplane_world::Life;
use socket2::Socket;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{LocalSet, spawn_local};

use crate::accept;
use crate::bind;
use crate::context::Context;
use crate::draining::Draining;
use crate::redis::{self, Whose};
use crate::worker::Worker;

/// What the control side wants.
pub(crate) enum Order {
    /// Accept from these sockets for a listener: those that it knows go on, those that it does not find here end.
    Accept { name: String, sockets: Vec<Arc<Socket>> },
    /// A chain is gone, or has become another one: what is left of it after `grace` ends.
    EndChain { life: Arc<Life>, grace: Duration },
    /// A listener is gone: drain its connections, close what is left after `grace`.
    Remove {
        name: String,
        grace: Duration,
        token: Arc<Draining>,
    },
    /// Drain its connections, but close none by force.
    Drain { name: String },
    /// Stop listening when the time has passed.
    StopListening { name: String, after: Duration },
    /// End.
    Stop,
}

/// A drain that closes nothing by force still needs a number.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The body of a worker's thread.
pub(crate) fn run(
    index: usize,
    context: &Context,
    orders: UnboundedReceiver<Order>,
    ready: &SyncSender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        match (context.make_driver)(index) {
            Ok(driver) => {
                let worker = Listening(Rc::new(Worker::new(index, context, driver)));
                // The other side waits for this and cannot be gone.
                let _ = ready.send(Ok(()));
                worker.obey(orders).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

/// The listeners of a worker, as the control side wants them.
struct Listening(Rc<Worker>);

impl Listening {
    async fn obey(self, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Accept { name, sockets } => self.accept(&name, sockets),
                Order::EndChain { life, grace } => self.end_chain(life, grace),
                Order::Remove { name, grace, token } => self.remove(&name, grace, token),
                Order::Drain { name } => {
                    let active = self.0.listeners.borrow().get(&name).cloned();
                    active.iter().for_each(|active| active.drain());
                    self.drain(Whose::Listener(name), FOREVER);
                }
                Order::StopListening { name, after } => self.stop_listening(&name, after),
                Order::Stop => break,
            }
        }
    }

    fn accept(&self, name: &str, sockets: Vec<Arc<Socket>>) {
        let active = self.0.active(name);
        self.0
            .listeners
            .borrow_mut()
            .insert(name.to_owned(), Rc::clone(&active));
        active.accept_from(sockets, |socket| {
            spawn_local(accept::run(Rc::clone(&self.0), Rc::downgrade(&active), socket)).abort_handle()
        });
    }

    fn end_chain(&self, life: Arc<Life>, grace: Duration) {
        self.drain(Whose::Chain(life.number), grace);
        spawn_local(async move {
            tokio::time::sleep(grace).await;
            life.end();
        });
    }

    fn remove(&self, name: &str, grace: Duration, token: Arc<Draining>) {
        let Some(active) = self.0.listeners.borrow_mut().remove(name) else {
            return;
        };
        active.stop_accepting();
        active.drain();
        active.hold(token);
        self.drain(Whose::Listener(name.to_owned()), grace);
        // Held weakly: a listener without connections is gone at once.
        let active = Rc::downgrade(&active);
        spawn_local(async move {
            tokio::time::sleep(grace).await;
            if let Some(active) = active.upgrade() {
                active.end();
            }
        });
    }

    fn drain(&self, whose: Whose, grace: Duration) {
        self.0.driver.tell(redis::Command::Drain { whose, grace });
    }

    fn stop_listening(&self, name: &str, after: Duration) {
        let Some(active) = self.0.listeners.borrow().get(name).map(Rc::downgrade) else {
            return;
        };
        spawn_local(async move {
            tokio::time::sleep(after).await;
            if let Some(active) = active.upgrade() {
                active
                    .stop_accepting()
                    .iter()
                    .for_each(|socket| bind::end(socket));
            }
        });
    }
}
