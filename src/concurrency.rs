//! How many workers: what the container's CPU quota gives, rounded up, and never more than the CPUs allowed.
//!
//! cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`), from our own group up to the root.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The default of `--concurrency`.
pub(crate) fn default() -> usize {
    let allowed = allowed().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let quota = folders(&groups).iter().filter_map(|folder| quota(folder)).min();
    quota.map_or(allowed, |quota| quota.min(allowed)).max(1)
}

/// Every folder that may limit us.
fn folders(groups: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            list if list.split(',').any(|controller| controller == "cpu") => Path::new("/sys/fs/cgroup/cpu"),
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        let up = own.ancestors().take_while(|folder| folder.starts_with(root));
        folders.extend(up.map(Path::to_owned));
    }
    folders
}

fn quota(folder: &Path) -> Option<usize> {
    let read = |name: &str| read_to_string(folder.join(name)).ok();
    read("cpu.max").as_deref().and_then(whole).or_else(|| {
        let (quota, period) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
        whole(&format!("{} {}", quota.trim(), period.trim()))
    })
}

/// CPUs of `<quota> <period>`, rounded up; `max` and -1 are no limit.
fn whole(text: &str) -> Option<usize> {
    let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().ok());
    let (quota, period) = (numbers.next()??, numbers.next()??);
    (period > 0).then(|| usize::try_from(quota.div_ceil(period)).unwrap_or(usize::MAX))
}

/// CPUs we may run on.
fn allowed() -> Option<usize> {
    let status = read_to_string("/proc/self/status").ok()?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    count(list.trim())
}

/// `0-3,8` is 5.
fn count(list: &str) -> Option<usize> {
    let ranges = list.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    });
    ranges.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up() {
        assert_eq!(whole("150000 100000\n"), Some(2));
        assert_eq!(whole("10000 100000"), Some(1));
        assert_eq!(whole("max 100000"), None);
        assert_eq!(whole("-1 100000"), None);
        assert_eq!(whole(""), None);
    }

    #[test]
    fn lists_of_cpus_are_counted() {
        assert_eq!(count("0-3,8"), Some(5));
        assert_eq!(count("7"), Some(1));
        assert_eq!(count("3-1"), None);
    }

    #[test]
    fn all_groups_up_to_the_root_count() {
        let folders = folders("4:cpu,cpuacct:/docker/a\n3:memory:/docker/a\n0::/kube/pod\n");
        let texts: Vec<String> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        assert_eq!(
            texts,
            [
                "/sys/fs/cgroup/cpu/docker/a",
                "/sys/fs/cgroup/cpu/docker",
                "/sys/fs/cgroup/cpu",
                "/sys/fs/cgroup/kube/pod",
                "/sys/fs/cgroup/kube",
                "/sys/fs/cgroup"
            ]
        );
    }
}
