//! One published world as it goes on the wire: encoded once, each resource with a version of its own.
//!
//! A resource that is equal to the last published one keeps its bytes and its version, so a push costs what it
//! changes. An endpoint's version also covers its cluster: a proxy that gets a changed cluster waits for the
//! endpoints anew, even when they are the same (Envoy: "Resource warming").

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use prost::{Message, Name};
use redplane_proto::Any;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;

use super::type_url;
use crate::world::World;

/// An encoded resource.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) version: String,
    pub(super) any: Any,
}

/// The resources of one type by name.
pub(super) type Resources = BTreeMap<String, Resource>;

/// What every stream serves.
#[derive(Debug)]
pub(super) struct Published {
    /// Given out by the server, never twice.
    pub(super) version: String,
    types: HashMap<&'static str, Resources>,
    world: World,
    none: Resources,
}

impl Published {
    pub(super) fn new(world: World, version: String, previous: Option<&Self>) -> Self {
        let before = |url: &str| previous.map(|p| p.of_type(url));
        let old = previous.map(|p| &p.world);
        let clusters = encode(
            world.clusters(),
            old.map(World::clusters),
            before(type_url::CLUSTER),
            |c| &c.name,
        );
        let listeners = encode(
            world.listeners(),
            old.map(World::listeners),
            before(type_url::LISTENER),
            |l| &l.name,
        );
        let mut endpoints = encode(
            world.endpoints(),
            old.map(World::endpoints),
            before(type_url::ENDPOINT),
            |e| &e.cluster_name,
        );
        follow_clusters(&mut endpoints, world.clusters(), &clusters);
        let types = [
            (type_url::CLUSTER, clusters),
            (type_url::ENDPOINT, endpoints),
            (type_url::LISTENER, listeners),
        ];
        Self {
            version,
            types: types.into(),
            world,
            none: Resources::new(),
        }
    }

    /// All resources of a type; none for a type that is not served.
    pub(super) fn of_type(&self, type_url: &str) -> &Resources {
        self.types.get(type_url).unwrap_or(&self.none)
    }
}

fn encode<M: Message + Name + PartialEq>(
    now: &[M],
    old: Option<&[M]>,
    before: Option<&Resources>,
    name: impl Fn(&M) -> &String,
) -> Resources {
    let old: HashMap<_, _> = old
        .unwrap_or_default()
        .iter()
        .map(|message| (name(message), message))
        .collect();
    let mut resources = Resources::new();
    for message in now {
        let kept = before.and_then(|before| before.get(name(message)));
        // Messages are compared, not bytes: the order of a map's entries on the wire is anyone's guess.
        let kept = kept.filter(|_| old.get(name(message)) == Some(&message));
        let any = kept.map_or_else(
            || Any {
                type_url: M::type_url(),
                value: message.encode_to_vec(),
            },
            |kept| kept.any.clone(),
        );
        resources.insert(
            name(message).clone(),
            Resource {
                version: digest(&any.value, ""),
                any,
            },
        );
    }
    resources
}

fn follow_clusters(endpoints: &mut Resources, clusters: &[Cluster], encoded: &Resources) {
    for cluster in clusters {
        let Some(eds) = &cluster.eds_cluster_config else {
            continue;
        };
        let by_service = if eds.service_name.is_empty() {
            &cluster.name
        } else {
            &eds.service_name
        };
        if let (Some(endpoint), Some(cluster)) = (endpoints.get_mut(by_service), encoded.get(&cluster.name)) {
            endpoint.version = digest(&endpoint.any.value, &cluster.version);
        }
    }
}

/// Equal on every run of the same binary, so that a proxy that reconnects is not sent what it has.
fn digest(bytes: &[u8], more: &str) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    more.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
