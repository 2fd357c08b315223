//! `outlier_detection`: when a host is taken out of the balance for what it does, and for how long.
//!
//! Served are runs of failures. Success rates and failure percentages, which compare hosts, are noted.

use std::time::Duration;

use redplane_proto::pb::envoy::config::cluster::v3::OutlierDetection as Proto;
use redplane_proto::pb::google::protobuf::UInt32Value;

use crate::field::positive_or;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// When and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// `consecutive_5xx`: answers of 500 and more, and where errors are not split, no answer at all. Default 5.
    pub server_errors: Run,
    /// `consecutive_gateway_failure`: 502, 503, 504. Default 5, and counted only.
    pub gateway_failures: Run,
    /// `consecutive_local_origin_failure`: no answer at all. Default 5.
    pub local_failures: Run,
    /// `split_external_local_origin_errors`.
    pub splits: bool,
    /// How often ejected hosts are looked at. Default 10 s.
    pub interval: Duration,
    /// Of the first ejection; the second lasts twice as long, and so on. Default 30 s.
    pub base_time: Duration,
    /// Longest ejection. Default 300 s.
    pub max_time: Duration,
    /// So many of a hundred hosts may be out. Default 10.
    pub max_percent: u32,
    /// `always_eject_one_host`: one may be out in any case.
    pub always_one: bool,
}

/// A run of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many in a row; 0 never.
    pub length: u32,
    /// In so many of a hundred cases the host is really taken out.
    pub enforced: u32,
}

impl Outlier {
    /// Reads the message.
    pub(super) fn from_proto(message: &Proto, ignored: &mut Ignored) -> Result<Self, Invalid> {
        // These compare hosts; without volume they never act.
        ignore_fields!(
            ignored,
            message,
            success_rate_minimum_hosts,
            success_rate_request_volume,
            success_rate_stdev_factor,
            failure_percentage_threshold,
            failure_percentage_minimum_hosts,
            failure_percentage_request_volume
        );
        ignore_fields!(
            ignored,
            message,
            max_ejection_time_jitter,
            monitors,
            detect_degraded_hosts,
            successful_active_health_check_uneject_host
        );
        for (name, share) in [
            ("enforcing_success_rate", message.enforcing_success_rate),
            (
                "enforcing_local_origin_success_rate",
                message.enforcing_local_origin_success_rate,
            ),
            (
                "enforcing_failure_percentage",
                message.enforcing_failure_percentage,
            ),
            (
                "enforcing_failure_percentage_local_origin",
                message.enforcing_failure_percentage_local_origin,
            ),
        ] {
            if share.is_some_and(|share| share.value > 0) {
                ignored.note(name);
            }
        }
        let base_time = positive_or(
            message.base_ejection_time.as_ref(),
            "base_ejection_time",
            Duration::from_secs(30),
        )?;
        let max_time = positive_or(
            message.max_ejection_time.as_ref(),
            "max_ejection_time",
            Duration::from_secs(300),
        )?;
        Ok(Self {
            server_errors: Run::read(
                message.consecutive_5xx,
                (message.enforcing_consecutive_5xx, "enforcing_consecutive_5xx"),
                100,
            )?,
            gateway_failures: Run::read(
                message.consecutive_gateway_failure,
                (
                    message.enforcing_consecutive_gateway_failure,
                    "enforcing_consecutive_gateway_failure",
                ),
                0,
            )?,
            local_failures: Run::read(
                message.consecutive_local_origin_failure,
                (
                    message.enforcing_consecutive_local_origin_failure,
                    "enforcing_consecutive_local_origin_failure",
                ),
                100,
            )?,
            splits: message.split_external_local_origin_errors,
            interval: positive_or(message.interval.as_ref(), "interval", Duration::from_secs(10))?,
            base_time,
            max_time: max_time.max(base_time),
            always_one: message.always_eject_one_host.is_some_and(|flag| flag.value),
            max_percent: percent(message.max_ejection_percent, "max_ejection_percent", 10)?,
        })
    }
}

impl Run {
    fn read(
        length: Option<UInt32Value>,
        (enforced, path): (Option<UInt32Value>, &str),
        default: u32,
    ) -> Result<Self, Invalid> {
        Ok(Self {
            length: length.map_or(5, |length| length.value),
            enforced: percent(enforced, path, default)?,
        })
    }
}

fn percent(value: Option<UInt32Value>, path: &str, default: u32) -> Result<u32, Invalid> {
    match value.map_or(default, |value| value.value) {
        share @ 0..=100 => Ok(share),
        _ => Err(Invalid::new(path, "value must be less than or equal to 100")),
    }
}
