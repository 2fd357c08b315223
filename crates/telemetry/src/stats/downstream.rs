//! Listener and tcp_proxy stats, and those of TLS on either side.
//!
//! Envoy: listener statistics, TCP proxy statistics, TLS statistics.

crate::schema! {
    /// `listener.<address>.` (or `listener.<stat_prefix>.`, or `listener.admin.`).
    pub mod listener {
        downstream_cx_active: Gauge,
        downstream_cx_destroy: Counter,
        downstream_cx_overflow: Counter,
        downstream_cx_overload_reject: Counter,
        downstream_cx_total: Counter,
        downstream_cx_transport_socket_connect_timeout: Counter,
        downstream_global_cx_overflow: Counter,
        downstream_listener_filter_error: Counter,
        downstream_listener_filter_remote_close: Counter,
        downstream_pre_cx_active: Gauge,
        downstream_pre_cx_timeout: Counter,
        extension_config_missing: Counter,
        network_extension_config_missing: Counter,
        no_filter_chain_match: Counter,
        connections_accepted_per_socket_event: Histogram(Unspecified),
        downstream_cx_length_ms: Histogram(Milliseconds),
    }
    /// `listener.<address>.worker_<n>.`: of a listener on one worker; `listener.admin.main_thread.` too.
    pub mod listener_worker {
        downstream_cx_active: Gauge,
        downstream_cx_total: Counter,
    }
    /// `listener.<address>.ssl.` and `cluster.<name>.ssl.`.
    pub mod ssl {
        connection_error: Counter,
        fail_verify_cert_hash: Counter,
        fail_verify_error: Counter,
        fail_verify_no_cert: Counter,
        fail_verify_san: Counter,
        handshake: Counter,
        no_certificate: Counter,
        ocsp_staple_failed: Counter,
        ocsp_staple_omitted: Counter,
        ocsp_staple_requests: Counter,
        ocsp_staple_responses: Counter,
        session_reused: Counter,
        was_key_usage_invalid: Counter,
    }
    /// `listener.<address>.server_ssl_socket_factory.` and `cluster.<name>.client_ssl_socket_factory.`.
    pub mod ssl_socket_factory {
        downstream_context_secrets_not_ready: Counter,
        ssl_context_update_by_sds: Counter,
        upstream_context_secrets_not_ready: Counter,
    }
    /// `<stat_prefix>.rbac.` of the network filter, `http.<stat_prefix>.rbac.<rules_stat_prefix>` of the HTTP filter.
    pub mod rbac {
        allowed: Counter,
        denied: Counter,
    }
    /// `<stat_prefix>.rbac.<shadow_rules_stat_prefix>`.
    pub mod rbac_shadow {
        shadow_allowed: Counter,
        shadow_denied: Counter,
    }
    /// `connection_limit.<stat_prefix>.`.
    pub mod connection_limit {
        active_connections: Gauge,
        limited_connections: Counter,
    }
    /// `local_rate_limit.<stat_prefix>.` of the network filter.
    pub mod local_rate_limit {
        rate_limited: Counter,
    }
    /// `http.<stat_prefix>.jwt_authn.<stat_prefix>`.
    pub mod jwt_authn {
        allowed: Counter,
        cors_preflight_bypassed: Counter,
        denied: Counter,
        jwks_fetch_failed: Counter,
        jwks_fetch_success: Counter,
        jwt_cache_hit: Counter,
        jwt_cache_miss: Counter,
    }
    /// `tls_inspector.`
    pub mod tls_inspector {
        alpn_found: Counter,
        alpn_not_found: Counter,
        client_hello_too_large: Counter,
        connection_closed: Counter,
        read_error: Counter,
        read_timeout: Counter,
        sni_found: Counter,
        sni_not_found: Counter,
        tls_found: Counter,
        tls_not_found: Counter,
        bytes_processed: Histogram(Unspecified),
    }
    /// `http_inspector.`
    pub mod http_inspector {
        http10_found: Counter,
        http11_found: Counter,
        http2_found: Counter,
        http_not_found: Counter,
        read_error: Counter,
    }
    /// `proxy_proto.`
    pub mod proxy_proto {
        not_found_allowed: Counter,
        not_found_disallowed: Counter,
    }
    /// `proxy_proto.versions.v<n>.`
    pub mod proxy_proto_version {
        disallowed: Counter,
        error: Counter,
        found: Counter,
    }
    /// `tcp.<stat_prefix>.`: of a tcp_proxy filter.
    pub mod tcp {
        downstream_cx_drain_close: Counter,
        downstream_cx_no_route: Counter,
        downstream_cx_overload_close: Counter,
        downstream_cx_rx_bytes_buffered: Gauge,
        downstream_cx_rx_bytes_total: Counter,
        downstream_cx_total: Counter,
        downstream_cx_tx_bytes_buffered: Gauge,
        downstream_cx_tx_bytes_total: Counter,
        downstream_flow_control_paused_reading_total: Counter,
        downstream_flow_control_resumed_reading_total: Counter,
        early_data_received_count_total: Counter,
        idle_timeout: Counter,
        max_downstream_connection_duration: Counter,
        route_delayed_total: Counter,
        upstream_flush_active: Gauge,
        upstream_flush_total: Counter,
    }
}
