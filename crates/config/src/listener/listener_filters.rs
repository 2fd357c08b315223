//! Listener filters: what looks at a connection before a chain is chosen.

use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use redplane_proto::type_url;

use crate::extension::Extension;
use crate::field::non_empty;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Which of them a listener has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ListenerFilters {
    pub original_dst: bool,
    pub tls_inspector: bool,
    pub http_inspector: bool,
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
        let Some(flag) = self.flag(&extension) else {
            ignored.note(format!("typed_config: {} is left out", extension.label()));
            return Ok(());
        };
        *flag = true;
        ignore_fields!(ignored, message, filter_disabled);
        Ok(())
    }

    fn flag(&mut self, extension: &Extension<'_>) -> Option<&mut bool> {
        let bare = extension
            .name
            .trim_start_matches("envoy.")
            .trim_start_matches("filters.")
            .trim_start_matches("listener.");
        match (extension.type_url.as_str(), bare) {
            (type_url::ORIGINAL_DST, _) | ("", "original_dst") => Some(&mut self.original_dst),
            (type_url::TLS_INSPECTOR, _) | ("", "tls_inspector") => Some(&mut self.tls_inspector),
            (type_url::HTTP_INSPECTOR, _) | ("", "http_inspector") => Some(&mut self.http_inspector),
            (type_url::PROXY_PROTOCOL, _) | ("", "proxy_protocol") => Some(&mut self.proxy_protocol),
            _ => None,
        }
    }
}
