//! Certificates and roots under their names, so that they can be exchanged while contexts, hosts and connections stay.
//!
//! The control side puts a secret into its slot; a context looks into its slots when a handshake begins and makes rustls's
//! objects anew when something in them is another. What is in a slot has been parsed and fits together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use redplane_config::cluster::Source;
use redplane_config::tls::{
    Certificate, SanKind, Secret, SecretKind, SecretName, SecretValue, Trust, Validation,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::sign::CertifiedKey;

use super::{pem, provider, san};

/// A certificate that can be presented.
#[derive(Debug)]
pub struct Identity {
    /// As configured.
    pub config: Arc<Certificate>,
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// DNS names of the leaf, wildcards among them.
    pub names: Vec<String>,
}

/// What a peer's certificate is checked with.
#[derive(Debug)]
pub struct Anchors {
    /// As configured.
    pub config: Arc<Validation>,
    /// The roots; `None` accepts any chain.
    pub roots: Option<Arc<RootCertStore>>,
}

impl Identity {
    /// Parses a certificate. The error is the reason of the refusal.
    ///
    /// # Errors
    ///
    /// PEM that cannot be read, or a key that cannot be used.
    pub fn new(config: &Arc<Certificate>) -> Result<Arc<Self>, String> {
        let chain =
            pem::certificates(&config.chain).map_err(|error| format!("certificate_chain: {error}"))?;
        let key = pem::key(&config.key).map_err(|error| format!("private_key: {error}"))?;
        let names = chain.first().map_or(Ok(Vec::new()), |leaf| san::names(leaf));
        let names = names.map_err(|error| format!("certificate_chain: {error}"))?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| format!("private_key: {error}"))?;
        let dns = names.into_iter().filter(|name| name.kind == SanKind::Dns);
        Ok(Arc::new(Self {
            config: Arc::clone(config),
            key: Arc::new(key),
            names: dns.map(|name| name.text).collect(),
        }))
    }
}

impl Anchors {
    /// Parses a validation context.
    ///
    /// # Errors
    ///
    /// Roots or revocation lists that cannot be used.
    pub fn new(config: &Arc<Validation>) -> Result<Arc<Self>, String> {
        let roots = match (config.system_roots, config.roots.is_empty()) {
            (true, _) => Some(pem::system_roots()?),
            (false, false) => {
                Some(pem::roots(&config.roots).map_err(|error| format!("trusted_ca: {error}"))?)
            }
            (false, true) => None,
        };
        pem::revocation_lists(&config.crl).map_err(|error| format!("crl: {error}"))?;
        Ok(Arc::new(Self {
            config: Arc::clone(config),
            roots: roots.map(Arc::new),
        }))
    }

    /// What came by SDS, merged over what stands in the message.
    fn over(self: &Arc<Self>, own: &Validation) -> Result<Arc<Self>, String> {
        if *own == Validation::default() {
            return Ok(Arc::clone(self));
        }
        let config = Arc::new(own.merged(&self.config));
        if own.has_roots() {
            return Self::new(&config);
        }
        Ok(Arc::new(Self {
            config,
            roots: self.roots.clone(),
        }))
    }

    /// The revocation lists.
    ///
    /// # Errors
    ///
    /// Text that is no PEM.
    pub fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
        pem::revocation_lists(&self.config.crl).map_err(|error| format!("crl: {error}"))
    }
}

/// The place of something that comes by name; empty until it has come.
type Slot<T> = Arc<ArcSwapOption<T>>;

/// What a secret is known by: its use, its name, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretKey {
    /// What it is for.
    pub kind: SecretKind,
    /// Its name.
    pub name: String,
    /// Its source; `None` is the bootstrap.
    pub source: Option<Source>,
}

impl SecretKey {
    /// The key of a secret that is named.
    pub fn new(kind: SecretKind, name: &SecretName) -> Self {
        Self {
            kind,
            name: name.name.clone(),
            source: name.source.as_ref().map(|source| source.source.clone()),
        }
    }
}

/// All secrets of the process by name. Cloning shares them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Slots>>);

#[derive(Default)]
struct Slots {
    identities: HashMap<SecretKey, Slot<Identity>>,
    anchors: HashMap<SecretKey, Slot<Anchors>>,
}

impl Secrets {
    /// Puts a secret where all who named it find it. A value that is equal to the present one changes nothing.
    ///
    /// # Errors
    ///
    /// It cannot be used; the former value stays.
    pub fn put(&self, key: &SecretKey, value: &SecretValue) -> Result<(), String> {
        match value {
            SecretValue::Certificate(config) => {
                let slot = self.identity(key);
                if slot.load().as_ref().is_none_or(|known| *known.config != **config) {
                    slot.store(Some(Identity::new(config)?));
                }
            }
            SecretValue::Validation(config) => {
                let slot = self.anchor(key);
                if slot.load().as_ref().is_none_or(|known| *known.config != **config) {
                    slot.store(Some(Anchors::new(config)?));
                }
            }
        }
        Ok(())
    }

    /// Whether a secret has come.
    pub fn has(&self, key: &SecretKey) -> bool {
        match key.kind {
            SecretKind::Certificate => self.certificate(key).is_some(),
            SecretKind::Validation => self.validation(key).is_some(),
        }
    }

    /// Nobody names it any more. Connections that are still there go on with what they have.
    pub fn forget(&self, key: &SecretKey) {
        let mut slots = self.slots();
        slots.identities.remove(key);
        slots.anchors.remove(key);
    }

    /// The certificate that has come under this key.
    pub fn certificate(&self, key: &SecretKey) -> Option<Arc<Certificate>> {
        let slot = self.slots().identities.get(key).cloned();
        slot.and_then(|slot| slot.load_full())
            .map(|identity| Arc::clone(&identity.config))
    }

    /// The validation context that has come under this key.
    pub fn validation(&self, key: &SecretKey) -> Option<Arc<Validation>> {
        let slot = self.slots().anchors.get(key).cloned();
        slot.and_then(|slot| slot.load_full())
            .map(|anchors| Arc::clone(&anchors.config))
    }

    fn identity(&self, key: &SecretKey) -> Slot<Identity> {
        Arc::clone(self.slots().identities.entry(key.clone()).or_default())
    }

    fn anchor(&self, key: &SecretKey) -> Slot<Anchors> {
        Arc::clone(self.slots().anchors.entry(key.clone()).or_default())
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Entries are made whole, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secrets of one context, those of the message and those in slots.
pub struct ContextSecrets {
    identities: Vec<MaterialSource<Identity>>,
    trust: Option<Roots>,
}

enum MaterialSource<T> {
    Here(Arc<T>),
    Named(SecretKey, Slot<T>),
}

enum Roots {
    Here(Arc<Anchors>),
    Named(Arc<Validation>, MaterialSource<Anchors>),
}

/// What a context's secrets are at one moment.
pub struct Material {
    /// Certificates to present.
    pub identities: Vec<Arc<Identity>>,
    /// How peers are checked.
    pub anchors: Option<Arc<Anchors>>,
    /// What came by name for [`Self::anchors`], before it was merged.
    came: Option<Arc<Anchors>>,
}

impl ContextSecrets {
    /// Parses what is here and finds the slots of what is named.
    ///
    /// # Errors
    ///
    /// A certificate, key or root that cannot be used.
    pub fn new(
        certificates: &[Secret<Arc<Certificate>>],
        trust: Option<&Trust>,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let identity = |secret: &Secret<Arc<Certificate>>| -> Result<_, String> {
            Ok(match secret {
                Secret::Here(config) => MaterialSource::Here(Identity::new(config)?),
                Secret::Named(name) => {
                    let key = SecretKey::new(SecretKind::Certificate, name);
                    let slot = secrets.identity(&key);
                    MaterialSource::Named(key, slot)
                }
            })
        };
        let roots = |trust: &Trust| -> Result<_, String> {
            Ok(match &trust.secret {
                None => Roots::Here(Anchors::new(&trust.own)?),
                Some(name) => {
                    let key = SecretKey::new(SecretKind::Validation, name);
                    let slot = secrets.anchor(&key);
                    Roots::Named(Arc::clone(&trust.own), MaterialSource::Named(key, slot))
                }
            })
        };
        Ok(Self {
            identities: certificates.iter().map(identity).collect::<Result<_, String>>()?,
            trust: trust.map(roots).transpose()?,
        })
    }

    /// Whether `material` is what there is now.
    pub fn is_current(&self, material: &Material) -> bool {
        let same = |(place, identity): (&MaterialSource<Identity>, &Arc<Identity>)| place.is(identity);
        let trust = match (&self.trust, &material.came) {
            (Some(Roots::Named(_, place)), Some(came)) => place.is(came),
            _ => true,
        };
        trust && self.identities.iter().zip(&material.identities).all(same)
    }

    /// What there is now.
    ///
    /// # Errors
    ///
    /// What has not come yet, or does not fit what it is merged with.
    pub fn material(&self) -> Result<Material, String> {
        let identities = self.identities.iter().map(MaterialSource::get);
        let identities = identities.collect::<Result<_, _>>()?;
        let (came, anchors) = match &self.trust {
            None => (None, None),
            Some(Roots::Here(anchors)) => (None, Some(Arc::clone(anchors))),
            Some(Roots::Named(own, place)) => {
                let came = place.get()?;
                let merged = came.over(own)?;
                (Some(came), Some(merged))
            }
        };
        if let Some(anchors) = &anchors
            && !anchors.config.sans.is_empty()
            && anchors.roots.is_none()
            && !anchors.config.accept_untrusted
        {
            return Err(
                "SAN-based verification of peer certificates without trusted CA is insecure".to_owned(),
            );
        }
        Ok(Material {
            identities,
            anchors,
            came,
        })
    }
}

impl<T> MaterialSource<T> {
    fn get(&self) -> Result<Arc<T>, String> {
        match self {
            Self::Here(value) => Ok(Arc::clone(value)),
            Self::Named(key, slot) => slot
                .load_full()
                .ok_or_else(|| format!("secret `{}` has not come", key.name)),
        }
    }

    fn is(&self, value: &Arc<T>) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Named(_, slot) => slot.load().as_ref().is_some_and(|now| Arc::ptr_eq(now, value)),
        }
    }
}
