//! Stats of the process and of its configuration.
//!
//! Envoy: server statistics, cluster manager, listener manager, xDS subscription, runtime and file statistics.

crate::schema! {
    /// `server.`
    pub mod server {
        "compilation_settings.fips_mode" as compilation_settings_fips_mode: Gauge,
        concurrency: Gauge,
        days_until_first_cert_expiring: Gauge,
        debug_assertion_failures: Counter,
        dropped_stat_flushes: Counter,
        dynamic_unknown_fields: Counter,
        envoy_bug_failures: Counter,
        envoy_notifications: Counter,
        hot_restart_epoch: Gauge,
        live: Gauge,
        memory_allocated: Gauge,
        memory_heap_size: Gauge,
        memory_physical_size: Gauge,
        parent_connections: Gauge,
        seconds_until_first_ocsp_response_expiring: Gauge,
        state: Gauge,
        static_unknown_fields: Counter,
        stats_recent_lookups: Gauge,
        total_connections: Gauge,
        uptime: Gauge,
        version: Gauge,
        wip_protos: Counter,
        initialization_time_ms: Histogram(Milliseconds),
    }
    /// `server.main_thread.`, `server.worker_<n>.`, `main_thread.` and `workers.`: stuck threads.
    pub mod watchdog {
        watchdog_mega_miss: Counter,
        watchdog_miss: Counter,
    }
    /// `cluster_manager.`
    pub mod cluster_manager {
        active_clusters: Gauge,
        cluster_added: Counter,
        cluster_modified: Counter,
        cluster_removed: Counter,
        cluster_updated: Counter,
        cluster_updated_via_merge: Counter,
        update_merge_cancelled: Counter,
        update_out_of_merge_window: Counter,
        warming_clusters: Gauge,
    }
    /// `listener_manager.`
    pub mod listener_manager {
        listener_added: Counter,
        listener_create_failure: Counter,
        listener_create_success: Counter,
        listener_in_place_updated: Counter,
        listener_modified: Counter,
        listener_removed: Counter,
        listener_stopped: Counter,
        total_filter_chains_draining: Gauge,
        total_listeners_active: Gauge,
        total_listeners_draining: Gauge,
        total_listeners_warming: Gauge,
        workers_pinned: Gauge,
        workers_started: Gauge,
    }
    /// `cluster_manager.cds.`
    pub mod cds {
        config_reload: Counter,
        config_reload_time_ms: Gauge,
        init_fetch_timeout: Counter,
        update_attempt: Counter,
        update_failure: Counter,
        update_rejected: Counter,
        update_success: Counter,
        update_time: Gauge,
        version: Gauge,
        update_duration: Histogram(Milliseconds),
    }
    /// `listener_manager.lds.`
    pub mod lds {
        config_reload: Counter,
        config_reload_time_ms: Gauge,
        init_fetch_timeout: Counter,
        update_attempt: Counter,
        update_failure: Counter,
        update_rejected: Counter,
        update_success: Counter,
        update_time: Gauge,
        version: Gauge,
        update_duration: Histogram(Milliseconds),
    }
    /// `http.<stat_prefix>.rds.<route_config_name>.`, `sds.<name>.` and other single subscriptions.
    pub mod xds_resource {
        config_reload: Counter,
        update_empty: Counter,
        config_reload_time_ms: Gauge,
        init_fetch_timeout: Counter,
        update_attempt: Counter,
        update_failure: Counter,
        update_rejected: Counter,
        update_success: Counter,
        update_time: Gauge,
        version: Gauge,
        update_duration: Histogram(Milliseconds),
    }
    /// `control_plane.`
    pub mod control_plane {
        connected_state: Gauge,
        pending_requests: Gauge,
        rate_limit_enforced: Counter,
    }
    /// `runtime.`
    pub mod runtime {
        admin_overrides_active: Gauge,
        deprecated_feature_seen_since_process_start: Gauge,
        deprecated_feature_use: Counter,
        load_error: Counter,
        load_success: Counter,
        num_keys: Gauge,
        num_layers: Gauge,
        override_dir_exists: Counter,
        override_dir_not_exists: Counter,
    }
    /// `filesystem.`: access log files.
    pub mod filesystem {
        flushed_by_timer: Counter,
        reopen_failed: Counter,
        write_buffered: Counter,
        write_completed: Counter,
        write_failed: Counter,
        write_total_buffered: Gauge,
    }
    /// `dns_cache.<name>.` and the resolver of DNS clusters.
    pub mod dns_cache {
        cache_load: Counter,
        dns_query_attempt: Counter,
        dns_query_failure: Counter,
        dns_query_success: Counter,
        dns_query_timeout: Counter,
        dns_rq_pending_overflow: Counter,
        host_added: Counter,
        host_address_changed: Counter,
        host_overflow: Counter,
        host_removed: Counter,
        num_hosts: Gauge,
    }
}
