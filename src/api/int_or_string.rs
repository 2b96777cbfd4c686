//! Numbers that may be given as a percentage of something, such as `maxSurge: 25%`.
//!
//! Rules and texts follow apimachinery, util/intstr.

pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::fmt;

use super::validation::error::go_quote;

/// Which way the part of a whole is rounded when it is not a whole number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// Towards more, as for `maxSurge`.
    Up,
    /// Towards less, as for `maxUnavailable`.
    Down,
}

/// A text that is neither a number nor a percentage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IntOrStringError {
    /// The text does not end in `%`.
    NotAPercentage,
    /// What stands before `%` is not a whole number.
    NotANumber(String),
}

impl fmt::Display for IntOrStringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid value for IntOrString: ")?;
        match self {
            Self::NotAPercentage => f.write_str("invalid type: string is not a percentage"),
            Self::NotANumber(text) => {
                let number = go_quote(text.strip_suffix('%').unwrap_or(text));
                write!(f, "invalid value {}: strconv.Atoi: parsing {number}: invalid syntax", go_quote(text))
            }
        }
    }
}

impl std::error::Error for IntOrStringError {}

/// The number itself, or that percentage of `total`, rounded as said.
pub fn scaled_value(value: &IntOrString, total: i64, round: Round) -> Result<i64, IntOrStringError> {
    let percent = match value {
        IntOrString::Int(number) => return Ok(i64::from(*number)),
        IntOrString::String(text) => parse_percent(text)?,
    };
    let hundredths = i128::from(percent) * i128::from(total);
    let down = hundredths.div_euclid(100);
    let exact = hundredths.rem_euclid(100) == 0;
    let part = if exact || round == Round::Down { down } else { down + 1 };
    Ok(i64::try_from(part).unwrap_or(if part < 0 { i64::MIN } else { i64::MAX }))
}

/// The number before the percent sign, which is given with or without a sign of its own.
pub fn parse_percent(text: &str) -> Result<i64, IntOrStringError> {
    let digits = text.strip_suffix('%').ok_or(IntOrStringError::NotAPercentage)?;
    digits.parse().map_err(|_| IntOrStringError::NotANumber(text.to_owned()))
}

/// As it is written in a manifest: a bare number or the text.
pub fn text_of(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, total: i64, expected: Result<(i64, i64), &str>) {
        let value = IntOrString::String(text.to_owned());
        let down = scaled_value(&value, total, Round::Down).map_err(|error| error.to_string());
        let up = scaled_value(&value, total, Round::Up).map_err(|error| error.to_string());
        assert_eq!(down.and_then(|down| Ok((down, up?))), expected.map_err(str::to_owned), "{text} of {total}");
    }

    #[test]
    fn percentages_are_rounded_as_asked() {
        check("25%", 10, Ok((2, 3)));
        check("25%", 8, Ok((2, 2)));
        check("0%", 8, Ok((0, 0)));
        check("100%", 7, Ok((7, 7)));
        check("-25%", 10, Ok((-3, -2)));
        check("5", 10, Err("invalid value for IntOrString: invalid type: string is not a percentage"));
        check(
            "a%",
            10,
            Err("invalid value for IntOrString: invalid value \"a%\": strconv.Atoi: parsing \"a\": invalid syntax"),
        );
        assert_eq!(scaled_value(&IntOrString::Int(4), 1, Round::Up), Ok(4));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_number_or_an_error(text in ".{0,12}", total in any::<i64>()) {
            let _ = scaled_value(&IntOrString::String(text), total, Round::Up);
        }
    }
}
