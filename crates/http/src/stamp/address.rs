//! Who the client is: the socket's peer, or what trusted proxies say of it in `x-forwarded-for`.
//!
//! Envoy: `ConnectionManagerUtility::mutateRequestHeaders`, `Utility::getLastAddressFromXFF`.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use redplane_config::http::hcm::HeaderSettings;

/// The client; `peer` is the one of the connection. What is read from a header has the port 0.
pub(super) fn client(
    headers: &HeaderMap,
    settings: &HeaderSettings,
    peer: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let hops = settings.trusted_hops as usize;
    let told = match (settings.use_remote_address, hops) {
        (true, 0) => None,
        // The nearest proxy is the peer itself, and is not in the list yet.
        (true, hops) => forwarded(headers, hops - 1),
        (false, hops) => forwarded(headers, hops),
    };
    told.map(|address| SocketAddr::new(address, 0)).or(peer)
}

/// The entry of `x-forwarded-for` that has so many behind it.
fn forwarded(headers: &HeaderMap, skipped: usize) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let entry = entries.nth(skipped)?;
    std::str::from_utf8(entry).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_from_the_right() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "10.0.0.1, 10.0.0.2".parse().unwrap());
        headers.append("x-forwarded-for", "fd00::3 ,x".parse().unwrap());
        let expected = [None, Some("fd00::3"), Some("10.0.0.2"), Some("10.0.0.1"), None];
        for (skipped, expected) in expected.into_iter().enumerate() {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(forwarded(&headers, skipped), expected, "{skipped}");
        }
    }
}
