//! RDS: route configurations by name.
//!
//! A subscription lives as long as a listener that names it; the last good configuration stays when a later one is refused
//! or removed.

use std::collections::HashMap;
use std::sync::Arc;

use redplane_config::cluster::Source;
use redplane_config::http::RouteConfiguration;
use redplane_config::listener::Listener;
use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::unpack;
use redplane_xds::type_url::ROUTE;
use redplane_xds::{Names, Rejected, Resource, Update};

use crate::book::{Origin, version};
use crate::incoming::From;
use crate::needs::{Named, Need};
use crate::owner::{Needs, Patience, Reconcile};

/// Route configurations and how many name them.
#[derive(Default)]
pub(crate) struct Routes {
    known: HashMap<Named, Known>,
}

#[derive(Default)]
struct Known {
    users: usize,
    /// There was an answer, if only a bad one.
    answered: bool,
}

/// The route configurations that a listener's chains need by name, each with how long it is waited for.
fn of_listener(_listener: &Listener) -> Vec<(Named, Patience)> {
    // No terminal filter that is served takes its routes from elsewhere.
    Vec::new()
}

impl Reconcile {
    /// Asks for a listener's route configurations. Answers those that it has to wait for.
    pub(crate) fn join_routes(&mut self, listener: &Listener) -> Result<Needs, String> {
        let mut needs = Needs::new();
        for (named, patience) in of_listener(listener) {
            if !self.routes.known.contains_key(&named) {
                let (source, name) = &named;
                self.feeds
                    .subscribe(source, ROUTE, Names::List(vec![name.clone()]))?;
            }
            let known = self.routes.known.entry(named.clone()).or_default();
            known.users += 1;
            if !known.answered {
                needs.push((Need::Route(named), patience));
            }
        }
        Ok(needs)
    }

    /// Ends what [`join_routes`](Self::join_routes) began.
    pub(crate) fn leave_routes(&mut self, listener: &Listener) {
        for (named, _) in of_listener(listener) {
            let Some(known) = self.routes.known.get_mut(&named) else {
                continue;
            };
            known.users -= 1;
            if known.users > 0 {
                continue;
            }
            self.routes.known.remove(&named);
            self.draft.routes.remove_mut(&named);
            let (source, name) = named;
            self.world.book.pages().routes.remove(Origin::Dynamic, &name);
            self.feeds.unsubscribe(&source, ROUTE, vec![name]);
        }
    }

    pub(crate) fn apply_routes(&mut self, from: &From, update: &Update) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for resource in &update.resources {
            if let Err(reason) = self.put_route((from.source(), resource.name.clone()), resource) {
                rejected.push(Rejected::new(&resource.name, reason));
            }
            self.answer_route((from.source(), resource.name.clone()));
        }
        let refused = update.refused.iter().map(|refused| &refused.name);
        for name in update.removed.iter().chain(refused) {
            self.answer_route((from.source(), name.clone()));
        }
        rejected
    }

    fn put_route(&mut self, named: Named, resource: &Resource) -> Result<(), String> {
        let message: proto::RouteConfiguration = unpack(&resource.body)?;
        let config = RouteConfiguration::from_proto(&message).map_err(|invalid| invalid.to_string())?;
        self.count_ignored(&resource.name, &config.ignored);
        if self.routes.known.contains_key(&named) {
            self.draft.routes.insert_mut(named, Arc::new(config));
        }
        let resource_version = version(resource.body.clone(), &resource.version);
        let mut pages = self.world.book.pages();
        pages
            .routes
            .set_active(Origin::Dynamic, &resource.name, resource_version);
        Ok(())
    }

    /// There was an answer about a name, good or bad.
    fn answer_route(&mut self, named: Named) {
        if let Some(known) = self.routes.known.get_mut(&named) {
            known.answered = true;
            self.meet(&Need::Route(named));
        }
    }

    /// A file that cannot be read answers for all that would be in it.
    pub(crate) fn answer_routes_of(&mut self, source: &Source) {
        let known = self.routes.known.keys();
        let of: Vec<Named> = known.filter(|(from, _)| from == source).cloned().collect();
        of.into_iter().for_each(|named| self.answer_route(named));
    }
}
