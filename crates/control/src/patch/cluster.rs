//! `applyTo: CLUSTER`: ADD and INSERT_FIRST append, MERGE and REMOVE change the clusters that services made.
//!
//! As in Istiod, clusters that a patch adds are not seen by other patches, and their place in the list has no
//! meaning. Of two clusters with one name the first is kept, because a proxy refuses the whole list otherwise.

use redplane_proto::Json;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;

use super::merge;
use crate::finding::Finding;
use crate::istio::envoy_filter::{ClusterMatch, Operation, Patch, Target};

/// Patches `clusters` in place and returns the clusters to be added.
pub(super) fn apply(
    patches: &[Patch],
    clusters: &mut Vec<Cluster>,
    json: &Json,
    notes: &mut Vec<Finding>,
    faults: &mut Vec<Finding>,
) -> Vec<Cluster> {
    let mut inserted: Vec<Cluster> = Vec::new();
    for patch in patches {
        let Target::Cluster(wanted) = &patch.target else {
            continue;
        };
        let met = match patch.operation {
            Operation::Add | Operation::InsertFirst => match value(patch, json, notes) {
                Ok(cluster) if known(&cluster, clusters) || known(&cluster, &inserted) => {
                    notes
                        .push(patch.finding(format!("ignored: a cluster {} is there already", cluster.name)));
                    Ok(1)
                }
                Ok(cluster) => {
                    inserted.push(cluster);
                    Ok(1)
                }
                Err(fault) => Err(fault),
            },
            Operation::Merge => merge_into(patch, wanted, clusters, json, notes),
            Operation::Remove => {
                let before = clusters.len();
                clusters.retain(|cluster| !matches(wanted, &cluster.name));
                Ok(before - clusters.len())
            }
            other => Err(patch.finding(format!("operation {other:?} does not exist for CLUSTER"))),
        };
        match met {
            Ok(0) => notes.push(patch.finding("met nothing: no cluster matches")),
            Ok(_) => {}
            Err(fault) => faults.push(fault),
        }
    }
    inserted
}

fn known(cluster: &Cluster, clusters: &[Cluster]) -> bool {
    clusters.iter().any(|other| other.name == cluster.name)
}

fn value(patch: &Patch, json: &Json, notes: &mut Vec<Finding>) -> Result<Cluster, Finding> {
    let cluster: Cluster = super::read(patch, json, notes)?;
    if cluster.name.is_empty() && patch.operation != Operation::Merge {
        return Err(patch.finding("patch.value: name: is missing"));
    }
    Ok(cluster)
}

fn merge_into(
    patch: &Patch,
    wanted: &ClusterMatch,
    clusters: &mut [Cluster],
    json: &Json,
    notes: &mut Vec<Finding>,
) -> Result<usize, Finding> {
    let value = value(patch, json, notes)?;
    let mut met = 0;
    for cluster in clusters
        .iter_mut()
        .filter(|cluster| matches(wanted, &cluster.name))
    {
        *cluster =
            merge::message(cluster, &value, &patch.value, json).map_err(|reason| patch.finding(reason))?;
        met += 1;
    }
    Ok(met)
}

/// Istiod: a name decides alone; otherwise the parts of `outbound|port|subset|host` are compared.
fn matches(wanted: &ClusterMatch, name: &str) -> bool {
    if !wanted.name.is_empty() {
        return wanted.name == name;
    }
    let mut parts = name.splitn(4, '|').skip(1);
    let mut part = || parts.next().unwrap_or_default();
    let (port, subset, host) = (part(), part(), part());
    (wanted.port_number == 0 || port.parse() == Ok(wanted.port_number))
        && (wanted.subset.is_empty() || wanted.subset == subset)
        && (wanted.service.is_empty() || wanted.service == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: serde_json::Value) -> ClusterMatch {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn parts_of_a_name_are_matched_one_by_one() {
        let name = "outbound|6379|v2|redis.ns.svc.cluster.local";
        let cases = [
            (serde_json::json!({}), true),
            (serde_json::json!({"service": "redis.ns.svc.cluster.local"}), true),
            (serde_json::json!({"service": "redis"}), false),
            (serde_json::json!({"portNumber": 6379, "subset": "v2"}), true),
            (serde_json::json!({"portNumber": 6380}), false),
            (serde_json::json!({"name": name, "portNumber": 1}), true),
            (serde_json::json!({"name": "outbound|6379"}), false),
        ];
        for (json, expected) in cases {
            assert_eq!(matches(&wanted(json.clone()), name), expected, "{json}");
        }
        assert!(!matches(
            &wanted(serde_json::json!({"portNumber": 80})),
            "BlackHoleCluster"
        ));
    }
}
