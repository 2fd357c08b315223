//! One ADS stream: requests in, responses out, a push when the world changes. Whatever the form, the state is in
//! a [`Protocol`]; only this file and `server` await anything.

use std::sync::Arc;

use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use tokio::sync::{broadcast, mpsc, watch};
use tonic::{Status, Streaming};

use super::event::{Event, Form};
use super::published::Published;
use super::type_url;

/// What a client may make the server remember.
const MOST_REMEMBERED: usize = 1 << 20;

/// One of the two wire forms of ADS, as a state without I/O.
pub(super) trait Protocol: Default + Send + Sync + 'static {
    const FORM: Form;
    type Request: Send + 'static;
    type Response: Labelled + Send + 'static;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn on_request(
        &mut self,
        request: Self::Request,
        published: &Published,
        nonces: &mut Nonces,
    ) -> Turn<Self>;
    fn on_publish(
        &mut self,
        type_url: &str,
        published: &Published,
        nonces: &mut Nonces,
    ) -> Option<Self::Response>;
    /// How many types, names and nonces are remembered for the client.
    fn remembered(&self) -> usize;
    /// The names a response carries, and those it takes away.
    fn names(&self, response: &Self::Response) -> (Vec<String>, Vec<String>);
}

/// What both response types have.
pub(super) trait Labelled {
    /// Type URL and version.
    fn label(&self) -> (&str, &str);
}

impl Labelled for DeltaDiscoveryResponse {
    fn label(&self) -> (&str, &str) {
        (&self.type_url, &self.system_version_info)
    }
}

impl Labelled for DiscoveryResponse {
    fn label(&self) -> (&str, &str) {
        (&self.type_url, &self.version_info)
    }
}

/// What a request leads to.
pub(super) struct Turn<P: Protocol> {
    pub(super) answer: Option<Answer>,
    pub(super) response: Option<P::Response>,
}

/// A client's ACK, or its NACK with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) type_url: String,
    /// The published version that was answered.
    pub(super) version: String,
    pub(super) error: Option<String>,
}

/// Nonces of one stream; none is given twice.
#[derive(Debug, Default)]
pub(super) struct Nonces(u64);

impl Nonces {
    pub(super) fn next(&mut self, version: &str) -> String {
        self.0 += 1;
        format!("{version}#{}", self.0)
    }
}

/// Where a stream takes its world from and where it tells what happens.
#[derive(Debug, Clone)]
pub(super) struct Wires {
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) events: broadcast::Sender<Event>,
}

type Responses<P> = mpsc::Sender<Result<<P as Protocol>::Response, Status>>;

/// One client's stream while it lasts.
pub(super) struct Stream<P: Protocol> {
    node: Option<String>,
    protocol: P,
    nonces: Nonces,
    wires: Wires,
    responses: Responses<P>,
}

/// The client has gone; nothing can be sent to it.
struct Gone;

impl<P: Protocol> Stream<P> {
    pub(super) fn new(wires: Wires, responses: Responses<P>) -> Self {
        Self {
            node: None,
            protocol: P::default(),
            nonces: Nonces::default(),
            wires,
            responses,
        }
    }

    /// Serves until the client goes or the server stops.
    pub(super) async fn run(mut self, mut requests: Streaming<P::Request>) {
        // Everything is answered from the world that was last pushed, so that a client never sees endpoints
        // of a world whose clusters it has not been told.
        let mut current = Arc::clone(&self.wires.published.borrow_and_update());
        loop {
            let done = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request, &current).await,
                    Ok(None) | Err(_) => Err(Gone),
                },
                changed = self.wires.published.changed() => match changed {
                    Ok(()) => {
                        current = Arc::clone(&self.wires.published.borrow_and_update());
                        self.push(&current).await
                    }
                    Err(_) => Err(Gone),
                },
                () = self.responses.closed() => Err(Gone),
            };
            if done.is_err() {
                break;
            }
        }
        if let Some(node) = self.node.take() {
            self.tell(Event::Closed { node });
        }
    }

    async fn request(&mut self, request: P::Request, current: &Published) -> Result<(), Gone> {
        if self.node.is_none() {
            let Some(node) = P::node(&request) else {
                let missing = Status::invalid_argument("the first request of a stream must carry a node");
                // Gone either way.
                let _ = self.responses.send(Err(missing)).await;
                return Err(Gone);
            };
            self.node = Some(node.id.clone());
            self.tell(Event::Connected {
                node: node.id.clone(),
                form: P::FORM,
            });
        }
        let turn = self.protocol.on_request(request, current, &mut self.nonces);
        if self.protocol.remembered() > MOST_REMEMBERED {
            let full = Status::resource_exhausted("too many types or names on one stream");
            // Gone either way.
            let _ = self.responses.send(Err(full)).await;
            return Err(Gone);
        }
        if let Some(Answer {
            type_url,
            version,
            error,
        }) = turn.answer
        {
            let node = self.node.clone().unwrap_or_default();
            self.tell(match error {
                None => Event::Ack {
                    node,
                    type_url,
                    version,
                },
                Some(message) => Event::Nack {
                    node,
                    type_url,
                    version,
                    message,
                },
            });
        }
        match turn.response {
            Some(response) => self.send(response).await,
            None => Ok(()),
        }
    }

    async fn push(&mut self, current: &Published) -> Result<(), Gone> {
        for type_url in type_url::ORDER {
            if let Some(response) = self.protocol.on_publish(type_url, current, &mut self.nonces) {
                self.send(response).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, response: P::Response) -> Result<(), Gone> {
        let (resources, removed) = self.protocol.names(&response);
        let (type_url, version) = response.label();
        let (type_url, version) = (type_url.to_owned(), version.to_owned());
        let node = self.node.clone().unwrap_or_default();
        // Told first: the answer may come back before this task runs again.
        self.tell(Event::Sent {
            node,
            type_url,
            version,
            resources,
            removed,
        });
        self.responses.send(Ok(response)).await.map_err(|_| Gone)
    }

    fn tell(&self, event: Event) {
        // Fails only when there is no receiver.
        let _ = self.wires.events.send(event);
    }
}
