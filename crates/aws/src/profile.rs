//! Profiles in `~/.aws/credentials` and `~/.aws/config`: sections in brackets, names and values.

use std::path::Path;

/// Larger files are no profiles.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file of profiles; `None` when there is none that can be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let fits = metadata.is_file() && metadata.len() <= MAX_BYTES;
    fits.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// A setting of a profile. In the configuration file sections other than `default` are named `profile x`.
pub(crate) fn setting(text: &str, profile: &str, name: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let section = section.trim();
            inside = section == profile || section.strip_prefix("profile ").map(str::trim) == Some(profile);
            continue;
        }
        if let Some((key, value)) = line.split_once('=').filter(|_| inside)
            && key.trim().eq_ignore_ascii_case(name)
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_belong_to_their_profile() {
        let text = "# c\n[default]\na = 1\n b=x=y\n[ other ]\na=2\n[profile third]\nA = 3\n;a=4\nempty =\n[default]\nlate=5";
        let get = |profile, name| setting(text, profile, name);
        assert_eq!(get("default", "a").as_deref(), Some("1"));
        assert_eq!(get("default", "b").as_deref(), Some("x=y"));
        assert_eq!(get("other", "a").as_deref(), Some("2"));
        assert_eq!(get("third", "a").as_deref(), Some("3"));
        assert_eq!(get("default", "late").as_deref(), Some("5"));
        assert_eq!(get("third", "empty"), None);
        assert_eq!(get("none", "a"), None);
    }
}
