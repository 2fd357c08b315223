//! Redis stats: of a redis_proxy filter, of its commands, and of the clusters it routes to.
//!
//! Envoy: Redis proxy filter and Redis cluster statistics.

crate::schema! {
    /// `redis.<stat_prefix>.`: of a filter.
    pub mod redis_proxy {
        downstream_cx_active: Gauge,
        downstream_cx_drain_close: Counter,
        downstream_cx_protocol_error: Counter,
        downstream_cx_rx_bytes_buffered: Gauge,
        downstream_cx_rx_bytes_total: Counter,
        downstream_cx_total: Counter,
        downstream_cx_tx_bytes_buffered: Gauge,
        downstream_cx_tx_bytes_total: Counter,
        downstream_rq_active: Gauge,
        downstream_rq_noproto: Counter,
        downstream_rq_total: Counter,
        "splitter.invalid_request" as splitter_invalid_request: Counter,
        "splitter.unsupported_command" as splitter_unsupported_command: Counter,
    }
    /// `redis.<stat_prefix>.command.<cmd>.`, in milliseconds: a row of a table.
    pub mod redis_command {
        delay_fault: Counter,
        error: Counter,
        error_fault: Counter,
        success: Counter,
        total: Counter,
        latency: Histogram(Milliseconds),
    }
    /// `redis.<stat_prefix>.command.<cmd>.` of a filter with `latency_in_micros`: the same stats at the same places.
    pub mod redis_command_micros {
        delay_fault: Counter,
        error: Counter,
        error_fault: Counter,
        success: Counter,
        total: Counter,
        latency: Histogram(Microseconds),
    }
    /// `cluster.<name>.redis_cluster.`: of each cluster that a redis_proxy routes to. `upstream_auth_failure` is ours: a
    /// server refused the login, or there was no token for it.
    pub mod redis_cluster {
        connection_rate_limited: Counter,
        max_upstream_unknown_connections_reached: Counter,
        upstream_cx_drained: Counter,
        upstream_auth_failure: Counter,
        upstream_resp3_hello_failure: Counter,
        "upstream_commands.upstream_rq_time" as upstream_rq_time: Histogram(Microseconds),
    }
    /// `cluster.<name>.redis_cluster.pubsub.`: of a cluster that clients are or were subscribed to. Not in Envoy.
    pub mod redis_pubsub {
        deliveries: Counter,
        messages: Counter,
        slow_subscriber_closed: Counter,
        subscriptions: Gauge,
        upstream_cx_active: Gauge,
        upstream_cx_lost: Counter,
        upstream_cx_total: Counter,
        upstream_subscriptions: Gauge,
    }
    /// `cluster.<name>.redis_cluster.upstream_commands.<cmd>.` and, for discovery and health checks,
    /// `cluster.<name>.upstream_commands.<cmd>.`: a row of a table, added when the command is first sent.
    pub mod upstream_command {
        failure: Counter,
        success: Counter,
        total: Counter,
        latency: Histogram(Microseconds),
    }
    /// `cluster.<name>.`: of discovery and health-check traffic.
    pub mod redis_discovery {
        "upstream_commands.upstream_rq_time" as upstream_rq_time: Histogram(Microseconds),
    }
}
