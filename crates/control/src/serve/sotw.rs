//! The state-of-the-world form: each response carries everything the client watches of one type. Pure.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#basic-protocol-overview>. Every request is
//! an answer and a subscription at once; one whose nonce is not the newest is late and is dropped.

use std::collections::{BTreeMap, BTreeSet};

use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

use super::event::Form;
use super::published::Published;
use super::stream::{Answer, Nonces, Protocol, Turn};
use super::type_url;

/// One client's state, a watch per type.
#[derive(Debug, Default)]
pub(super) struct Sotw {
    watches: BTreeMap<String, Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    names: BTreeSet<String>,
    /// Name and version of everything in the newest response.
    sent: BTreeMap<String, String>,
    nonce: String,
    /// The published version that the newest response carried, until it is answered.
    open: Option<String>,
}

impl Protocol for Sotw {
    const FORM: Form = Form::StateOfTheWorld;
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn on_request(
        &mut self,
        request: Self::Request,
        published: &Published,
        nonces: &mut Nonces,
    ) -> Turn<Self> {
        let type_url = request.type_url;
        let first = !self.watches.contains_key(&type_url);
        let watch = self.watches.entry(type_url.clone()).or_default();
        if !first && request.response_nonce != watch.nonce {
            return Turn {
                answer: None,
                response: None,
            };
        }
        let error = request.error_detail.map(|error| error.message);
        let answer = watch.open.take().map(|version| Answer {
            type_url: type_url.clone(),
            version,
            error,
        });
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let more = !names.is_subset(&watch.names);
        watch.names = names;
        let response = (first || more).then(|| watch.send(&type_url, published, nonces));
        Turn { answer, response }
    }

    fn on_publish(
        &mut self,
        type_url: &str,
        published: &Published,
        nonces: &mut Nonces,
    ) -> Option<Self::Response> {
        let watch = self.watches.get_mut(type_url)?;
        let changed = watch.wanted(type_url, published) != watch.sent;
        changed.then(|| watch.send(type_url, published, nonces))
    }

    fn remembered(&self) -> usize {
        self.watches
            .values()
            .map(|watch| 1 + watch.names.len() + watch.sent.len())
            .sum()
    }

    fn names(&self, response: &Self::Response) -> (Vec<String>, Vec<String>) {
        let sent = self
            .watches
            .get(&response.type_url)
            .map(|watch| watch.sent.keys().cloned().collect());
        (sent.unwrap_or_default(), Vec::new())
    }
}

impl Watch {
    /// Listeners and clusters are all watched when none is named; of other types nothing is.
    fn wants(&self, type_url: &str, name: &str) -> bool {
        let everything = self.names.is_empty() && [type_url::CLUSTER, type_url::LISTENER].contains(&type_url);
        everything || self.names.contains(name) || self.names.contains("*")
    }

    fn wanted(&self, type_url: &str, published: &Published) -> BTreeMap<String, String> {
        let resources = published.of_type(type_url).iter();
        let wanted = resources.filter(|(name, _)| self.wants(type_url, name));
        wanted
            .map(|(name, resource)| (name.clone(), resource.version.clone()))
            .collect()
    }

    fn send(&mut self, type_url: &str, published: &Published, nonces: &mut Nonces) -> DiscoveryResponse {
        self.sent = self.wanted(type_url, published);
        self.nonce = nonces.next(&published.version);
        self.open = Some(published.version.clone());
        let resources = published.of_type(type_url);
        DiscoveryResponse {
            version_info: published.version.clone(),
            resources: self
                .sent
                .keys()
                .filter_map(|name| Some(resources.get(name)?.any.clone()))
                .collect(),
            type_url: type_url.to_owned(),
            nonce: self.nonce.clone(),
            ..Default::default()
        }
    }
}
