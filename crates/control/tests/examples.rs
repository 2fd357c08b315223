//! Every folder of examples is read without a remark: an example that only almost matches teaches the wrong thing.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::PathBuf;

use redplane_control::World;

#[test]
fn every_example_is_read_without_a_remark() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let variants = std::fs::read_dir(examples.join("istio")).unwrap();
    let mut folders: Vec<_> = variants
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(folders.len() >= 5, "{folders:?}");
    folders.push(examples.join("quickstart/istio"));
    for folder in folders {
        let world =
            World::from_dir(&folder).unwrap_or_else(|faults| panic!("{}: {faults}", folder.display()));
        assert!(
            world.notes().is_empty(),
            "{}: {:?}",
            folder.display(),
            world.notes()
        );
        let patched = |name: &str| name.ends_with("redis_proxy");
        let mut filters = world
            .listeners()
            .iter()
            .flat_map(|l| &l.filter_chains)
            .flat_map(|c| &c.filters);
        assert!(
            filters.any(|filter| patched(&filter.name)),
            "{}: no redis_proxy",
            folder.display()
        );
    }
}
