//! The token that a cache takes as a password: a presigned URL without its scheme, as AWS's documentation has it.

use std::time::SystemTime;

use redplane_config::cluster::AwsIam;

use crate::credentials::Credentials;
use crate::sign::{Presign, presign};

/// `cache/?Action=connect&User=…` and a signature that is valid for as long as the configuration says.
pub fn token(iam: &AwsIam, region: &str, user: &str, credentials: &Credentials, time: SystemTime) -> String {
    let request = Presign {
        host: &iam.cache_name,
        path: "/",
        query: &[("Action", "connect"), ("User", user)],
        region,
        service: &iam.service_name,
        time,
        expires: iam.expiration_time,
    };
    format!("{}/?{}", iam.cache_name, presign(credentials, &request))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use redplane_config::cluster::AwsCredentials;

    use super::*;

    /// What botocore's `SigV4QueryAuth` (1.44.5) makes of the same at the same time.
    #[test]
    fn botocore_makes_the_same() {
        let made = |user: &str, region: &str, service: &str, expires: u64, session: Option<&str>| {
            let iam = AwsIam {
                cache_name: "my-cache".into(),
                service_name: service.into(),
                region: None,
                expiration_time: Duration::from_secs(expires),
                credentials: AwsCredentials::default(),
            };
            let credentials = Credentials {
                access_key_id: "AKIDEXAMPLE".into(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: session.map(str::to_owned),
                expires: None,
            };
            let time = UNIX_EPOCH + Duration::from_secs(1_772_368_496);
            token(&iam, region, user, &credentials, time)
        };
        assert_eq!(
            made("iam-user", "us-east-1", "elasticache", 60, None),
            "my-cache/?Action=connect&User=iam-user&X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20260301%2Fus-east-1%2Felasticache%2Faws4_request\
             &X-Amz-Date=20260301T123456Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=92a0ba4d9be25b022f1f5d4ca9f1d4d571048d7acf66589617b64305f7ec67f8"
        );
        // Botocore puts the session's token behind the signed headers; what is signed is sorted in both.
        let session = Some("FwoGZXIvYXdzEB4a+/==");
        let temporary = made("user with+/=~", "eu-west-1", "memorydb", 900, session);
        assert!(
            temporary.starts_with("my-cache/?Action=connect&User=user%20with%2B%2F%3D~&X-Amz-Algorithm="),
            "{temporary}"
        );
        assert!(
            temporary.contains("&X-Amz-Security-Token=FwoGZXIvYXdzEB4a%2B%2F%3D%3D&"),
            "{temporary}"
        );
        let signature = "&X-Amz-Signature=ef7e42dfd7b23e3ebb9ac0f1a3685706bd94d961047341aa08d4d21ccef03caa";
        assert!(temporary.ends_with(signature), "{temporary}");
    }
}
