//! RDS: route configurations by name.
//!
//! A subscription lives as long as a listener that names it; the last good configuration stays when a later one is refused
//! or removed. One that names clusters which warm takes its place when they are warm, or after a moment.

use std::sync::Arc;
use std::time::Instant;

use redplane_admin::ResourceVersion;
use redplane_config::cluster::Source;
use redplane_config::http::RouteConfiguration;
use redplane_config::listener::Listener;
use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::unpack;
use redplane_xds::type_url::ROUTE;
use redplane_xds::{Names, Rejected, Resource, Update};

use crate::book::{Origin, version};
use crate::incoming::From;
use crate::needs::{HANDOVER, MOMENT, Named, Need, Needs, Waiter};
use crate::owner::Reconcile;
use crate::references::routes_of;
use crate::state::routes::{Known, Next};
use crate::stats::Subscription;

impl Reconcile {
    /// Asks for a listener's route configurations. Answers those that it has to wait for.
    ///
    /// # Errors
    /// One that can never come; none of them is asked for then.
    pub(crate) fn join_routes(&mut self, listener: &Listener) -> Result<Needs, String> {
        let mut needs = Needs::new();
        for (at, (manager, name, source)) in routes_of(listener).enumerate() {
            let named = (source.source.clone(), name.clone());
            if let Err(reason) = self.join_route(&named, &manager.stat_prefix) {
                for (_, name, source) in routes_of(listener).take(at) {
                    self.leave_route((source.source.clone(), name.clone()));
                }
                return Err(format!("rds: route configuration `{name}`: {reason}"));
            }
            if self.routes.known.get(&named).is_some_and(|known| !known.answered) {
                needs.push((Need::Route(named), source.initial_fetch_timeout));
            }
        }
        Ok(needs)
    }

    fn join_route(&mut self, named: &Named, stat_prefix: &str) -> Result<(), String> {
        if let Some(known) = self.routes.known.get_mut(named) {
            known.users += 1;
            return Ok(());
        }
        let (source, name) = named;
        self.feeds
            .subscribe(source, ROUTE, Names::List(vec![name.clone()]))?;
        let prefix = format!("http.{stat_prefix}.rds.{name}.");
        let stats = Subscription::new(&self.world.registry, &prefix);
        stats.asked();
        let known = Known {
            users: 1,
            answered: false,
            table: None,
            next: None,
            stats,
        };
        self.routes.known.insert(named.clone(), known);
        Ok(())
    }

    /// Ends what [`join_routes`](Self::join_routes) began.
    pub(crate) fn leave_routes(&mut self, listener: &Listener) {
        for (_, name, source) in routes_of(listener) {
            self.leave_route((source.source.clone(), name.clone()));
        }
    }

    fn leave_route(&mut self, named: Named) {
        let Some(known) = self.routes.known.get_mut(&named) else {
            return;
        };
        known.users -= 1;
        if known.users > 0 {
            return;
        }
        self.forget_next(&named);
        self.routes.known.remove(&named);
        let (source, name) = named;
        self.world.store.routes().forget(&source, &name);
        self.world.book.pages().routes.remove(Origin::Dynamic, &name);
        self.feeds.unsubscribe(&source, ROUTE, vec![name]);
    }

    pub(crate) fn apply_routes(&mut self, from: &From, update: &Update) -> Vec<Rejected> {
        let begun = Instant::now();
        let mut rejected = Vec::new();
        for resource in &update.resources {
            let named = (from.source(), resource.name.clone());
            let result = self.take_route(&named, resource);
            let took = Instant::now().duration_since(begun);
            if let Some(known) = self.routes.known.get(&named) {
                match &result {
                    Ok(()) => known.stats.accepted(&update.version, true, took),
                    Err(_) => known.stats.rejected(took),
                }
            }
            if let Err(reason) = result {
                rejected.push(Rejected::new(&resource.name, reason));
                self.answer_route(named);
            }
        }
        let refused = update.refused.iter().map(|refused| &refused.name);
        for name in update.removed.iter().chain(refused) {
            self.answer_route((from.source(), name.clone()));
        }
        rejected
    }

    /// Validates a route configuration; it takes its place at once, or waits for clusters on their way.
    fn take_route(&mut self, named: &Named, resource: &Resource) -> Result<(), String> {
        let message: proto::RouteConfiguration = unpack(&resource.body)?;
        let config = RouteConfiguration::from_proto(&message).map_err(|invalid| invalid.to_string())?;
        self.count_ignored(&resource.name, &config.ignored);
        self.forget_next(named);
        let Some(known) = self.routes.known.get(named) else {
            return Ok(());
        };
        let patience = match known.table.is_some() {
            true => HANDOVER,
            false => MOMENT,
        };
        let mut awaited = config.clusters();
        awaited.retain(|cluster| self.is_awaited(cluster));
        awaited.sort_unstable();
        awaited.dedup();
        let needs: Needs = awaited
            .into_iter()
            .map(|cluster| (Need::Cluster(cluster.to_owned()), Some(patience)))
            .collect();
        let resource = version(resource.body.clone(), &resource.version);
        if needs.is_empty() {
            self.put_route(named, Arc::new(config), resource);
            return Ok(());
        }
        let next = Next {
            wait: self
                .ledger
                .open(Waiter::Route(named.clone()), needs, Instant::now()),
            config: Arc::new(config),
            resource,
        };
        if let Some(known) = self.routes.known.get_mut(named) {
            known.next = Some(next);
        }
        Ok(())
    }

    /// The clusters that a route configuration waits for are warm, or it has waited long enough.
    pub(crate) fn route_is_ready(&mut self, named: &Named) {
        let known = self.routes.known.get_mut(named);
        if let Some(next) = known.and_then(|known| known.next.take()) {
            self.put_route(named, next.config, next.resource);
        }
    }

    fn put_route(&mut self, named: &Named, config: Arc<RouteConfiguration>, resource: ResourceVersion) {
        let (source, name) = named;
        if let Some(known) = self.routes.known.get_mut(named) {
            known.table = Some(Arc::clone(&config));
        }
        self.world.store.routes().put(source, name, config);
        let mut pages = self.world.book.pages();
        pages.routes.set_active(Origin::Dynamic, name, resource);
        drop(pages);
        self.answer_route(named.clone());
    }

    /// A newer version, or none, has come.
    fn forget_next(&mut self, named: &Named) {
        let known = self.routes.known.get_mut(named);
        if let Some(next) = known.and_then(|known| known.next.take()) {
            self.ledger.close(next.wait);
        }
    }

    /// There was an answer about a name, good or bad.
    fn answer_route(&mut self, named: Named) {
        if let Some(known) = self.routes.known.get_mut(&named) {
            known.answered = true;
            self.meet(&Need::Route(named));
        }
    }

    /// A listener has gone on without its routes: requests have none until they come.
    pub(crate) fn count_route_timeout(&self, named: &Named) {
        if let Some(known) = self.routes.known.get(named) {
            known.stats.timed_out();
        }
    }

    /// A file that cannot be read answers for all that would be in it.
    pub(crate) fn answer_routes_of(&mut self, source: &Source) {
        let known = self.routes.known.keys();
        let of: Vec<Named> = known.filter(|(from, _)| from == source).cloned().collect();
        of.into_iter().for_each(|named| self.answer_route(named));
    }
}
