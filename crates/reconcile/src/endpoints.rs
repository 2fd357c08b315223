//! EDS: which clusters wait for which assignment.
//!
//! A subscription lives as long as a cluster, active or warming, that names it. The last assignment is kept, so that a
//! changed cluster is warm at once. An assignment that the control plane removes stays in use, as in Envoy.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use redplane_config::Ignored;
use redplane_config::cluster::{ConfigSource, Discovery};
use redplane_config::endpoint::Assignment;
use redplane_proto::unpack;
use redplane_upstream::Cluster;
use redplane_xds::type_url::ENDPOINT;
use redplane_xds::{Names, Rejected, Resource, Update};

use crate::book::{Origin, version};
use crate::owner::Reconcile;

/// Assignments and who uses them, by service name.
#[derive(Default)]
pub(crate) struct Endpoints {
    services: HashMap<String, HashMap<Source, Users>>,
    /// Names to be asked of the control plane, all in one request.
    asked: Vec<String>,
    /// Names to be taken back.
    forgotten: Vec<String>,
}

/// The file, if it is not ADS. The same name from two sources is two services.
type Source = Option<PathBuf>;

#[derive(Default)]
struct Users {
    clusters: Vec<Arc<Cluster>>,
    last: Option<Arc<Assignment>>,
}

impl Endpoints {
    fn has(&self, name: &str, source: &Source) -> bool {
        self.services
            .get(name)
            .is_some_and(|sources| sources.contains_key(source))
    }
}

/// Source and name of an EDS cluster's service.
fn service(cluster: &Cluster) -> Option<(Source, &String, &ConfigSource)> {
    let Discovery::Eds { service_name, source } = &cluster.config().discovery else {
        return None;
    };
    let path = match source {
        ConfigSource::Ads => None,
        ConfigSource::Path(path) => Some(path.clone()),
    };
    Some((path, service_name, source))
}

impl Reconcile {
    /// Lets a cluster have its endpoints: those known already at once, others when they come.
    pub(crate) fn join(&mut self, cluster: &Arc<Cluster>) -> Result<(), String> {
        let Some((from, name, source)) = service(cluster) else {
            return Ok(());
        };
        if !self.endpoints.has(name, &from) {
            let name = name.clone();
            match source {
                ConfigSource::Ads if self.feeds.has_ads() => self.endpoints.asked.push(name),
                source => self.feeds.subscribe(source, ENDPOINT, Names::List(vec![name]))?,
            }
        }
        let sources = self.endpoints.services.entry(name.clone()).or_default();
        let users = sources.entry(from).or_default();
        users.clusters.push(Arc::clone(cluster));
        if let Some(last) = &users.last {
            redplane_discovery::assign(cluster, last);
        }
        Ok(())
    }

    /// Ends what [`join`](Self::join) began; the last one to leave takes the subscription along.
    pub(crate) fn leave(&mut self, cluster: &Arc<Cluster>) {
        let Some((from, name, source)) = service(cluster) else {
            return;
        };
        let Some(sources) = self.endpoints.services.get_mut(name) else {
            return;
        };
        let Some(users) = sources.get_mut(&from) else {
            return;
        };
        users.clusters.retain(|user| !Arc::ptr_eq(user, cluster));
        if users.clusters.is_empty() {
            sources.remove(&from);
            if sources.is_empty() {
                self.endpoints.services.remove(name);
            }
            self.world.book.pages().endpoints.remove(Origin::Dynamic, name);
            match source {
                ConfigSource::Ads => self.endpoints.forgotten.push(name.clone()),
                source => self.feeds.unsubscribe(source, ENDPOINT, vec![name.clone()]),
            }
        }
    }

    /// Tells the control plane what has come and gone: one request, however many clusters changed.
    pub(crate) fn ask_endpoints(&mut self) {
        let forgotten = std::mem::take(&mut self.endpoints.forgotten);
        if !forgotten.is_empty() {
            self.feeds.unsubscribe(&ConfigSource::Ads, ENDPOINT, forgotten);
        }
        // First taken back, then asked: a name that went and came again is sent anew.
        let mut asked = std::mem::take(&mut self.endpoints.asked);
        asked.retain(|name| self.endpoints.has(name, &None));
        if !asked.is_empty() {
            // There is an ADS stream, or nothing would have been noted.
            let _ = self
                .feeds
                .subscribe(&ConfigSource::Ads, ENDPOINT, Names::List(asked));
        }
    }

    pub(crate) fn apply_endpoints(&mut self, update: &Update) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for resource in &update.resources {
            if let Err(reason) = self.assign(resource) {
                rejected.push(Rejected::new(&resource.name, reason));
            }
        }
        rejected
    }

    fn assign(&mut self, resource: &Resource) -> Result<(), String> {
        let message = unpack(&resource.body)?;
        let mut ignored = Ignored::default();
        let assignment =
            Assignment::from_proto(&message, &mut ignored).map_err(|invalid| invalid.to_string())?;
        let assignment = Arc::new(assignment);
        self.count_ignored(&resource.name, &ignored);
        // The same name from ADS and from a file would be two services; both are told, whoever sent it is not known.
        let sources = self.endpoints.services.get_mut(&resource.name);
        for users in sources.into_iter().flat_map(HashMap::values_mut) {
            users
                .clusters
                .iter()
                .for_each(|cluster| redplane_discovery::assign(cluster, &assignment));
            users.last = Some(Arc::clone(&assignment));
        }
        let resource_version = version(resource.body.clone(), &resource.version);
        let mut pages = self.world.book.pages();
        pages
            .endpoints
            .set_active(Origin::Dynamic, &resource.name, resource_version);
        Ok(())
    }
}
