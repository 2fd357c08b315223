//! Names to addresses: literals, the hosts file, then the servers of the system's resolver configuration.
//!
//! A name that stands in the hosts file is answered from there alone, as c-ares does for Envoy. A name that does not
//! exist is an empty answer, not an error, as in Envoy's DNS clusters.

mod hosts_file;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use redplane_config::cluster::DnsFamily;

/// A resolver. Cloning shares its cache and connections.
#[derive(Clone)]
pub struct Dns {
    /// Or why there is none.
    resolver: Arc<Result<TokioResolver, String>>,
    hosts: Arc<Path>,
}

/// Addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// In the order of the answer, preferred family only. Empty: the name has none.
    pub addresses: Vec<IpAddr>,
    /// How long the answer holds. An hour for literals and the hosts file.
    pub ttl: Duration,
}

/// The resolver could not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct DnsError {
    /// What was asked.
    pub name: String,
    /// Why there is no answer.
    pub reason: String,
}

/// How long literals and hosts file entries hold.
const LONG: Duration = Duration::from_secs(3600);

impl Dns {
    /// The system's configuration (`/etc/resolv.conf`, `/etc/hosts`). Without a usable one only literals and the
    /// hosts file are answered.
    pub fn system() -> Self {
        Self::with_hosts("/etc/hosts")
    }

    /// The system's servers with another hosts file.
    pub fn with_hosts(hosts: impl Into<PathBuf>) -> Self {
        Self::built(TokioResolver::builder_tokio(), hosts.into())
    }

    /// One server instead of the system's, and another hosts file.
    pub fn with_server(server: SocketAddr, hosts: impl Into<PathBuf>) -> Self {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Self::built(Ok(builder), hosts.into())
    }

    fn built(builder: Result<ResolverBuilder<TokioRuntimeProvider>, NetError>, hosts: PathBuf) -> Self {
        let resolver = builder.and_then(|mut builder| {
            let options = builder.options_mut();
            options.use_hosts_file = ResolveHosts::Never;
            // A refresh asks the servers, as c-ares does for Envoy; the TTL says when to refresh, not what to repeat.
            options.cache_size = 0;
            builder.build()
        });
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no usable resolver configuration: only literals and the hosts file are resolved");
        }
        Self {
            resolver: Arc::new(resolver.map_err(|error| error.to_string())),
            hosts: hosts.into(),
        }
    }

    /// Addresses of a name or literal, of the families asked for.
    ///
    /// # Errors
    ///
    /// The servers gave no answer in time, or a faulty one.
    pub async fn resolve(&self, name: &str, family: DnsFamily) -> Result<Resolved, DnsError> {
        if let Ok(literal) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Resolved {
                addresses: vec![literal.to_canonical()],
                ttl: LONG,
            });
        }
        let listed = hosts_file::find(&self.hosts, name);
        if !listed.is_empty() {
            let of = |v6: bool| {
                listed
                    .iter()
                    .copied()
                    .filter(|ip| ip.is_ipv6() == v6)
                    .collect::<Vec<_>>()
            };
            return Ok(Resolved {
                addresses: preferred(family, of(false), of(true)),
                ttl: LONG,
            });
        }
        self.look_up(name, family).await
    }

    async fn look_up(&self, name: &str, family: DnsFamily) -> Result<Resolved, DnsError> {
        let v4 = async {
            match family {
                DnsFamily::V6Only => Ok(Resolved::none()),
                _ => self.records(name, RecordType::A).await,
            }
        };
        let v6 = async {
            match family {
                DnsFamily::V4Only => Ok(Resolved::none()),
                _ => self.records(name, RecordType::AAAA).await,
            }
        };
        match tokio::join!(v4, v6) {
            (Ok(v4), Ok(v6)) => {
                let ttl = v4.ttl.min(v6.ttl);
                Ok(Resolved {
                    addresses: preferred(family, v4.addresses, v6.addresses),
                    ttl,
                })
            }
            // One family is enough if it has addresses.
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.addresses.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Resolved, DnsError> {
        let failed = |reason: String| DnsError {
            name: name.to_owned(),
            reason,
        };
        let resolver = self
            .resolver
            .as_ref()
            .as_ref()
            .map_err(|reason| failed(reason.clone()))?;
        let lookup = match resolver.lookup(name, kind).await {
            Ok(lookup) => lookup,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => return Ok(Resolved::none()),
            Err(error) => return Err(failed(error.to_string())),
        };
        let address = |data: &RData| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        };
        let addresses = lookup
            .answers()
            .iter()
            .filter_map(|record| address(&record.data))
            .collect();
        Ok(Resolved {
            addresses,
            ttl: lookup.valid_until().saturating_duration_since(Instant::now()),
        })
    }
}

impl Resolved {
    /// No addresses, and nothing to say on how long.
    fn none() -> Self {
        Self {
            addresses: Vec::new(),
            ttl: LONG,
        }
    }
}

/// What `dns_lookup_family` leaves of two families.
fn preferred(family: DnsFamily, v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    match family {
        DnsFamily::V4Only => v4,
        DnsFamily::V6Only => v6,
        DnsFamily::Auto => {
            if v6.is_empty() {
                v4
            } else {
                v6
            }
        }
        DnsFamily::V4Preferred => {
            if v4.is_empty() {
                v6
            } else {
                v4
            }
        }
        DnsFamily::All => v4.into_iter().chain(v6).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn dns() -> (Dns, tempfile::NamedTempFile) {
        let mut hosts = tempfile::NamedTempFile::new().unwrap();
        write!(
            hosts,
            "# head\n127.0.0.1\tlocalhost one # tail\n::1 localhost\n10.0.0.9 One.Example.  other\nbad line\n"
        )
        .unwrap();
        (Dns::with_hosts(hosts.path()), hosts)
    }

    async fn answer(dns: &Dns, name: &str, family: DnsFamily) -> Vec<String> {
        dns.resolve(name, family)
            .await
            .unwrap()
            .addresses
            .iter()
            .map(IpAddr::to_string)
            .collect()
    }

    #[tokio::test]
    async fn literals_need_no_server() {
        let (dns, _file) = dns();
        assert_eq!(answer(&dns, "10.1.2.3", DnsFamily::V6Only).await, ["10.1.2.3"]);
        assert_eq!(answer(&dns, "[fd00::1]", DnsFamily::Auto).await, ["fd00::1"]);
        assert_eq!(
            answer(&dns, "::ffff:10.0.0.1", DnsFamily::Auto).await,
            ["10.0.0.1"]
        );
    }

    #[tokio::test]
    async fn hosts_file_answers_by_family() {
        let (dns, _file) = dns();
        assert_eq!(answer(&dns, "localhost", DnsFamily::V4Only).await, ["127.0.0.1"]);
        assert_eq!(answer(&dns, "localhost", DnsFamily::Auto).await, ["::1"]);
        assert_eq!(
            answer(&dns, "LOCALHOST.", DnsFamily::V4Preferred).await,
            ["127.0.0.1"]
        );
        assert_eq!(
            answer(&dns, "localhost", DnsFamily::All).await,
            ["127.0.0.1", "::1"]
        );
        assert_eq!(answer(&dns, "one.example", DnsFamily::Auto).await, ["10.0.0.9"]);
        assert!(answer(&dns, "other", DnsFamily::V6Only).await.is_empty());
    }
}
