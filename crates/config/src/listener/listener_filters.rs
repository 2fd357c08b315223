//! Listener filters: what looks at a connection before a chain is chosen.

use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use redplane_proto::type_url;

use super::predicate::Predicate;
use crate::extension::Extension;
use crate::field::non_empty;
use crate::{Ignored, Invalid};

/// Which of them a listener has.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerFilters {
    pub original_dst: bool,
    pub tls_inspector: bool,
    pub tls_inspector_disabled: Option<Predicate>,
    pub http_inspector: bool,
    pub http_inspector_disabled: Option<Predicate>,
    pub proxy_protocol: bool,
}

impl ListenerFilters {
    /// Reads the list, and the old flag of chains that means the PROXY protocol filter.
    pub(super) fn from_proto(message: &proto::Listener, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let old = |chain: &proto::FilterChain| chain.use_proxy_proto.is_some_and(|flag| flag.value);
        let mut filters = Self {
            proxy_protocol: message.filter_chains.iter().any(old),
            ..Self::default()
        };
        ignored.each(
            "listener_filters",
            &message.listener_filters,
            |filter, ignored| filters.add(filter, ignored),
        )?;
        Ok(filters)
    }

    fn add(&mut self, message: &proto::ListenerFilter, ignored: &mut Ignored) -> Result<(), Invalid> {
        let name = non_empty(&message.name, "name")?;
        let any = match message.config_type.as_ref() {
            Some(ConfigType::TypedConfig(any)) => Some(any),
            Some(ConfigType::ConfigDiscovery(_)) => {
                ignored.note(format!("config_discovery: {name} is left out"));
                return Ok(());
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
        let kind = kind(&extension);
        if disabled.is_some() && !matches!(kind, Some(Kind::TlsInspector | Kind::HttpInspector)) {
            ignored.note("filter_disabled");
        }
        match kind {
            Some(Kind::OriginalDst) => self.original_dst = true,
            Some(Kind::ProxyProtocol) => self.proxy_protocol = true,
            Some(Kind::TlsInspector) => (self.tls_inspector, self.tls_inspector_disabled) = (true, disabled),
            Some(Kind::HttpInspector) => {
                (self.http_inspector, self.http_inspector_disabled) = (true, disabled);
            }
            None => ignored.note(format!("typed_config: {} is left out", extension.label())),
        }
        Ok(())
    }
}

enum Kind {
    OriginalDst,
    ProxyProtocol,
    TlsInspector,
    HttpInspector,
}

fn kind(extension: &Extension<'_>) -> Option<Kind> {
    let bare = extension
        .name
        .trim_start_matches("envoy.")
        .trim_start_matches("filters.")
        .trim_start_matches("listener.");
    Some(match (extension.type_url.as_str(), bare) {
        (type_url::ORIGINAL_DST, _) | ("", "original_dst") => Kind::OriginalDst,
        (type_url::TLS_INSPECTOR, _) | ("", "tls_inspector") => Kind::TlsInspector,
        (type_url::HTTP_INSPECTOR, _) | ("", "http_inspector") => Kind::HttpInspector,
        (type_url::PROXY_PROTOCOL, _) | ("", "proxy_protocol") => Kind::ProxyProtocol,
        _ => return None,
    })
}
