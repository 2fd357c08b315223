//! What routes look at.

use http::{HeaderMap, Method};

/// The head of a request, normalised.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The path with its query.
    pub path: &'a str,
    /// Host, or `:authority`.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// All other headers.
    pub headers: &'a HeaderMap,
    /// Facts of the client's certificate.
    pub certificate: Certificate,
}

/// What `tls_context` of a route asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Certificate {
    /// The client sent one.
    pub presented: bool,
    /// It was checked and found good.
    pub validated: bool,
}

impl<'a> Head<'a> {
    /// The path without its query.
    pub fn path_only(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }

    /// The query without its question mark.
    pub fn query(&self) -> &'a str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }

    /// Calls `each` with every value of a header; pseudo headers go by their names.
    pub fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        match name {
            ":method" => each(self.method.as_str().as_bytes()),
            ":path" => each(self.path.as_bytes()),
            ":authority" | "host" => each(self.authority.as_bytes()),
            ":scheme" => each(self.scheme.as_bytes()),
            name => self
                .headers
                .get_all(name)
                .iter()
                .for_each(|value| each(value.as_bytes())),
        }
    }

    /// The first parameter of the query with that name, as it stands there: nothing is decoded.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query().split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name && !pair.is_empty()).then_some(value)
        })
    }

    /// The first cookie of that name.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let lines = self.headers.get_all(http::header::COOKIE);
        let mut pairs = lines
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'));
        pairs.find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then(|| value.trim_matches('"'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_cookies() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", "a=1; b=\"2\";c".parse().unwrap());
        headers.append("cookie", "a=3; d=4".parse().unwrap());
        let head = Head {
            method: &Method::GET,
            path: "/x?p&q=a%20b&q=c&=z",
            authority: "h",
            scheme: "http",
            headers: &headers,
            certificate: Certificate::default(),
        };
        assert_eq!((head.path_only(), head.query()), ("/x", "p&q=a%20b&q=c&=z"));
        let parameters = [("p", Some("")), ("q", Some("a%20b")), ("r", None)];
        for (name, value) in parameters {
            assert_eq!(head.parameter(name), value, "{name}");
        }
        for (name, value) in [("a", Some("1")), ("b", Some("2")), ("c", None), ("d", Some("4"))] {
            assert_eq!(head.cookie(name), value, "{name}");
        }
    }
}
