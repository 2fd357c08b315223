//! `HashPolicy`: what of a request chooses its host in ring hash and Maglev clusters.

use std::time::Duration;

use http::HeaderName;
use redplane_proto::pb::envoy::config::route::v3::route_action as proto;
use redplane_proto::pb::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier;

use crate::field::{duration, non_empty};
use crate::http::pattern::Rewrite;
use crate::{Ignored, Invalid};

/// One policy; the hashes of all are mixed.
#[derive(Clone, Debug, PartialEq)]
pub struct HashPolicy {
    /// What is hashed.
    pub key: HashKey,
    /// Once there is a hash, later policies are passed over.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq)]
pub enum HashKey {
    /// All values of a header, rewritten where there is a rewrite.
    Header(HeaderName, Option<Rewrite>),
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// Where it is absent one is made that lives so long; zero is a session cookie, `None` makes none.
        ttl: Option<Duration>,
        /// `Path` of one that is made; may be empty.
        path: String,
        /// Further attributes of one that is made.
        attributes: Vec<(String, String)>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter.
    Query(String),
}

impl HashPolicy {
    /// Reads the message; `None` is a policy that hashes nothing, which is noted.
    pub(super) fn from_proto(
        message: &proto::HashPolicy,
        ignored: &mut Ignored,
    ) -> Result<Option<Self>, Invalid> {
        let key = match message.policy_specifier.as_ref() {
            None => return Err(Invalid::new("policy_specifier", "value is required")),
            Some(PolicySpecifier::Header(header)) => {
                let name = HeaderName::from_bytes(header.header_name.as_bytes())
                    .map_err(|_| Invalid::new("header.header_name", "is no header name"))?;
                let rewrite = header.regex_rewrite.as_ref().map(Rewrite::from_proto).transpose();
                HashKey::Header(
                    name,
                    rewrite.map_err(|refusal| refusal.within("header.regex_rewrite"))?,
                )
            }
            Some(PolicySpecifier::Cookie(cookie)) => HashKey::Cookie {
                name: non_empty(&cookie.name, "cookie.name")?,
                ttl: cookie
                    .ttl
                    .as_ref()
                    .map(|ttl| duration(ttl, "cookie.ttl"))
                    .transpose()?,
                path: cookie.path.clone(),
                attributes: cookie
                    .attributes
                    .iter()
                    .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
                    .collect(),
            },
            Some(PolicySpecifier::ConnectionProperties(properties)) if properties.source_ip => {
                HashKey::SourceIp
            }
            Some(PolicySpecifier::ConnectionProperties(_)) => {
                ignored.note("connection_properties: hashes nothing");
                return Ok(None);
            }
            Some(PolicySpecifier::QueryParameter(parameter)) => {
                HashKey::Query(non_empty(&parameter.name, "query_parameter.name")?)
            }
            Some(PolicySpecifier::FilterState(_)) => {
                ignored.note("filter_state: nothing sets one, it hashes nothing");
                return Ok(None);
            }
        };
        Ok(Some(Self {
            key,
            terminal: message.terminal,
        }))
    }
}
