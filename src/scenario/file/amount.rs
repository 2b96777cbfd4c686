//! Quantities, shares and dates as a scenario writes them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::meta::Epoch;
use crate::api::quantity::Quantity;
use crate::engine::random::Ratio;

/// A Kubernetes quantity: `500m`, `4`, `16Gi`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "AmountText", into = "AmountText")]
#[schemars(with = "AmountText")]
pub struct Amount(pub Quantity);

/// A quantity as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AmountText {
    /// A whole number.
    Number(u32),
    /// A number with a suffix of Kubernetes: `m`, `k`, `M`, `G`, `Ki`, `Mi`, `Gi`, ...
    Text(String),
}

impl TryFrom<AmountText> for Amount {
    type Error = String;
    fn try_from(text: AmountText) -> Result<Self, String> {
        let text = match text {
            AmountText::Number(number) => number.to_string(),
            AmountText::Text(text) => text,
        };
        let quantity = Quantity::parse(&text).ok().filter(|quantity| quantity.milli_value() >= 0);
        quantity
            .map(Amount)
            .ok_or_else(|| format!("{text:?} is not an amount: expected a quantity such as 500m, 4 or 16Gi"))
    }
}

impl From<Amount> for AmountText {
    fn from(amount: Amount) -> AmountText {
        AmountText::Text(amount.0.to_string())
    }
}

/// A share of a whole: `0.1%`, `1/1000` or `0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ShareText", into = "ShareText")]
#[schemars(with = "ShareText")]
pub struct Share {
    numerator: u32,
    denominator: u32,
}

impl Share {
    /// As a probability.
    pub fn ratio(self) -> Ratio {
        // Both were checked when the share was read.
        Ratio::new(self.numerator, self.denominator).unwrap_or(Ratio::NEVER)
    }
}

/// A share as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ShareText {
    /// 0 for never, 1 for always.
    Number(u32),
    /// A percentage or a ratio of whole numbers.
    Text(String),
}

impl TryFrom<ShareText> for Share {
    type Error = String;
    fn try_from(text: ShareText) -> Result<Self, String> {
        let text = match text {
            ShareText::Number(number) => number.to_string(),
            ShareText::Text(text) => text,
        };
        let (numerator, denominator) = share(text.trim())
            .filter(|(numerator, denominator)| Ratio::new(*numerator, *denominator).is_some())
            .ok_or_else(|| format!("{text:?} is not a share: expected one from 0 to 1, such as 0.1% or 1/1000"))?;
        Ok(Share { numerator, denominator })
    }
}

impl From<Share> for ShareText {
    fn from(share: Share) -> ShareText {
        ShareText::Text(format!("{}/{}", share.numerator, share.denominator))
    }
}

/// Numerator and denominator, which may still be no probability.
fn share(text: &str) -> Option<(u32, u32)> {
    let whole = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some((numerator, denominator)) = text.split_once('/') {
        return Some((whole(numerator.trim())?, whole(denominator.trim())?));
    }
    if let Some(percent) = text.strip_suffix('%') {
        let (units, fraction) = percent.trim().split_once('.').unwrap_or((percent.trim(), ""));
        let places = u32::try_from(fraction.len()).ok()?;
        let denominator = 10u32.checked_pow(places)?.checked_mul(100)?;
        let fraction = if fraction.is_empty() { 0 } else { whole(fraction)? };
        let numerator = whole(units)?.checked_mul(denominator / 100)?.checked_add(fraction)?;
        return Some((numerator, denominator));
    }
    Some((whole(text)?, 1))
}

/// A date: `2026-11-20T18:32:16Z`, with fractions of seconds if need be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Date(pub Epoch);

impl TryFrom<String> for Date {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let date = text.parse::<jiff::Timestamp>().ok();
        let nanos = date.and_then(|date| i64::try_from(date.as_nanosecond()).ok()).filter(|nanos| *nanos >= 0);
        let date = nanos.map(|nanos| Date(Epoch(nanos)));
        date.ok_or_else(|| format!("{text:?} is not a date: expected one such as 2026-11-20T18:32:16Z"))
    }
}

impl From<Date> for String {
    fn from(date: Date) -> String {
        date.to_string()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0.0)) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "{} ns", self.0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_percentages_and_ratios() {
        for (text, expected) in
            [("0.1%", (1, 1000)), ("25%", (25, 100)), ("1/1000", (1, 1000)), ("0", (0, 1)), ("1", (1, 1))]
        {
            let share = Share::try_from(ShareText::Text(text.to_owned()));
            assert_eq!(share.map(Share::ratio).ok(), Ratio::new(expected.0, expected.1), "{text}");
        }
        for text in ["", "2", "101%", "2/1", "1/0", "-1%", "a", "1.0", "0.00000000001%"] {
            assert!(Share::try_from(ShareText::Text(text.to_owned())).is_err(), "{text}");
        }
    }

    #[test]
    fn a_date_comes_back_as_it_was() {
        let date = Date::try_from("2026-11-20T18:32:16.110013489Z".to_owned()).unwrap();
        assert_eq!(date.0.0 % 1_000_000_000, 110_013_489);
        assert_eq!(String::from(date), "2026-11-20T18:32:16.110013489Z");
        for text in ["yesterday", "1969-01-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
            assert!(Date::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = Share::try_from(ShareText::Text(text.clone()));
            let _ = Amount::try_from(AmountText::Text(text.clone()));
            let _ = Date::try_from(text);
        }
    }
}
