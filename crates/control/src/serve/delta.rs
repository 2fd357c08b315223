//! The delta form: what a client holds of each type, and what it must be told. Pure.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>. A subscription is always
//! answered, with the names that do not exist in `removed_resources`; an ACK never is. A NACKed resource is
//! sent again only when it has changed.

use std::collections::{BTreeMap, BTreeSet};

use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};

use super::event::Form;
use super::published::Published;
use super::stream::{Answer, Nonces, Protocol, Turn};

/// One client's state, a subscription per type.
#[derive(Debug, Default)]
pub(super) struct Delta {
    subscriptions: BTreeMap<String, Subscription>,
}

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Name and version of everything the client has been sent, or came with.
    client_versions: BTreeMap<String, String>,
    /// Nonces that wait for an answer, with the version that was published then.
    open: BTreeMap<String, String>,
}

impl Protocol for Delta {
    const FORM: Form = Form::Delta;
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn on_request(
        &mut self,
        request: Self::Request,
        published: &Published,
        nonces: &mut Nonces,
    ) -> Turn<Self> {
        let first = !self.subscriptions.contains_key(&request.type_url);
        let subscription = self.subscriptions.entry(request.type_url.clone()).or_default();
        let answer = subscription.answer(&request);
        let type_url = request.type_url.clone();
        let subscribed = subscription.subscribe(first, request);
        let response = match (first, subscribed) {
            (false, names) if names.is_empty() => None,
            (_, names) => {
                let mut response = subscription.changes(&type_url, published);
                response
                    .removed_resources
                    .extend(subscription.missing(&names, &type_url, published));
                Some(subscription.sent(response, published, nonces))
            }
        };
        Turn { answer, response }
    }

    fn on_publish(
        &mut self,
        type_url: &str,
        published: &Published,
        nonces: &mut Nonces,
    ) -> Option<Self::Response> {
        let subscription = self.subscriptions.get_mut(type_url)?;
        let response = subscription.changes(type_url, published);
        let changed = !response.resources.is_empty() || !response.removed_resources.is_empty();
        changed.then(|| subscription.sent(response, published, nonces))
    }

    fn remembered(&self) -> usize {
        let of = |s: &Subscription| 1 + s.names.len() + s.client_versions.len() + s.open.len();
        self.subscriptions.values().map(of).sum()
    }

    fn names(&self, response: &Self::Response) -> (Vec<String>, Vec<String>) {
        let names = response.resources.iter().map(|resource| resource.name.clone());
        (names.collect(), response.removed_resources.clone())
    }
}

impl Subscription {
    /// Nonces of another stream, and those answered before, say nothing.
    fn answer(&mut self, request: &DeltaDiscoveryRequest) -> Option<Answer> {
        let version = self.open.remove(&request.response_nonce)?;
        let error = request.error_detail.as_ref().map(|error| error.message.clone());
        Some(Answer {
            type_url: request.type_url.clone(),
            version,
            error,
        })
    }

    /// Takes over the request's names and returns those that must be answered even when nothing has changed.
    fn subscribe(&mut self, first: bool, request: DeltaDiscoveryRequest) -> BTreeSet<String> {
        if first {
            // Without a single name the first request of a type asks for everything.
            self.wildcard = request.resource_names_subscribe.is_empty();
            self.client_versions = request.initial_resource_versions.into_iter().collect();
        }
        let mut wanted = BTreeSet::new();
        for name in request.resource_names_subscribe {
            if name == "*" {
                self.wildcard = true;
            } else {
                if !first {
                    // Asked for again: the client may have dropped it.
                    self.client_versions.remove(&name);
                }
                self.names.insert(name.clone());
            }
            wanted.insert(name);
        }
        for name in request.resource_names_unsubscribe {
            self.wildcard &= name != "*";
            self.names.remove(&name);
            self.client_versions.remove(&name);
        }
        if !self.wildcard && !first {
            let names = &self.names;
            self.client_versions.retain(|name, _| names.contains(name));
        }
        wanted
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// What differs between the client's view and what is published.
    fn changes(&self, type_url: &str, published: &Published) -> DeltaDiscoveryResponse {
        let resources = published.of_type(type_url);
        let news = resources.iter().filter(|(name, resource)| {
            self.wants(name) && self.client_versions.get(*name) != Some(&resource.version)
        });
        let news = news.map(|(name, resource)| Resource {
            name: name.clone(),
            version: resource.version.clone(),
            resource: Some(resource.any.clone()),
            ..Default::default()
        });
        let gone = self
            .client_versions
            .keys()
            .filter(|name| !resources.contains_key(*name));
        DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            system_version_info: published.version.clone(),
            resources: news.collect(),
            removed_resources: gone.cloned().collect(),
            ..Default::default()
        }
    }

    /// Names just asked for that do not exist and were not held, so that no proxy waits for them.
    fn missing(&self, names: &BTreeSet<String>, type_url: &str, published: &Published) -> Vec<String> {
        let resources = published.of_type(type_url);
        let absent = |name: &&String| *name != "*" && !resources.contains_key(*name);
        names
            .iter()
            .filter(absent)
            .filter(|name| !self.client_versions.contains_key(*name))
            .cloned()
            .collect()
    }

    /// Books a response as sent.
    fn sent(
        &mut self,
        mut response: DeltaDiscoveryResponse,
        published: &Published,
        nonces: &mut Nonces,
    ) -> DeltaDiscoveryResponse {
        for resource in &response.resources {
            self.client_versions
                .insert(resource.name.clone(), resource.version.clone());
        }
        for name in &response.removed_resources {
            self.client_versions.remove(name);
        }
        response.nonce = nonces.next(&published.version);
        self.open
            .insert(response.nonce.clone(), published.version.clone());
        response
    }
}
