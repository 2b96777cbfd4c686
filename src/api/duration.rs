//! Durations as Kubernetes' configurations write them (Go, `time.ParseDuration`): `1m30s`, `-2s`, `1.5h`.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::api::validation::error::go_quote;
use crate::engine::time::SimDuration;

/// A length of time that may be negative, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Duration(pub i64);

/// The units, the longest name of a beginning first.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Duration {
    /// Nothing.
    pub const ZERO: Duration = Duration(0);

    /// So many seconds.
    pub const fn from_secs(seconds: i64) -> Duration {
        Duration(seconds.saturating_mul(1_000_000_000))
    }

    /// The length; nothing if it is negative.
    pub fn length(self) -> SimDuration {
        SimDuration::from_nanos(self.0.max(0).unsigned_abs())
    }

    /// Reads a duration; the error is Go's.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let invalid = || format!("time: invalid duration {}", go_quote(text));
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Duration::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut sum: i128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, after) = rest.split_at(digits);
            let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let scale = match UNITS.iter().find(|(name, _)| *name == unit) {
                Some((_, scale)) => *scale,
                None if number.is_empty() || number.matches('.').count() > 1 => return Err(invalid()),
                None if unit.is_empty() => {
                    return Err(format!("time: missing unit in duration {}", go_quote(text)));
                }
                None => {
                    return Err(format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text)));
                }
            };
            sum += scaled(number, scale).ok_or_else(invalid)?;
            rest = after;
        }
        i64::try_from(if negative { -sum } else { sum }).map(Duration).map_err(|_| invalid())
    }
}

/// A decimal number of a unit; parts of a nanosecond are left out.
fn scaled(number: &str, scale: i64) -> Option<i128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i64>().ok() };
    let fraction_digits = &part[..part.len().min(15)];
    let fraction = i128::from(read(fraction_digits)?) * i128::from(scale) / 10_i128.pow(fraction_digits.len() as u32);
    Some(i128::from(read(whole)?) * i128::from(scale) + fraction)
}

/// As Go writes it: `1m30s`, `100ms`, `0s`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let part = |value: u64, unit: u64| {
            let (whole, rest) = (value / unit, value % unit);
            let digits = unit.ilog10() as usize;
            let fraction = format!("{rest:0digits$}");
            let fraction = if rest == 0 { "" } else { fraction.trim_end_matches('0') };
            if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") }
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => write!(f, "{sign}{}µs", part(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{sign}{}ms", part(nanos, 1_000_000)),
            _ => {
                let (minutes, seconds) = (nanos / 60_000_000_000, part(nanos % 60_000_000_000, 1_000_000_000));
                match (minutes / 60, minutes % 60) {
                    (0, 0) => write!(f, "{sign}{seconds}s"),
                    (0, minutes) => write!(f, "{sign}{minutes}m{seconds}s"),
                    (hours, minutes) => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // What is null was not given.
        if text.is_empty() { Ok(Duration::ZERO) } else { Duration::parse(&text).map_err(de::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(i64, &str), &str>) {
        let found = Duration::parse(text).map(|duration| (duration.0, duration.to_string()));
        assert_eq!(found, expected.map(|(nanos, shown)| (nanos, shown.to_owned())).map_err(str::to_owned), "{text}");
    }

    #[test]
    fn durations_are_read_and_written_as_in_go() {
        check("15s", Ok((15_000_000_000, "15s")));
        check("1h2m", Ok((3_720_000_000_000, "1h2m0s")));
        check("-1.5s", Ok((-1_500_000_000, "-1.5s")));
        check("1m30.5s", Ok((90_500_000_000, "1m30.5s")));
        check("100ms", Ok((100_000_000, "100ms")));
        check("0", Ok((0, "0s")));
        check("15", Err("time: missing unit in duration \"15\""));
        check("5 s", Err("time: unknown unit \" s\" in duration \"5 s\""));
        check("s", Err("time: invalid duration \"s\""));
        check("", Err("time: invalid duration \"\""));
    }
}
