//! Listener filters: what looks at a connection before a chain is chosen, in the order in which it looks.

use redplane_proto::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use redplane_proto::pb::envoy::extensions::filters::listener as typed;
use redplane_proto::type_url;

use super::predicate::Predicate;
use crate::extension::Extension;
use crate::field::{enumeration, non_empty};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// One listener filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFilter {
    /// What it does.
    pub kind: ListenerFilterKind,
    /// `filter_disabled`: connections that it does not look at.
    pub disabled: Option<Predicate>,
}

/// What a listener filter does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerFilterKind {
    /// `original_dst`: the destination before the kernel redirected the connection becomes its local address.
    OriginalDst,
    /// `tls_inspector`: is it TLS, for which name, with which protocols on offer?
    TlsInspector(TlsInspector),
    /// `http_inspector`: is it HTTP, and which version?
    HttpInspector,
    /// `proxy_protocol`: the addresses that the proxy in front of us tells.
    ProxyProtocol(ProxyProtocol),
}

/// `envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInspector {
    /// `max_client_hello_size`: a longer ClientHello closes the connection. Default and maximum 16 KiB.
    pub max_client_hello: usize,
}

/// `envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// `allow_requests_without_proxy_protocol`: connections without a header are let through as they are.
    pub optional: bool,
    /// V1 is among the `disallowed_versions`.
    pub refuses_v1: bool,
    /// V2 is among them.
    pub refuses_v2: bool,
}

/// Envoy: `Config::TLS_MAX_CLIENT_HELLO`.
const MAX_CLIENT_HELLO: u32 = 16 * 1024;

impl ListenerFilter {
    /// Reads the filters of a listener, and the old flags that mean one: `use_original_dst`, and `use_proxy_proto` of
    /// chains. Envoy puts both behind the list.
    pub(super) fn list(message: &proto::Listener, ignored: &mut Ignored) -> Result<Vec<Self>, Invalid> {
        let listed = ignored.each("listener_filters", &message.listener_filters, Self::from_proto)?;
        let mut filters: Vec<Self> = listed.into_iter().flatten().collect();
        let has = |filters: &[Self], wanted: fn(&ListenerFilterKind) -> bool| {
            filters.iter().any(|filter| wanted(&filter.kind))
        };
        let redirected = message.use_original_dst.is_some_and(|flag| flag.value);
        if redirected && !has(&filters, |kind| matches!(kind, ListenerFilterKind::OriginalDst)) {
            filters.push(ListenerFilterKind::OriginalDst.always());
        }
        let old = |chain: &proto::FilterChain| chain.use_proxy_proto.is_some_and(|flag| flag.value);
        let is_proxy_protocol =
            |kind: &ListenerFilterKind| matches!(kind, ListenerFilterKind::ProxyProtocol(_));
        if message.filter_chains.iter().any(old) && !has(&filters, is_proxy_protocol) {
            filters.push(ListenerFilterKind::ProxyProtocol(ProxyProtocol::default()).always());
        }
        Ok(filters)
    }

    /// One of the list; `None` is left out.
    fn from_proto(message: &proto::ListenerFilter, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        let name = non_empty(&message.name, "name")?;
        let any = match message.config_type.as_ref() {
            Some(ConfigType::TypedConfig(any)) => Some(any),
            Some(ConfigType::ConfigDiscovery(_)) => {
                ignored.note(format!("config_discovery: {name} is left out"));
                return Ok(None);
            }
            None => None,
        };
        let extension = Extension::new(&name, any);
        let disabled = message
            .filter_disabled
            .as_ref()
            .map(Predicate::from_proto)
            .transpose();
        let disabled = disabled.map_err(|refusal| refusal.within("filter_disabled"))?;
        let kind = ignored.scope("typed_config", |ignored| kind(&extension, ignored))?;
        Ok(kind.map(|kind| Self { kind, disabled }))
    }
}

impl ListenerFilterKind {
    /// A filter that looks at every connection.
    fn always(self) -> ListenerFilter {
        ListenerFilter {
            kind: self,
            disabled: None,
        }
    }
}

fn kind(extension: &Extension<'_>, ignored: &mut Ignored) -> Result<Option<ListenerFilterKind>, Invalid> {
    let bare = extension
        .name
        .trim_start_matches("envoy.")
        .trim_start_matches("filters.")
        .trim_start_matches("listener.");
    Ok(Some(match (extension.type_url.as_str(), bare) {
        (type_url::ORIGINAL_DST, _) | ("", "original_dst") => ListenerFilterKind::OriginalDst,
        (type_url::TLS_INSPECTOR, _) | ("", "tls_inspector") => {
            ListenerFilterKind::TlsInspector(tls_inspector(&extension.decode(ignored)?, ignored)?)
        }
        (type_url::HTTP_INSPECTOR, _) | ("", "http_inspector") => ListenerFilterKind::HttpInspector,
        (type_url::PROXY_PROTOCOL, _) | ("", "proxy_protocol") => {
            ListenerFilterKind::ProxyProtocol(proxy_protocol(&extension.decode(ignored)?, ignored)?)
        }
        _ => {
            ignored.note(format!("{} is left out", extension.label()));
            return Ok(None);
        }
    }))
}

fn tls_inspector(
    message: &typed::tls_inspector::v3::TlsInspector,
    ignored: &mut Ignored,
) -> Result<TlsInspector, Invalid> {
    // `initial_read_buffer_size` needs no honouring: the buffer grows with what has come.
    ignore_fields!(
        ignored,
        message,
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        close_connection_on_client_hello_parsing_errors
    );
    let size = message.max_client_hello_size.as_ref();
    match size.map_or(MAX_CLIENT_HELLO, |size| size.value) {
        size @ 256..=MAX_CLIENT_HELLO => Ok(TlsInspector {
            max_client_hello: size as usize,
        }),
        _ => Err(Invalid::new(
            "max_client_hello_size",
            "value must be inside range [256, 16384]",
        )),
    }
}

fn proxy_protocol(
    message: &typed::proxy_protocol::v3::ProxyProtocol,
    ignored: &mut Ignored,
) -> Result<ProxyProtocol, Invalid> {
    ignore_fields!(
        ignored,
        message,
        rules,
        pass_through_tlvs,
        stat_prefix,
        tlv_location
    );
    let mut filter = ProxyProtocol {
        optional: message.allow_requests_without_proxy_protocol,
        ..ProxyProtocol::default()
    };
    for (i, version) in message.disallowed_versions.iter().enumerate() {
        match enumeration(*version, &format!("disallowed_versions[{i}]"))? {
            Version::V1 => filter.refuses_v1 = true,
            Version::V2 => filter.refuses_v2 = true,
        }
    }
    Ok(filter)
}
