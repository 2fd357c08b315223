//! Permissions and principals: one tree for both, since both ask about the same facts.

use std::ops::Range;

use redplane_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use redplane_proto::pb::envoy::config::rbac::v3 as proto;
use redplane_proto::pb::envoy::config::rbac::v3::permission::Rule;
use redplane_proto::pb::envoy::config::rbac::v3::principal::Identifier;
use redplane_proto::pb::envoy::config::route::v3::HeaderMatcher as HeaderProto;
use redplane_proto::pb::envoy::extensions::rbac::principals::mtls_authenticated::v3 as mtls;
use redplane_proto::pb::envoy::r#type::matcher::v3::path_matcher::Rule as PathRule;
use redplane_proto::pb::envoy::r#type::matcher::v3::{MetadataMatcher as MetadataProto, PathMatcher};
use redplane_proto::pb::envoy::r#type::v3::Int32Range;

use super::{Scope, some};
use crate::Cidr;
use crate::extension::{Extension, type_name};
use crate::field::{enumeration, port, required};
use crate::matcher::{HeaderMatcher, MetadataMatcher, StringMatcher, UriTemplate};
use crate::tls::{SanKind, SanMatcher};
use crate::{Ignored, Invalid};

/// A `Permission` or a `Principal`.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Holds whatever the facts are.
    Always,
    /// Cannot be evaluated; the field that it stood in.
    Unknown(String),
    /// All of these.
    All(Vec<Self>),
    /// Any of these.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A header of the request.
    Header(HeaderMatcher),
    /// The path of the request without query and fragment.
    UrlPath(StringMatcher),
    /// The same by a template.
    UriTemplate(UriTemplate),
    /// The address that the client connected to, before any redirection.
    DestinationIp(Cidr),
    /// Its port.
    DestinationPort(u16),
    /// Its port; the end is not among them.
    DestinationPorts(Range<u32>),
    /// The name that the client asked for in TLS; empty if it asked for none.
    ServerName(StringMatcher),
    /// Metadata of the request or of its route.
    Metadata(MetadataSource, MetadataMatcher),
    /// A name of the client's certificate: any URI, else any DNS name, else the subject. `None`: any TLS connection.
    Authenticated(Option<StringMatcher>),
    /// `mtls_authenticated`: the client showed a certificate that was validated, with this name if one is given.
    Certificate(Option<SanMatcher>),
    /// The client's address, as the proxy protocol tells it.
    SourceIp(Cidr),
    /// The address of the socket's peer.
    DirectRemoteIp(Cidr),
    /// The client's address, as the proxy protocol or `x-forwarded-for` tells it.
    RemoteIp(Cidr),
}

/// `MetadataSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataSource {
    /// What filters wrote.
    Dynamic,
    /// The route's own.
    Route,
}

impl Condition {
    /// A condition that is not evaluated here: said aloud.
    pub(super) fn unknown(field: &str, what: &str, ignored: &mut Ignored) -> Self {
        ignored.note(format!(
            "{field}: {what} is not evaluated, what depends on it is denied"
        ));
        Self::Unknown(field.to_owned())
    }

    /// Reads a permission; its depth is bounded by the protobuf decoder.
    pub(super) fn permission(
        message: &proto::Permission,
        scope: Scope,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let list = |field: &str, set: &proto::permission::Set, ignored: &mut Ignored| {
            let rules = some(&set.rules, &format!("{field}.rules"))?;
            ignored.each(&format!("{field}.rules"), rules, |rule, ignored| {
                Self::permission(rule, scope, ignored)
            })
        };
        Ok(match required(message.rule.as_ref(), "rule")? {
            Rule::AndRules(set) => Self::All(list("and_rules", set, ignored)?),
            Rule::OrRules(set) => Self::Any(list("or_rules", set, ignored)?),
            Rule::NotRule(rule) => Self::Not(Box::new(
                ignored.scope("not_rule", |ignored| Self::permission(rule, scope, ignored))?,
            )),
            Rule::Any(any) => always(*any)?,
            Rule::Header(message) => header(message, scope)?,
            Rule::UrlPath(path) => of_request("url_path", scope, ignored, |_| url_path(path))?,
            Rule::UriTemplate(template) => of_request("uri_template", scope, ignored, |ignored| {
                UriTemplate::from_proto(template, ignored).map(Self::UriTemplate)
            })?,
            Rule::DestinationIp(range) => Self::DestinationIp(cidr("destination_ip", range)?),
            Rule::DestinationPort(value) => Self::DestinationPort(port(*value, "destination_port")?),
            Rule::DestinationPortRange(range) => Self::DestinationPorts(ports(range)?),
            Rule::Metadata(metadata) => {
                of_request("metadata", scope, ignored, |_| dynamic_metadata(metadata))?
            }
            Rule::SourcedMetadata(metadata) => {
                of_request("sourced_metadata", scope, ignored, |_| sourced_metadata(metadata))?
            }
            Rule::RequestedServerName(name) => Self::ServerName(text("requested_server_name", name)?),
            Rule::Matcher(extension) => Self::unknown("matcher", &extension.name, ignored),
        })
    }

    /// Reads a principal; its depth is bounded by the protobuf decoder.
    pub(super) fn principal(
        message: &proto::Principal,
        scope: Scope,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let list = |field: &str, set: &proto::principal::Set, ignored: &mut Ignored| {
            let ids = some(&set.ids, &format!("{field}.ids"))?;
            ignored.each(&format!("{field}.ids"), ids, |id, ignored| {
                Self::principal(id, scope, ignored)
            })
        };
        Ok(match required(message.identifier.as_ref(), "identifier")? {
            Identifier::AndIds(set) => Self::All(list("and_ids", set, ignored)?),
            Identifier::OrIds(set) => Self::Any(list("or_ids", set, ignored)?),
            Identifier::NotId(id) => Self::Not(Box::new(
                ignored.scope("not_id", |ignored| Self::principal(id, scope, ignored))?,
            )),
            Identifier::Any(any) => always(*any)?,
            Identifier::Authenticated(authenticated) => {
                let name = authenticated.principal_name.as_ref();
                Self::Authenticated(
                    name.map(|name| text("authenticated.principal_name", name))
                        .transpose()?,
                )
            }
            Identifier::SourceIp(range) => Self::SourceIp(cidr("source_ip", range)?),
            Identifier::DirectRemoteIp(range) => Self::DirectRemoteIp(cidr("direct_remote_ip", range)?),
            Identifier::RemoteIp(range) => Self::RemoteIp(cidr("remote_ip", range)?),
            Identifier::Header(message) => header(message, scope)?,
            Identifier::UrlPath(path) => of_request("url_path", scope, ignored, |_| url_path(path))?,
            Identifier::Metadata(metadata) => {
                of_request("metadata", scope, ignored, |_| dynamic_metadata(metadata))?
            }
            Identifier::SourcedMetadata(metadata) => {
                of_request("sourced_metadata", scope, ignored, |_| sourced_metadata(metadata))?
            }
            Identifier::FilterState(state) => Self::unknown("filter_state", &state.key, ignored),
            Identifier::Custom(extension) => {
                ignored.scope("custom", |ignored| custom_principal(extension, ignored))?
            }
        })
    }
}

/// `any`, of which only `true` is allowed.
fn always(any: bool) -> Result<Condition, Invalid> {
    if !any {
        return Err(Invalid::new("any", "value must equal true"));
    }
    Ok(Condition::Always)
}

/// A header of the request. Envoy refuses it where there are none.
fn header(message: &HeaderProto, scope: Scope) -> Result<Condition, Invalid> {
    if scope == Scope::Connection {
        return Err(Invalid::new(
            "header",
            "rule not supported by RBAC network filter",
        ));
    }
    HeaderMatcher::from_proto(message)
        .map(Condition::Header)
        .map_err(|refusal| refusal.within("header"))
}

/// A condition on what only a request has. It is read in any case: a malformed one is refused.
fn of_request(
    field: &str,
    scope: Scope,
    ignored: &mut Ignored,
    read: impl FnOnce(&mut Ignored) -> Result<Condition, Invalid>,
) -> Result<Condition, Invalid> {
    let condition = ignored.scope(field, read)?;
    Ok(match scope {
        Scope::Request => condition,
        Scope::Connection => Condition::unknown(field, "a connection has no requests: it", ignored),
    })
}

fn text(
    field: &str,
    message: &redplane_proto::pb::envoy::r#type::matcher::v3::StringMatcher,
) -> Result<StringMatcher, Invalid> {
    StringMatcher::from_proto(message).map_err(|refusal| refusal.within(field))
}

fn cidr(
    field: &str,
    message: &redplane_proto::pb::envoy::config::core::v3::CidrRange,
) -> Result<Cidr, Invalid> {
    Cidr::from_proto(message).map_err(|refusal| refusal.within(field))
}

fn url_path(message: &PathMatcher) -> Result<Condition, Invalid> {
    let PathRule::Path(path) = required(message.rule.as_ref(), "rule")?;
    text("path", path).map(Condition::UrlPath)
}

fn dynamic_metadata(message: &MetadataProto) -> Result<Condition, Invalid> {
    Ok(Condition::Metadata(
        MetadataSource::Dynamic,
        MetadataMatcher::from_proto(message)?,
    ))
}

fn sourced_metadata(message: &proto::SourcedMetadata) -> Result<Condition, Invalid> {
    let source = match enumeration(message.metadata_source, "metadata_source")? {
        proto::MetadataSource::Dynamic => MetadataSource::Dynamic,
        proto::MetadataSource::Route => MetadataSource::Route,
    };
    let matcher = required(message.metadata_matcher.as_ref(), "metadata_matcher")?;
    let matcher =
        MetadataMatcher::from_proto(matcher).map_err(|refusal| refusal.within("metadata_matcher"))?;
    Ok(Condition::Metadata(source, matcher))
}

fn ports(range: &Int32Range) -> Result<Range<u32>, Invalid> {
    let bound = |what: &str, value: i32| match u32::try_from(value) {
        Ok(value) if value <= 65_536 => Ok(value),
        _ => Err(Invalid::new(
            "destination_port_range",
            format!("range {what} {value} is out of bounds"),
        )),
    };
    let (start, end) = (bound("start", range.start)?, bound("end", range.end)?);
    if start >= end {
        let reason = format!("range start {start} cannot be greater or equal than range end {end}");
        return Err(Invalid::new("destination_port_range", reason));
    }
    Ok(start..end)
}

/// `mtls_authenticated` is the one extension that is known.
fn custom_principal(message: &TypedExtensionConfig, ignored: &mut Ignored) -> Result<Condition, Invalid> {
    let extension = Extension::new(&message.name, message.typed_config.as_ref());
    if type_name(&extension.type_url) != "envoy.extensions.rbac.principals.mtls_authenticated.v3.Config" {
        return Ok(Condition::unknown("typed_config", extension.label(), ignored));
    }
    let config: mtls::Config = extension.decode(ignored)?;
    match &config.san_matcher {
        Some(san) => {
            let san =
                SanMatcher::from_proto(san).map_err(|refusal| refusal.within("typed_config.san_matcher"))?;
            // Only these are kept of a connection.
            if !matches!(san.kind, SanKind::Uri | SanKind::Dns) {
                return Ok(Condition::unknown(
                    "typed_config.san_matcher",
                    "a kind of name but URI and DNS",
                    ignored,
                ));
            }
            Ok(Condition::Certificate(Some(san)))
        }
        None if config.any_validated_client_certificate => Ok(Condition::Certificate(None)),
        None => Err(Invalid::new(
            "typed_config",
            "One of `any_validated_client_certificate` or `san_matcher` must be set in the mTLS authenticated \
             configuration",
        )),
    }
}
