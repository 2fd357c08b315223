//! DNS clusters against a small DNS server: times to live, changes, names that do not exist, failures.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redplane_config::cluster::{Cluster as Config, Discovery, Dns as Settings, DnsFamily, LbPolicy};
use redplane_telemetry::Registry;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Context, Dns};
use tokio::net::UdpSocket;

use super::model::{assignment, config, named, until};

const NEVER: Duration = Duration::from_secs(3600);

/// What the server knows of a name.
#[derive(Clone)]
enum Record {
    /// A records with a TTL in seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// The server fails.
    Broken,
}

#[derive(Clone, Default)]
pub(crate) struct Zone {
    records: Arc<Mutex<HashMap<String, Record>>>,
    asked: Arc<AtomicUsize>,
}

impl Zone {
    pub(crate) fn set(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.records
            .lock()
            .unwrap()
            .insert(name.to_owned(), Record::Addresses(addresses, ttl));
    }

    /// Queries so far.
    pub(crate) fn queries(&self) -> usize {
        self.asked.load(SeqCst)
    }

    async fn serve(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = self.clone();
        tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut query).await {
                zone.asked.fetch_add(1, SeqCst);
                let reply = zone.reply(&query[..length]);
                let _ = socket.send_to(&reply, client).await;
            }
        });
        address
    }

    /// RFC 1035: header, the question as it came, answers that point to its name.
    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let (mut labels, mut at) = (Vec::new(), 12);
        while query[at] > 0 {
            let end = at + 1 + usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
            at = end;
        }
        let (kind, question) = (query[at + 2], &query[12..at + 5]);
        let record = self.records.lock().unwrap().get(&labels.join(".")).cloned();
        let (code, answers, ttl) = match record {
            Some(Record::Addresses(addresses, ttl)) if kind == 1 => (0, addresses, ttl),
            Some(Record::Addresses(..)) => (0, Vec::new(), 0),
            Some(Record::Broken) => (2, Vec::new(), 0),
            None => (3, Vec::new(), 0),
        };
        let mut reply = [
            &query[..2],
            &[0x81, 0x80 | code, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0],
            question,
        ]
        .concat();
        for address in answers {
            reply.extend([0xc0, 12, 0, 1, 0, 1]);
            reply.extend(ttl.to_be_bytes());
            reply.extend([0, 4]);
            reply.extend(address.octets());
        }
        reply
    }
}

fn settings(refresh_rate: Duration, respect_ttl: bool) -> Settings {
    let assignment = assignment(vec![named("redis.test", 6379)]);
    Settings {
        assignment,
        family: DnsFamily::Auto,
        refresh_rate,
        respect_ttl,
    }
}

pub(crate) async fn start(zone: &Zone, config: Config) -> Arc<Cluster> {
    let dns = Dns::with_server(zone.serve().await, "/nonexistent");
    redplane_discovery::start(Arc::new(config), &Context::new(Registry::new(), dns, "")).unwrap()
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster
        .topology()
        .hosts
        .iter()
        .map(|host| host.address.to_string())
        .collect()
}

#[tokio::test]
async fn strict_dns_follows_the_time_to_live() {
    let zone = Zone::default();
    zone.set("redis.test", &["10.0.0.1", "10.0.0.2"], 1);
    let cluster = start(
        &zone,
        config(
            "dns",
            Discovery::StrictDns(settings(NEVER, true)),
            LbPolicy::RoundRobin,
        ),
    )
    .await;
    assert!(!cluster.is_warm());
    cluster.warmed().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:6379", "10.0.0.2:6379"]);
    let kept = cluster.topology().hosts[1].id;
    zone.set("redis.test", &["10.0.0.2", "10.0.0.3"], 1);
    until("the next answer", || {
        addresses(&cluster) == ["10.0.0.2:6379", "10.0.0.3:6379"]
    })
    .await;
    assert_eq!(cluster.topology().hosts[0].id, kept);
    assert_eq!(cluster.stats().counter(names::MEMBERSHIP_CHANGE), 2);
}

#[tokio::test]
async fn a_failure_keeps_hosts_and_an_empty_answer_takes_them() {
    let zone = Zone::default();
    zone.set("redis.test", &["10.0.0.1"], 3600);
    let often = Duration::from_millis(20);
    let cluster = start(
        &zone,
        config(
            "dns",
            Discovery::StrictDns(settings(often, false)),
            LbPolicy::RoundRobin,
        ),
    )
    .await;
    cluster.warmed().await;
    let before = zone.asked.load(SeqCst);
    until("look-ups before the TTL ends", || {
        zone.asked.load(SeqCst) > before + 4
    })
    .await;
    zone.records
        .lock()
        .unwrap()
        .insert("redis.test".to_owned(), Record::Broken);
    until("a failure", || cluster.stats().counter(names::UPDATE_FAILURE) > 0).await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:6379"]);
    zone.records.lock().unwrap().clear();
    until("the name is gone", || cluster.topology().hosts.is_empty()).await;
    until("and counted", || cluster.stats().counter(names::UPDATE_EMPTY) > 0).await;
}

#[tokio::test]
async fn a_logical_host_keeps_its_identity_at_a_new_address() {
    let zone = Zone::default();
    zone.set("redis.test", &["10.0.0.1", "10.0.0.2"], 1);
    let cluster = start(
        &zone,
        config(
            "dns",
            Discovery::LogicalDns(settings(NEVER, true)),
            LbPolicy::RoundRobin,
        ),
    )
    .await;
    cluster.warmed().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:6379"]);
    let id = cluster.topology().hosts[0].id;
    zone.set("redis.test", &["10.0.0.9"], 3600);
    until("the new address", || addresses(&cluster) == ["10.0.0.9:6379"]).await;
    assert_eq!(cluster.topology().hosts[0].id, id);
}
