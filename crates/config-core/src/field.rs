//! Single fields: durations, fractions, enums, lengths.
//!
//! The rules and their wording are those of Envoy's generated validators and of its duration functions, so that an
//! operator finds a refusal by searching Envoy's own text. Nothing here knows what a field is for.

use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::{RuntimeFeatureFlag, RuntimeFractionalPercent};
use redplane_proto::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use redplane_proto::pb::google::protobuf;

use crate::{Ignored, Invalid};

/// Longest protobuf duration: 10,000 years.
const MAX_SECONDS: i64 = 315_576_000_000;

/// A message that must be there.
pub fn required<'a, T>(field: Option<&'a T>, path: &str) -> Result<&'a T, Invalid> {
    field.ok_or_else(|| Invalid::new(path, "value is required"))
}

/// A string of at least one character (`min_len: 1`).
pub fn non_empty(value: &str, path: &str) -> Result<String, Invalid> {
    if value.is_empty() {
        return Err(Invalid::new(path, "value length must be at least 1 characters"));
    }
    Ok(value.to_owned())
}

/// A value of an enum that has a name (`defined_only`).
pub fn enumeration<E: TryFrom<i32>>(value: i32, path: &str) -> Result<E, Invalid> {
    E::try_from(value).map_err(|_| Invalid::new(path, "value must be one of the defined enum values"))
}

/// A duration in whole milliseconds: Envoy cuts what is below.
pub fn duration(value: &protobuf::Duration, path: &str) -> Result<Duration, Invalid> {
    exact(value, path).map(|d| Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}

/// The same where the field may be absent.
pub fn duration_or(
    value: Option<&protobuf::Duration>,
    path: &str,
    default: Duration,
) -> Result<Duration, Invalid> {
    value.map_or(Ok(default), |value| duration(value, path))
}

/// A duration above zero; less than a millisecond becomes one, so that no timer turns without rest.
pub fn positive_or(
    value: Option<&protobuf::Duration>,
    path: &str,
    default: Duration,
) -> Result<Duration, Invalid> {
    let Some(value) = value else { return Ok(default) };
    if exact(value, path)?.is_zero() {
        return Err(Invalid::new(path, "value must be greater than 0s"));
    }
    Ok(duration(value, path)?.max(Duration::from_millis(1)))
}

fn exact(value: &protobuf::Duration, path: &str) -> Result<Duration, Invalid> {
    let (seconds, nanos) = (value.seconds, value.nanos);
    if seconds < 0 || nanos < 0 {
        return Err(Invalid::new(
            path,
            format!("Expected positive duration: seconds: {seconds} nanos: {nanos}"),
        ));
    }
    if seconds > MAX_SECONDS || nanos > 999_999_999 {
        return Err(Invalid::new(
            path,
            format!("Duration out-of-range: seconds: {seconds} nanos: {nanos}"),
        ));
    }
    Ok(Duration::new(seconds.unsigned_abs(), nanos.unsigned_abs()))
}

/// `RuntimeFractionalPercent` as parts of a million, at most all of them. There is no runtime to look the key up in:
/// the default value counts, and a key is noted.
pub fn parts_per_million(value: &RuntimeFractionalPercent, ignored: &mut Ignored) -> Result<u32, Invalid> {
    crate::invalid::ignore_fields!(ignored, value, runtime_key);
    let fraction = required(value.default_value.as_ref(), "default_value")?;
    let scale = match enumeration(fraction.denominator, "default_value.denominator")? {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Ok(fraction.numerator.saturating_mul(scale).min(1_000_000))
}

/// `RuntimeFeatureFlag`: whether something is on; on where it is absent. There is no runtime to look the key up in: the
/// default value counts, and a key is noted.
pub fn feature_flag(value: Option<&RuntimeFeatureFlag>, ignored: &mut Ignored) -> Result<bool, Invalid> {
    let Some(value) = value else { return Ok(true) };
    crate::invalid::ignore_fields!(ignored, value, runtime_key);
    Ok(required(value.default_value.as_ref(), "default_value")?.value)
}

/// A port number.
pub fn port(value: u32, path: &str) -> Result<u16, Invalid> {
    u16::try_from(value).map_err(|_| Invalid::new(path, "value must be less than or equal to 65535"))
}

#[cfg(test)]
mod tests {
    use redplane_proto::pb::envoy::r#type::v3::FractionalPercent;

    use super::*;

    fn proto(seconds: i64, nanos: i32) -> protobuf::Duration {
        protobuf::Duration { seconds, nanos }
    }

    #[test]
    fn durations_are_whole_milliseconds() {
        assert_eq!(
            duration(&proto(1, 2_999_999), "d").unwrap(),
            Duration::from_millis(1002)
        );
        assert_eq!(duration(&proto(0, 999_999), "d").unwrap(), Duration::ZERO);
        assert_eq!(
            duration(&proto(9_223_372_035, 0), "d").unwrap().as_secs(),
            9_223_372_035
        );
    }

    #[test]
    fn durations_out_of_range_are_refused() {
        for bad in [proto(-1, 0), proto(0, -1), proto(i64::MIN, i32::MIN)] {
            let refusal = duration(&bad, "op_timeout").unwrap_err();
            assert_eq!(refusal.path, "op_timeout");
            assert!(
                refusal.reason.starts_with("Expected positive duration"),
                "{refusal}"
            );
        }
        for bad in [
            proto(MAX_SECONDS + 1, 0),
            proto(0, 1_000_000_000),
            proto(i64::MAX, i32::MAX),
        ] {
            assert!(
                duration(&bad, "d")
                    .unwrap_err()
                    .reason
                    .starts_with("Duration out-of-range")
            );
        }
    }

    #[test]
    fn a_positive_duration_is_never_cut_to_zero() {
        let read = |d| positive_or(Some(&d), "d", Duration::ZERO);
        assert_eq!(read(proto(0, 1)).unwrap(), Duration::from_millis(1));
        assert_eq!(
            read(proto(0, 0)).unwrap_err().to_string(),
            "d: value must be greater than 0s"
        );
    }

    #[test]
    fn fractions_become_parts_of_a_million() {
        let read = |numerator, denominator| {
            let default_value = Some(FractionalPercent {
                numerator,
                denominator,
            });
            let value = RuntimeFractionalPercent {
                default_value,
                runtime_key: String::new(),
            };
            parts_per_million(&value, &mut Ignored::default())
        };
        assert_eq!(read(25, 0).unwrap(), 250_000);
        assert_eq!(read(25, 1).unwrap(), 2_500);
        assert_eq!(read(25, 2).unwrap(), 25);
        assert_eq!(read(u32::MAX, 0).unwrap(), 1_000_000);
        assert_eq!(read(1, 7).unwrap_err().path, "default_value.denominator");
    }
}
