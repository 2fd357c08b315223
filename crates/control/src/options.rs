//! What the folder itself does not say: how the proxy is reached, and which workload it belongs to.

use std::collections::BTreeMap;

/// Istio's interception mode, as far as it changes what is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A listener per virtual IP, `<VIP>_<port>`.
    #[default]
    Redirect,
    /// A listener per port, `127.0.0.1_<port>`, that always binds.
    None,
}

/// What stands beside the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How traffic reaches the proxy.
    pub mode: Mode,
    /// Whether listeners of mode REDIRECT open their port themselves, for machines without iptables rules.
    pub bind: bool,
    /// Added to the port of every listener after all patches; names and matches keep the service's port.
    pub port_offset: i32,
    /// The DNS domain of Kubernetes services.
    pub domain: String,
    /// The namespace whose EnvoyFilters apply to every proxy.
    pub root_namespace: String,
    /// The namespace of the proxy. Unknown: EnvoyFilters of all namespaces apply.
    pub namespace: Option<String>,
    /// The labels of the proxy's workload. None known: workload selectors select every proxy.
    pub labels: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            bind: true,
            port_offset: 0,
            domain: "cluster.local".to_owned(),
            root_namespace: "istio-system".to_owned(),
            namespace: None,
            labels: BTreeMap::new(),
        }
    }
}

impl Options {
    pub(crate) fn binds(&self) -> bool {
        self.bind || self.mode == Mode::None
    }
}
