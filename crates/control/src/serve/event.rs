//! What happens on the streams, for people to read and tests to await.

use std::fmt;

use tokio::sync::broadcast;

/// The two wire forms of ADS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `DeltaAggregatedResources`: changed and removed resources.
    Delta,
    /// `StreamAggregatedResources`: all resources of a type, each time.
    StateOfTheWorld,
}

/// Something on one stream. `node` is the id of the proxy, `version` the one that [`super::Server::publish`] gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the protocol")]
pub enum Event {
    /// A proxy opened a stream and sent its node.
    Connected { node: String, form: Form },
    /// A response went out.
    Sent {
        node: String,
        type_url: String,
        version: String,
        resources: Vec<String>,
        removed: Vec<String>,
    },
    /// The proxy took the response.
    Ack {
        node: String,
        type_url: String,
        version: String,
    },
    /// The proxy refused the response, or a part of it.
    Nack {
        node: String,
        type_url: String,
        version: String,
        message: String,
    },
    /// The stream has ended.
    Closed { node: String },
}

/// One subscriber's view of the events, from its subscription on.
#[derive(Debug)]
pub struct Events(pub(super) broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` when the server is gone. A reader that falls thousands behind misses the oldest.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Skips events until one fits.
    pub async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Option<Event> {
        loop {
            let event = self.next().await?;
            if fits(&event) {
                return Some(event);
            }
        }
    }

    /// Waits until a proxy has answered `version` of a type: `Ok` when it was taken, `Err` with the proxy's
    /// reason when it was refused. `None` when the server is gone.
    pub async fn answer(&mut self, type_url: &str, version: &str) -> Option<Result<(), String>> {
        loop {
            match self.next().await? {
                Event::Ack {
                    type_url: t,
                    version: v,
                    ..
                } if (&*t, &*v) == (type_url, version) => {
                    return Some(Ok(()));
                }
                Event::Nack {
                    type_url: t,
                    version: v,
                    message,
                    ..
                } if (&*t, &*v) == (type_url, version) => {
                    return Some(Err(message));
                }
                _ => {}
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { node, form } => write!(f, "{node}: connected ({form:?})"),
            Self::Sent {
                node,
                type_url,
                version,
                resources,
                removed,
            } => {
                let (name, sent, gone) = (short(type_url), resources.len(), removed.len());
                write!(
                    f,
                    "{node}: sent {name} {version}: {sent} resources, {gone} removed"
                )
            }
            Self::Ack {
                node,
                type_url,
                version,
            } => write!(f, "{node}: ACK {} {version}", short(type_url)),
            Self::Nack {
                node,
                type_url,
                version,
                message,
            } => {
                write!(f, "{node}: NACK {} {version}: {message}", short(type_url))
            }
            Self::Closed { node } => write!(f, "{node}: closed"),
        }
    }
}

/// The message's own name.
fn short(type_url: &str) -> &str {
    type_url.rsplit(['.', '/']).next().unwrap_or(type_url)
}
