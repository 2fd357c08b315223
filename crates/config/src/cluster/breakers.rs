//! `circuit_breakers`: how much of something there may be at a cluster at a time, over all workers.

use redplane_proto::pb::envoy::config::cluster::v3::circuit_breakers::{Thresholds as Proto, thresholds};
use redplane_proto::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use redplane_proto::pb::envoy::config::core::v3::RoutingPriority;

use crate::field::enumeration;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// The limits of both priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Breakers {
    /// Of requests whose route has no priority.
    pub default: Thresholds,
    /// Of requests whose route says `priority: HIGH`.
    pub high: Thresholds,
}

/// The limits of one priority; 4294967295 is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Connections. Default 1024.
    pub connections: u32,
    /// Requests that wait for a connection. Default 1024.
    pub pending: u32,
    /// Requests. Default 1024.
    pub requests: u32,
    /// Retries.
    pub retries: RetryLimit,
}

/// How many retries there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryLimit {
    /// `max_retries`. Default 3.
    Count(u32),
    /// `retry_budget`.
    Budget {
        /// So many of a hundred requests that are active or wait. Default 20.
        percent: f64,
        /// So many in any case. Default 3.
        least: u32,
    },
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            connections: 1024,
            pending: 1024,
            requests: 1024,
            retries: RetryLimit::Count(3),
        }
    }
}

impl Breakers {
    /// Reads the message; absent is Envoy's defaults.
    pub(super) fn from_proto(message: &Cluster, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let mut breakers = Self::default();
        let Some(message) = message.circuit_breakers.as_ref() else {
            return Ok(breakers);
        };
        ignored.scope("circuit_breakers", |ignored| breakers.read(message, ignored))?;
        Ok(breakers)
    }

    fn read(&mut self, message: &CircuitBreakers, ignored: &mut Ignored) -> Result<(), Invalid> {
        ignore_fields!(ignored, message, per_host_thresholds);
        let read = ignored.each("thresholds", &message.thresholds, |limits, ignored| {
            let priority: RoutingPriority = enumeration(limits.priority, "priority")?;
            Ok((priority, Thresholds::from_proto(limits, ignored)?))
        })?;
        // The first of a priority counts, as in Envoy.
        for (priority, limits) in read.into_iter().rev() {
            match priority {
                RoutingPriority::Default => self.default = limits,
                RoutingPriority::High => self.high = limits,
            }
        }
        Ok(())
    }
}

impl Thresholds {
    fn from_proto(message: &Proto, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, max_connection_pools, track_remaining);
        let defaults = Self::default();
        let count = |limit: &Option<_>, default| {
            let limit: Option<&redplane_proto::pb::google::protobuf::UInt32Value> = limit.as_ref();
            limit.map_or(default, |limit| limit.value)
        };
        let retries = match message.retry_budget.as_ref() {
            Some(budget) => RetryLimit::budget(budget, ignored)?,
            None => RetryLimit::Count(count(&message.max_retries, 3)),
        };
        Ok(Self {
            connections: count(&message.max_connections, defaults.connections),
            pending: count(&message.max_pending_requests, defaults.pending),
            requests: count(&message.max_requests, defaults.requests),
            retries,
        })
    }
}

impl RetryLimit {
    fn budget(message: &thresholds::RetryBudget, ignored: &mut Ignored) -> Result<Self, Invalid> {
        if message.budget_interval.is_some() {
            ignored.note("retry_budget.budget_interval: requests of this moment are counted");
        }
        let percent = message.budget_percent.map_or(20.0, |percent| percent.value);
        if !(0.0..=100.0).contains(&percent) {
            return Err(Invalid::new(
                "retry_budget.budget_percent",
                "value must be inside range [0, 100]",
            ));
        }
        Ok(Self::Budget {
            percent,
            least: message.min_retry_concurrency.map_or(3, |least| least.value),
        })
    }
}
