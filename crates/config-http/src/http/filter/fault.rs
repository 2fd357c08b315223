//! `HTTPFault`: delays, then aborts.

use std::time::Duration;

use redplane_proto::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use redplane_proto::pb::envoy::extensions::filters::http::fault::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use redplane_proto::pb::envoy::r#type::v3::FractionalPercent;
use redplane_proto::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use crate::field::{enumeration, positive_or, required};
use crate::http::matcher::HeaderMatcher;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// What goes wrong on purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// How long requests wait.
    pub delay: Option<Delay>,
    /// How requests end.
    pub abort: Option<Abort>,
    /// Only requests to this cluster; empty is all.
    pub upstream_cluster: String,
    /// Only requests that fit all of these.
    pub headers: Vec<HeaderMatcher>,
    /// Only requests of these nodes (`x-envoy-downstream-service-node`); empty is all.
    pub downstream_nodes: Vec<String>,
    /// `max_active_faults` on each worker.
    pub max_active: Option<u32>,
}

/// A delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// So many of a million requests.
    pub share: u32,
    /// So long; `None` as the request's `x-envoy-fault-delay-request` says.
    pub time: Option<Duration>,
}

/// An abort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// So many of a million requests.
    pub share: u32,
    /// How it ends.
    pub status: AbortStatus,
}

/// How an aborted request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// With this HTTP status.
    Http(u16),
    /// With this gRPC status.
    Grpc(u32),
    /// As `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request` says.
    Header,
}

impl Fault {
    pub(super) fn from_proto(message: &proto::HttpFault, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, response_rate_limit, filter_metadata);
        ignore_fields!(ignored, message, delay_percent_runtime, abort_percent_runtime);
        ignore_fields!(
            ignored,
            message,
            delay_duration_runtime,
            abort_http_status_runtime
        );
        ignore_fields!(
            ignored,
            message,
            max_active_faults_runtime,
            abort_grpc_status_runtime
        );
        ignore_fields!(ignored, message, response_rate_limit_percent_runtime);
        ignore_fields!(ignored, message, disable_downstream_cluster_stats);
        let read = |(at, header)| {
            HeaderMatcher::from_proto(header)
                .map_err(|refusal: Invalid| refusal.within(&format!("headers[{at}]")))
        };
        Ok(Self {
            delay: delay(message)?,
            abort: abort(message, ignored)?,
            upstream_cluster: message.upstream_cluster.clone(),
            headers: message
                .headers
                .iter()
                .enumerate()
                .map(read)
                .collect::<Result<_, _>>()?,
            downstream_nodes: message.downstream_nodes.clone(),
            max_active: message.max_active_faults.map(|limit| limit.value),
        })
    }
}

fn delay(message: &proto::HttpFault) -> Result<Option<Delay>, Invalid> {
    let Some(delay) = message.delay.as_ref() else {
        return Ok(None);
    };
    let time = match delay.fault_delay_secifier.as_ref() {
        None => return Err(Invalid::new("delay.fault_delay_secifier", "value is required")),
        Some(FaultDelaySecifier::FixedDelay(time)) => {
            Some(positive_or(Some(time), "delay.fixed_delay", Duration::ZERO)?)
        }
        Some(FaultDelaySecifier::HeaderDelay(_)) => None,
    };
    Ok(Some(Delay {
        share: share(delay.percentage.as_ref(), "delay.percentage")?,
        time,
    }))
}

fn abort(message: &proto::HttpFault, ignored: &mut Ignored) -> Result<Option<Abort>, Invalid> {
    let Some(abort) = message.abort.as_ref() else {
        return Ok(None);
    };
    ignore_fields!(ignored, abort, response_body);
    let status = match *required(abort.error_type.as_ref(), "abort.error_type")? {
        ErrorType::HttpStatus(status) => match u16::try_from(status) {
            Ok(status) if (200..600).contains(&status) => AbortStatus::Http(status),
            _ => {
                return Err(Invalid::new(
                    "abort.http_status",
                    "value must be inside range [200, 600)",
                ));
            }
        },
        ErrorType::GrpcStatus(status) => AbortStatus::Grpc(status),
        ErrorType::HeaderAbort(_) => AbortStatus::Header,
    };
    Ok(Some(Abort {
        share: share(abort.percentage.as_ref(), "abort.percentage")?,
        status,
    }))
}

/// Parts of a million; none where the percentage is absent, as in Envoy.
fn share(message: Option<&FractionalPercent>, path: &str) -> Result<u32, Invalid> {
    let Some(fraction) = message else { return Ok(0) };
    let scale = match enumeration(fraction.denominator, path)? {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Ok(fraction.numerator.saturating_mul(scale).min(1_000_000))
}
