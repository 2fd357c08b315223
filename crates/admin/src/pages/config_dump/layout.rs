//! The layout of a dump: its sections in Envoy's order and their fields, as `envoy.admin.v3` has them.
//!
//! `mask` and `resource` are checked against these lists, the printer goes along them.

/// A kind of section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Bootstrap,
    Clusters,
    Endpoints,
    Listeners,
    ScopedRoutes,
    Routes,
    Secrets,
    Extensions,
}

/// A repeated field of a section.
pub(super) struct Repeated {
    pub(super) name: &'static str,
    /// The message of its elements.
    pub(super) element: &'static str,
    /// The fields of that message.
    pub(super) fields: &'static [&'static str],
}

const STATIC: &[&str] = &["last_updated"];
const DYNAMIC: &[&str] = &["version_info", "last_updated", "error_state", "client_status"];

const fn repeated(name: &'static str, element: &'static str, fields: &'static [&'static str]) -> Repeated {
    Repeated {
        name,
        element,
        fields,
    }
}

const STATIC_NAMED: &[&str] = &["name", "last_updated"];
const DYNAMIC_NAMED: &[&str] = &[
    "name",
    "version_info",
    "last_updated",
    "error_state",
    "client_status",
];
const LISTENER: &[&str] = &[
    "name",
    "active_state",
    "warming_state",
    "draining_state",
    "error_state",
    "client_status",
];

const CLUSTERS: &[Repeated] = &[
    repeated("static_clusters", "StaticCluster", STATIC),
    repeated("dynamic_active_clusters", "DynamicCluster", DYNAMIC),
    repeated("dynamic_warming_clusters", "DynamicCluster", DYNAMIC),
];
const ENDPOINTS: &[Repeated] = &[
    repeated("static_endpoint_configs", "StaticEndpointConfig", STATIC),
    repeated("dynamic_endpoint_configs", "DynamicEndpointConfig", DYNAMIC),
];
const LISTENERS: &[Repeated] = &[
    repeated("static_listeners", "StaticListener", STATIC),
    repeated("dynamic_listeners", "DynamicListener", LISTENER),
];
const SCOPED_ROUTES: &[Repeated] = &[
    repeated(
        "inline_scoped_route_configs",
        "InlineScopedRouteConfigs",
        STATIC_NAMED,
    ),
    repeated(
        "dynamic_scoped_route_configs",
        "DynamicScopedRouteConfigs",
        DYNAMIC_NAMED,
    ),
];
const ROUTES: &[Repeated] = &[
    repeated("static_route_configs", "StaticRouteConfig", STATIC),
    repeated("dynamic_route_configs", "DynamicRouteConfig", DYNAMIC),
];
const SECRETS: &[Repeated] = &[
    repeated("static_secrets", "StaticSecret", STATIC_NAMED),
    repeated("dynamic_active_secrets", "DynamicSecret", DYNAMIC_NAMED),
    repeated("dynamic_warming_secrets", "DynamicSecret", DYNAMIC_NAMED),
];
const EXTENSIONS: &[Repeated] = &[repeated("ecds_filters", "EcdsFilterConfig", DYNAMIC)];

impl Section {
    /// Envoy's order.
    pub(super) const ALL: [Self; 8] = [
        Self::Bootstrap,
        Self::Clusters,
        Self::Endpoints,
        Self::Listeners,
        Self::ScopedRoutes,
        Self::Routes,
        Self::Secrets,
        Self::Extensions,
    ];

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Bootstrap => "BootstrapConfigDump",
            Self::Clusters => "ClustersConfigDump",
            Self::Endpoints => "EndpointsConfigDump",
            Self::Listeners => "ListenersConfigDump",
            Self::ScopedRoutes => "ScopedRoutesConfigDump",
            Self::Routes => "RoutesConfigDump",
            Self::Secrets => "SecretsConfigDump",
            Self::Extensions => "EcdsConfigDump",
        }
    }

    /// The field in which an element carries its resource.
    pub(super) fn resource_field(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Clusters => "cluster",
            Self::Endpoints => "endpoint_config",
            Self::Listeners => "listener",
            Self::ScopedRoutes => "scoped_route_configs",
            Self::Routes => "route_config",
            Self::Secrets => "secret",
            Self::Extensions => "ecds_filter",
        }
    }

    /// Fields that are not repeated.
    pub(super) fn single_fields(self) -> &'static [&'static str] {
        match self {
            Self::Bootstrap => &["bootstrap", "last_updated"],
            Self::Clusters | Self::Listeners => &["version_info"],
            _ => &[],
        }
    }

    pub(super) fn repeated_fields(self) -> &'static [Repeated] {
        match self {
            Self::Bootstrap => &[],
            Self::Clusters => CLUSTERS,
            Self::Endpoints => ENDPOINTS,
            Self::Listeners => LISTENERS,
            Self::ScopedRoutes => SCOPED_ROUTES,
            Self::Routes => ROUTES,
            Self::Secrets => SECRETS,
            Self::Extensions => EXTENSIONS,
        }
    }

    /// Whether an element of this section has a field.
    pub(super) fn element_has(self, repeated: &Repeated, field: &str) -> bool {
        repeated.fields.contains(&field)
            || (field == self.resource_field() && repeated.element != "DynamicListener")
    }
}
