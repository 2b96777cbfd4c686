//! Amounts of bytes as a scenario writes them: `50Mi`, `1G` or a plain number.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An amount of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "SizeText", into = "SizeText")]
#[schemars(with = "SizeText")]
pub struct Size(pub u64);

/// An amount of bytes as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SizeText {
    /// Bytes.
    Number(u64),
    /// With a suffix: `k`, `M`, `G`, `T` (powers of 1000) or `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024).
    Text(String),
}

/// Why a text is not an amount of bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SizeError {
    text: String,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a size: expected a whole number with k, M, G, T, Ki, Mi, Gi, Ti or nothing", self.text)
    }
}

impl std::error::Error for SizeError {}

const SUFFIXES: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl FromStr for Size {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let suffixed = SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
        let (digits, unit) = suffixed.unwrap_or((text, 1));
        let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let bytes = number.and_then(|number| number.checked_mul(unit));
        bytes.map(Size).ok_or_else(|| SizeError { text: text.to_owned() })
    }
}

impl TryFrom<SizeText> for Size {
    type Error = SizeError;
    fn try_from(text: SizeText) -> Result<Self, SizeError> {
        match text {
            SizeText::Number(bytes) => Ok(Size(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

impl From<Size> for SizeText {
    fn from(size: Size) -> SizeText {
        SizeText::Number(size.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_suffix() {
        let read = |text: &str| text.parse::<Size>().ok().map(|size| size.0);
        assert_eq!(["7", "2k", "2Ki", "50Mi"].map(read), [Some(7), Some(2000), Some(2048), Some(52_428_800)]);
        assert_eq!(["", "Mi", "+5", "1.5Gi", "99999999999Ti"].map(read), [None; 5]);
    }
}
