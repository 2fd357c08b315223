//! SDS: certificates and validation contexts by name.
//!
//! A subscription lives as long as something that names it. On a source of its own each name has its own stream, because
//! pilot-agent ends a stream for any one name that it cannot serve. A secret that is refused leaves the former one in use
//! and is named in the NACK. Those of the bootstrap are there from the start.

use std::sync::Arc;
use std::time::Instant;

use redplane_config::Ignored;
use redplane_config::cluster::{GrpcSource, Source};
use redplane_config::tls::{NamedSecret, SecretKind, SecretName};
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3 as proto;
use redplane_proto::{pack, unpack};
use redplane_upstream::tls::secrets::SecretKey;
use redplane_xds::type_url::SECRET;
use redplane_xds::{Names, Rejected, Resource, Service, Update};

use crate::book::{Origin, version};
use crate::feeds;
use crate::incoming::From;
use crate::needs::{Named, Need, Needs, Patience};
use crate::owner::Reconcile;
use crate::stats::Subscription;

impl Reconcile {
    /// Takes in the secrets of the bootstrap.
    pub(crate) fn add_static_secrets(
        &self,
        secrets: &[NamedSecret],
        messages: &[proto::Secret],
    ) -> Result<(), String> {
        for secret in secrets {
            let key = SecretKey {
                kind: secret.value.kind(),
                name: secret.name.clone(),
                source: None,
            };
            let put = self.context.secrets.put(&key, &secret.value);
            put.map_err(|reason| format!("static_resources.secrets: '{}': {reason}", secret.name))?;
        }
        let mut pages = self.world.book.pages();
        for message in messages {
            let resource = version(pack(message), "");
            pages.secrets.set_active(Origin::Static, &message.name, resource);
        }
        Ok(())
    }

    /// Asks for secrets on behalf of one more user. Answers those that it has to wait for.
    ///
    /// # Errors
    /// One that can never come; none of them is asked for then.
    pub(crate) fn join_secrets(&mut self, names: &[(SecretKind, &SecretName)]) -> Result<Needs, String> {
        let mut needs = Needs::new();
        for (at, (kind, name)) in names.iter().enumerate() {
            match self.join_secret(*kind, name) {
                Ok(need) => needs.extend(need),
                Err(reason) => {
                    self.leave_secrets(&names[..at]);
                    return Err(reason);
                }
            }
        }
        Ok(needs)
    }

    fn join_secret(
        &mut self,
        kind: SecretKind,
        name: &SecretName,
    ) -> Result<Option<(Need, Patience)>, String> {
        let key = SecretKey::new(kind, name);
        let Some(source) = &name.source else {
            return match self.context.secrets.has(&key) {
                true => Ok(None),
                false => Err(unknown(kind, &name.name)),
            };
        };
        if !self.secrets.known.contains_key(&key) && !self.other_kind_is_known(&key) {
            self.subscribe_secret(&source.source, &name.name)?;
        }
        let known = self.secrets.known.entry(key.clone()).or_default();
        known.users += 1;
        if known.answered || self.context.secrets.has(&key) {
            return Ok(None);
        }
        Ok(Some((Need::Secret(key), source.initial_fetch_timeout)))
    }

    /// Ends what [`join_secrets`](Self::join_secrets) began; the last one to leave takes the subscription along.
    pub(crate) fn leave_secrets(&mut self, names: &[(SecretKind, &SecretName)]) {
        for (kind, name) in names {
            let key = SecretKey::new(*kind, name);
            let Some(known) = self.secrets.known.get_mut(&key) else {
                continue;
            };
            known.users -= 1;
            if known.users > 0 {
                continue;
            }
            self.secrets.known.remove(&key);
            self.context.secrets.forget(&key);
            if self.other_kind_is_known(&key) {
                continue;
            }
            self.world.book.pages().secrets.remove(Origin::Dynamic, &key.name);
            self.secrets.stats.remove(&key.name);
            match &key.source {
                Some(Source::Grpc(grpc)) => self.feeds.end_stream(grpc, &key.name),
                Some(source) => self.feeds.unsubscribe(source, SECRET, vec![key.name.clone()]),
                None => {}
            }
        }
    }

    /// One name may be asked for as a certificate and as a validation context: it is one subscription.
    fn other_kind_is_known(&self, key: &SecretKey) -> bool {
        let kind = match key.kind {
            SecretKind::Certificate => SecretKind::Validation,
            SecretKind::Validation => SecretKind::Certificate,
        };
        let other = SecretKey { kind, ..key.clone() };
        self.secrets.known.contains_key(&other)
    }

    fn subscribe_secret(&mut self, source: &Source, name: &str) -> Result<(), String> {
        match source {
            Source::Grpc(grpc) => self.open_secret_stream(grpc, name)?,
            source => self
                .feeds
                .subscribe(source, SECRET, Names::List(vec![name.to_owned()]))?,
        }
        let stats = Subscription::new(&self.world.registry, &format!("sds.{name}."));
        stats.asked();
        self.secrets.stats.insert(name.to_owned(), stats);
        let mut pages = self.world.book.pages();
        let placeholder = proto::Secret {
            name: name.to_owned(),
            ..proto::Secret::default()
        };
        let uninitialized = version(pack(&placeholder), "uninitialized");
        pages.secrets.set_warming(name, uninitialized);
        Ok(())
    }

    fn open_secret_stream(&mut self, grpc: &Arc<GrpcSource>, name: &str) -> Result<(), String> {
        let cluster = self.draft.cluster(&grpc.cluster);
        let cluster = cluster
            .ok_or_else(|| format!("secret `{name}`: sds_config: unknown cluster '{}'", grpc.cluster))?;
        let config = feeds::stream_config(grpc, cluster.config(), &self.feeds.node, &self.context.secrets)
            .map_err(|reason| format!("secret `{name}`: sds_config: {reason}"))?;
        let config = redplane_xds::Config {
            service: Service::Secret,
            ..config
        };
        self.feeds.start_stream(grpc, name, SECRET, config)
    }

    pub(crate) fn apply_secrets(&mut self, from: &From, update: &Update) -> Vec<Rejected> {
        let begun = Instant::now();
        let mut rejected = Vec::new();
        for resource in &update.resources {
            let result = self.put_secret(from, resource);
            let took = Instant::now().duration_since(begun);
            if let Some(stats) = self.secrets.stats.get(&resource.name) {
                match result {
                    Ok(()) => stats.accepted(&update.version, true, took),
                    Err(_) => stats.rejected(took),
                }
            }
            if let Err(reason) = result {
                rejected.push(Rejected::new(&resource.name, reason));
            }
            self.answer_secret(&(from.source(), resource.name.clone()));
        }
        let refused = update.refused.iter().map(|refused| &refused.name);
        for name in update.removed.iter().chain(refused) {
            self.answer_secret(&(from.source(), name.clone()));
        }
        rejected
    }

    fn put_secret(&self, from: &From, resource: &Resource) -> Result<(), String> {
        let message: proto::Secret = unpack(&resource.body)?;
        let mut ignored = Ignored::default();
        let secret =
            NamedSecret::from_proto(&message, &mut ignored).map_err(|invalid| invalid.to_string())?;
        self.count_ignored(&resource.name, &ignored);
        let key = SecretKey {
            kind: secret.value.kind(),
            name: resource.name.clone(),
            source: Some(from.source()),
        };
        if !self.secrets.known.contains_key(&key) {
            return Err(format!(
                "it is a {}, which nothing asks for under this name",
                noun(key.kind)
            ));
        }
        self.context.secrets.put(&key, &secret.value)?;
        tracing::info!(name = key.name, "secret taken");
        let resource_version = version(resource.body.clone(), &resource.version);
        let mut pages = self.world.book.pages();
        pages
            .secrets
            .set_active(Origin::Dynamic, &resource.name, resource_version);
        Ok(())
    }

    /// There was an answer about a name, good or bad.
    fn answer_secret(&mut self, (source, name): &Named) {
        for kind in [SecretKind::Certificate, SecretKind::Validation] {
            let key = SecretKey {
                kind,
                name: name.clone(),
                source: Some(source.clone()),
            };
            if let Some(known) = self.secrets.known.get_mut(&key) {
                known.answered = true;
                self.meet(&Need::Secret(key));
            }
        }
    }

    /// A file that cannot be read answers for all secrets that would be in it.
    pub(crate) fn answer_secrets_of(&mut self, source: &Source) {
        let keys = self.secrets.known.keys();
        let of = keys.filter(|key| key.source.as_ref() == Some(source));
        let names: Vec<Named> = of.map(|key| (source.clone(), key.name.clone())).collect();
        names.iter().for_each(|named| self.answer_secret(named));
    }

    /// No stream for a name, or none any more.
    pub(crate) fn count_secret_failure(&self, name: &str) {
        if let Some(stats) = self.secrets.stats.get(name) {
            stats.failed();
        }
    }

    /// A secret has not come within its time.
    pub(crate) fn count_secret_timeout(&mut self, key: &SecretKey) {
        let known = self.secrets.known.get_mut(key);
        let Some(known) = known.filter(|known| !known.late) else {
            return;
        };
        // Once for a name, however many wait for it.
        known.late = true;
        if let Some(stats) = self.secrets.stats.get(&key.name) {
            stats.timed_out();
        }
    }
}

/// The refusal of a secret that the bootstrap does not have.
pub(crate) fn unknown(kind: SecretKind, name: &str) -> String {
    format!("Unknown static {}: {name}", noun(kind))
}

fn noun(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Certificate => "TLS certificate",
        SecretKind::Validation => "certificate validation context",
    }
}
