//! Lengths of time and distributions of them, as a scenario writes them: `150ms`, or `{median: 150ms, p99: 400ms}`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::distribution::Distribution;
use crate::engine::time::SimDuration;

/// A length of time, written with units: `1.5s`, `200ms`, `1h30m`, `0s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Span(pub SimDuration);

/// Why a text is not a length of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpanError {
    text: String,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a duration: expected numbers with units, such as 1.5s, 200ms or 1h30m", self.text)
    }
}

impl std::error::Error for SpanError {}

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `<number><unit>` from the front: the length in nanoseconds and what is left of the text.
fn part(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, mut rest) = text.split_at(digits);
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        (fraction, rest) = after.split_at(digits);
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    // Each further decimal is worth a tenth of the one before; what is below a nanosecond is cut off.
    let mut worth = unit;
    for digit in fraction.bytes() {
        worth /= 10;
        nanos = nanos.checked_add(worth * u64::from(digit - b'0'))?;
    }
    Some((nanos, rest))
}

impl FromStr for Span {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError { text: text.to_owned() };
        let (mut total, mut rest) = (0u64, text.trim());
        if rest == "0" {
            return Ok(Span::default());
        }
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let (nanos, left) = part(rest).ok_or_else(error)?;
            total = total.checked_add(nanos).ok_or_else(error)?;
            rest = left;
        }
        Ok(Span(SimDuration::from_nanos(total)))
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

/// Exactly, in the largest unit that keeps it whole: `1500ms`, `90s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let unit = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
        let (name, size) = unit.into_iter().find(|(_, size)| nanos.is_multiple_of(*size)).unwrap_or(("ns", 1));
        write!(f, "{}{name}", nanos / size)
    }
}

/// How long something takes: always the same (`1s`), or one of the shapes below, of which exactly one is given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "SpreadText", into = "SpreadText")]
#[schemars(with = "SpreadText")]
pub struct Spread(pub Distribution);

/// A distribution as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SpreadText {
    /// Always the same.
    Constant(Span),
    /// A shape.
    Shape(SpreadShape),
}

/// A shape of a distribution: `median` with `p99`, or `low` with `high`, or `mean`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpreadShape {
    /// Log-normal: half of all samples are shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<Span>,
    /// Log-normal: one sample in a hundred is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Span>,
    /// Uniform: the shortest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Span>,
    /// Uniform: the longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Span>,
    /// Exponential: the average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Span>,
}

impl TryFrom<SpreadText> for Spread {
    type Error = &'static str;
    fn try_from(text: SpreadText) -> Result<Self, Self::Error> {
        let shape = match text {
            SpreadText::Constant(span) => return Ok(Spread(Distribution::Constant(span.0))),
            SpreadText::Shape(shape) => shape,
        };
        let distribution = match (shape.median, shape.p99, shape.low, shape.high, shape.mean) {
            (Some(median), Some(p99), None, None, None) => Distribution::log_normal(median.0, p99.0),
            (None, None, Some(low), Some(high), None) if low <= high => {
                Distribution::Uniform { low: low.0, high: high.0 }
            }
            (None, None, None, None, Some(mean)) => Distribution::Exponential { mean: mean.0 },
            _ => return Err("expected a duration, or median and p99, or low and high (low not above high), or mean"),
        };
        Ok(Spread(distribution))
    }
}

impl From<Spread> for SpreadText {
    fn from(spread: Spread) -> SpreadText {
        match spread.0 {
            Distribution::Constant(length) => SpreadText::Constant(Span(length)),
            Distribution::Uniform { low, high } => SpreadText::Shape(SpreadShape {
                low: Some(Span(low)),
                high: Some(Span(high)),
                ..SpreadShape::default()
            }),
            Distribution::Exponential { mean } => {
                SpreadText::Shape(SpreadShape { mean: Some(Span(mean)), ..SpreadShape::default() })
            }
            Distribution::LogNormal { median, sigma_thousandths } => {
                let ratio = libm::exp(f64::from(sigma_thousandths) / 1000.0 * 2.326_347_874_040_841);
                let p99 = SimDuration::from_nanos((median.as_nanos() as f64 * ratio) as u64);
                SpreadText::Shape(SpreadShape {
                    median: Some(Span(median)),
                    p99: Some(Span(p99)),
                    ..SpreadShape::default()
                })
            }
            Distribution::Empirical(_) => SpreadText::Constant(Span(spread.0.minimum())),
        }
    }
}

impl Spread {
    /// Always the same, in milliseconds.
    pub const fn millis(length: u64) -> Self {
        Spread(Distribution::Constant(SimDuration::from_millis(length)))
    }

    /// Log-normal, by median and 99th percentile in milliseconds.
    pub fn log_normal_millis(median: u64, p99: u64) -> Self {
        Spread(Distribution::log_normal(SimDuration::from_millis(median), SimDuration::from_millis(p99)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, nanos) in [
            ("150ms", 150_000_000),
            ("1.5s", 1_500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("0.25s", 250_000_000),
            ("0", 0),
            ("7ns", 7),
        ] {
            assert_eq!(text.parse::<Span>().map(|span| span.0.as_nanos()), Ok(nanos), "{text}");
        }
        for text in ["", "5", "s", "1x", "1s 2s", "-1s", "99999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_distribution_is_a_duration_or_one_shape() {
        let read = |text: &str| serde_json::from_str::<Spread>(text);
        assert_eq!(read("\"1s\"").unwrap(), Spread::millis(1000));
        assert_eq!(read(r#"{"median":"150ms","p99":"400ms"}"#).unwrap(), Spread::log_normal_millis(150, 400));
        assert!(read(r#"{"median":"150ms"}"#).is_err());
        assert!(read(r#"{"low":"2s","high":"1s"}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = text.parse::<Span>();
        }

        #[test]
        fn what_is_written_reads_back(nanos in any::<u64>()) {
            let span = Span(SimDuration::from_nanos(nanos));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
    }
}
