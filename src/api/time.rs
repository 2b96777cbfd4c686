//! Points in time as the API writes them: RFC 3339 in UTC, in whole seconds or with six decimals.
//!
//! Virtual time is not known here; whoever has the scenario's epoch adds it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

/// Seconds since 1970, as `2024-01-02T03:04:05Z`; nothing if the year has more than four digits.
pub fn seconds_to_text(seconds: i64) -> Option<String> {
    let stamp = Timestamp::from_second(seconds).ok()?;
    jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%SZ", stamp).ok()
}

/// Microseconds since 1970, as `2024-01-02T03:04:05.000006Z`; nothing if the year has more than four digits.
pub fn micros_to_text(micros: i64) -> Option<String> {
    let stamp = Timestamp::from_microsecond(micros).ok()?;
    jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%S%.6fZ", stamp).ok()
}

/// Whole seconds since 1970 of a text in RFC 3339, with any offset; fractions are cut off.
pub fn text_to_seconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|stamp| stamp.as_microsecond().div_euclid(1_000_000))
}

/// Whole microseconds since 1970 of a text in RFC 3339, with any offset.
pub fn text_to_micros(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// Seconds since 1970 in the API types; nothing outside the years that they can say.
pub fn seconds_to_time(seconds: i64) -> Option<Time> {
    Timestamp::from_second(seconds).ok().map(Time)
}

/// Microseconds since 1970 in the API types; nothing outside the years that they can say.
pub fn micros_to_time(micros: i64) -> Option<MicroTime> {
    Timestamp::from_microsecond(micros).ok().map(MicroTime)
}

/// Whole seconds since 1970.
pub fn time_to_seconds(time: &Time) -> i64 {
    time.0.as_second()
}

/// Whole microseconds since 1970.
pub fn time_to_micros(time: &MicroTime) -> i64 {
    time.0.as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_written_as_the_api_server_writes_them() {
        assert_eq!(seconds_to_text(1_704_164_645).as_deref(), Some("2024-01-02T03:04:05Z"));
        assert_eq!(micros_to_text(1_704_164_645_000_006).as_deref(), Some("2024-01-02T03:04:05.000006Z"));
        assert_eq!(text_to_seconds("2024-01-02T04:04:05.9+01:00"), Some(1_704_164_645));
        assert_eq!(text_to_micros("2024-01-02T03:04:05.000006Z"), Some(1_704_164_645_000_006));
        assert_eq!(text_to_seconds("yesterday"), None);
        assert_eq!(seconds_to_text(i64::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in -60_000_000_000i64..200_000_000_000, micros in 0..1_000_000i64) {
            let text = seconds_to_text(seconds).unwrap_or_default();
            prop_assert_eq!(text_to_seconds(&text), Some(seconds));
            let text = micros_to_text(seconds * 1_000_000 + micros).unwrap_or_default();
            prop_assert_eq!(text_to_micros(&text), Some(seconds * 1_000_000 + micros));
        }
    }
}
