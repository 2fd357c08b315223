//! EDS: which clusters wait for which assignment.
//!
//! A subscription lives as long as a cluster, active or warming, that names it. The last assignment is kept, so that a
//! changed cluster is warm at once. An assignment that the control plane removes stays in use, as in Envoy; one that is
//! refused or removed before there was any is an answer: nothing better will come.

use std::sync::Arc;

use redplane_config::Ignored;
use redplane_config::cluster::Source;
use redplane_config::endpoint::Assignment;
use redplane_proto::unpack;
use redplane_upstream::Cluster;
use redplane_xds::type_url::ENDPOINT;
use redplane_xds::{Names, Rejected, Resource, Update};

use crate::book::{Origin, version};
use crate::incoming::From;
use crate::needs::{Named, Need};
use crate::owner::Reconcile;

pub(crate) use crate::references::service_of;

impl Reconcile {
    /// Lets a cluster have its endpoints: those known already at once, others when they come.
    pub(crate) fn join(&mut self, cluster: &Arc<Cluster>) -> Result<(), String> {
        let Some(service) = service_of(cluster.config()) else {
            return Ok(());
        };
        if !self.endpoints.services.contains_key(&service) {
            let (source, name) = service.clone();
            match source {
                Source::Ads if self.feeds.has_ads() => self.endpoints.asked.push(name),
                source => self.feeds.subscribe(&source, ENDPOINT, Names::List(vec![name]))?,
            }
        }
        let users = self.endpoints.services.entry(service).or_default();
        users.clusters.push(Arc::clone(cluster));
        if let Some(last) = &users.last {
            redplane_discovery::assign(cluster, last);
        }
        Ok(())
    }

    /// Ends what [`join`](Self::join) began; the last one to leave takes the subscription along.
    pub(crate) fn leave(&mut self, cluster: &Arc<Cluster>) {
        let Some(service) = service_of(cluster.config()) else {
            return;
        };
        let Some(users) = self.endpoints.services.get_mut(&service) else {
            return;
        };
        users.clusters.retain(|user| !Arc::ptr_eq(user, cluster));
        if users.clusters.is_empty() {
            self.endpoints.services.remove(&service);
            let (source, name) = service;
            self.world.book.pages().endpoints.remove(Origin::Dynamic, &name);
            match source {
                Source::Ads => self.endpoints.forgotten.push(name),
                source => self.feeds.unsubscribe(&source, ENDPOINT, vec![name]),
            }
        }
    }

    /// Tells the control plane what has come and gone: one request, however many clusters changed.
    pub(crate) fn ask_endpoints(&mut self) {
        let forgotten = std::mem::take(&mut self.endpoints.forgotten);
        if !forgotten.is_empty() {
            self.feeds.unsubscribe(&Source::Ads, ENDPOINT, forgotten);
        }
        // First taken back, then asked: a name that went and came again is sent anew.
        let mut asked = std::mem::take(&mut self.endpoints.asked);
        let services = &self.endpoints.services;
        asked.retain(|name| services.contains_key(&(Source::Ads, name.clone())));
        if !asked.is_empty() {
            // There is an ADS stream, or nothing would have been noted.
            let _ = self.feeds.subscribe(&Source::Ads, ENDPOINT, Names::List(asked));
        }
    }

    pub(crate) fn apply_endpoints(&mut self, from: &From, update: &Update) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for resource in &update.resources {
            let service = (from.source(), resource.name.clone());
            if let Err(reason) = self.assign(&service, resource) {
                rejected.push(Rejected::new(&resource.name, reason));
            }
            self.answer_endpoints(service);
        }
        let refused = update.refused.iter().map(|refused| &refused.name);
        for name in update.removed.iter().chain(refused) {
            self.answer_endpoints((from.source(), name.clone()));
        }
        rejected
    }

    fn assign(&mut self, service: &Named, resource: &Resource) -> Result<(), String> {
        let message = unpack(&resource.body)?;
        let mut ignored = Ignored::default();
        let assignment =
            Assignment::from_proto(&message, &mut ignored).map_err(|invalid| invalid.to_string())?;
        let assignment = Arc::new(assignment);
        self.count_ignored(&resource.name, &ignored);
        if let Some(users) = self.endpoints.services.get_mut(service) {
            let clusters = users.clusters.iter();
            clusters.for_each(|cluster| redplane_discovery::assign(cluster, &assignment));
            users.last = Some(Arc::clone(&assignment));
        }
        let resource_version = version(resource.body.clone(), &resource.version);
        let mut pages = self.world.book.pages();
        pages
            .endpoints
            .set_active(Origin::Dynamic, &resource.name, resource_version);
        Ok(())
    }

    /// There was an answer about a service, good or bad.
    fn answer_endpoints(&mut self, service: Named) {
        if let Some(users) = self.endpoints.services.get_mut(&service) {
            users.answered = true;
            self.meet(&Need::Endpoints(service));
        }
    }

    /// A file that cannot be read answers for all services that would be in it.
    pub(crate) fn answer_endpoints_of(&mut self, source: &Source) {
        let services = self.endpoints.services.keys();
        let of: Vec<Named> = services.filter(|(from, _)| from == source).cloned().collect();
        of.into_iter().for_each(|service| self.answer_endpoints(service));
    }
}
