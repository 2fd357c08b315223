//! The receiving side of a test: a client whose events are awaited one by one.

use std::time::Duration;

use prost::Message as _;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;
use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::google::protobuf::Any;
use redplane_xds::{Client, Config, Endpoint, Event, Form, Handle, Update, Verdict, type_url};

use crate::server::soon;

/// A cluster of that name; the timeout stands for its content.
pub(crate) fn cluster(name: &str, seconds: i64) -> Any {
    let timeout = redplane_proto::pb::google::protobuf::Duration { seconds, nanos: 0 };
    let cluster = Cluster {
        name: name.into(),
        connect_timeout: Some(timeout),
        ..Default::default()
    };
    Any {
        type_url: type_url::CLUSTER.into(),
        value: cluster.encode_to_vec(),
    }
}

/// A configuration that retries fast.
pub(crate) fn config(form: Form, endpoint: Endpoint) -> Config {
    let node = Node {
        id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".into(),
        ..Default::default()
    };
    Config {
        backoff_base: Duration::from_millis(20),
        backoff_cap: Duration::from_millis(50),
        ..Config::new(redplane_xds::node::wire_node(&node), form, vec![endpoint])
    }
}

pub(crate) struct Receiver {
    client: Client,
    pub(crate) handle: Handle,
}

impl Receiver {
    pub(crate) fn start(config: Config) -> Self {
        let client = Client::start(config).unwrap();
        let handle = client.handle();
        Self { client, handle }
    }

    pub(crate) async fn event(&mut self) -> Event {
        soon("an event", self.client.next())
            .await
            .expect("the client runs")
    }

    /// The next update; connection events are passed over.
    pub(crate) async fn update(&mut self) -> Update {
        loop {
            if let Event::Update(update) = self.event().await {
                return update;
            }
        }
    }

    /// The next end of a stream: its reason, and whether there had been one.
    pub(crate) async fn disconnected(&mut self) -> (String, bool) {
        loop {
            match self.event().await {
                Event::Disconnected {
                    reason, established, ..
                } => return (reason, established),
                Event::Update(update) => panic!("unexpected {update:?}"),
                Event::Connected { .. } | Event::Unreadable { .. } => {}
            }
        }
    }

    /// Takes the next update and accepts it.
    pub(crate) async fn accept(&mut self) -> Update {
        let update = self.update().await;
        self.handle.verdict(Verdict::accept(&update));
        update
    }
}

/// The names of what an update changes.
pub(crate) fn names(update: &Update) -> Vec<&str> {
    update
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}

/// The names that an update removes.
pub(crate) fn removed(update: &Update) -> Vec<&str> {
    update.removed.iter().map(String::as_str).collect()
}
