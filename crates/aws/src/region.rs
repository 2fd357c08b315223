//! The region where none is configured. Envoy: `region_provider_impl.cc`.

use crate::environment::Environment;
use crate::profile;

/// `AWS_REGION`, `AWS_DEFAULT_REGION`, then the profile's in the credentials file and in the configuration file.
pub fn region(environment: &Environment) -> Option<String> {
    let named = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    if let Some(region) = named.iter().find_map(|name| environment.get(name)) {
        return Some(region.to_owned());
    }
    let profile = environment.get("AWS_PROFILE").unwrap_or("default");
    let files = [
        environment.file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        environment.file("AWS_CONFIG_FILE", ".aws/config"),
    ];
    let mut texts = files
        .into_iter()
        .flatten()
        .filter_map(|path| profile::read(&path));
    texts.find_map(|text| profile::setting(&text, profile, "region"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_comes_before_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(
            &path,
            "[default]\nregion = eu-west-1\n[profile p]\nregion=ap-south-1\n",
        )
        .unwrap();
        let file = ("AWS_CONFIG_FILE", path.to_str().unwrap());
        let of = |variables: &[(&str, &str)]| region(&Environment::of(&[&[file], variables].concat()));
        assert_eq!(of(&[]).as_deref(), Some("eu-west-1"));
        assert_eq!(of(&[("AWS_PROFILE", "p")]).as_deref(), Some("ap-south-1"));
        assert_eq!(
            of(&[("AWS_DEFAULT_REGION", "us-west-2")]).as_deref(),
            Some("us-west-2")
        );
        let both = [("AWS_DEFAULT_REGION", "us-west-2"), ("AWS_REGION", "us-east-1")];
        assert_eq!(of(&both).as_deref(), Some("us-east-1"));
        assert_eq!(region(&Environment::of(&[])), None);
    }
}
