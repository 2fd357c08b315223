//! A request, reduced to what pages look at: the path, the query, and a form body.

use percent_encoding::percent_decode_str;

/// The query's parameters in their order, decoded. Only percent signs are decoded: a plus is part of a regex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) params: Params,
    /// The body's parameters when it is a form.
    pub(crate) form: Params,
}

impl Params {
    /// Parses `a=1&b`.
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(decoded.collect())
    }

    /// The first value of a key.
    pub(crate) fn first(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a key, unless it is empty.
    pub(crate) fn filled(&self, key: &str) -> Option<&str> {
        self.first(key).filter(|value| !value.is_empty())
    }

    /// Whether a key is there, whatever its value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.first(key).is_some()
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Decodes `%41`; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once() {
        let params = Params::parse("usedonly&filter=^(a%7Cb)+$&filter=second&x=%zz%4&=y&%61=1=2");
        assert!(params.has("usedonly") && !params.has("missing"));
        assert_eq!(params.first("filter"), Some("^(a|b)+$"));
        assert_eq!(params.first("x"), Some("%zz%4"));
        assert_eq!(params.first("a"), Some("1=2"));
        assert_eq!(params.filled("usedonly"), None);
        assert_eq!(Params::parse(""), Params::default());
        assert_eq!(Params::parse("a=%ff").first("a"), Some("\u{fffd}"));
    }
}
