//! Amounts of resources: `100m` of CPU, `64Mi` of memory.
//!
//! Parsing, rounding and the canonical text follow apimachinery, api/resource. An amount is kept as a whole number of
//! billionths, the finest step that Kubernetes knows, so nothing here is a float. Unlike there, amounts beyond about
//! 10^29 are refused.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// Thousandths of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MilliCpu(pub i64);

/// Bytes of memory or storage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Bytes(pub i64);

/// How an amount was written, and is written again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// With the letters n, u, m, k, M, G, T, P, E, or none.
    #[default]
    DecimalSi,
    /// With Ki, Mi, Gi, Ti, Pi, Ei.
    BinarySi,
    /// With e3, e6 and so on.
    DecimalExponent,
}

/// Why a text is no quantity. The messages are those of apimachinery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuantityError {
    /// It does not look like a number with a suffix.
    Format,
    /// The number cannot be represented.
    Numeric,
    /// The suffix is unknown.
    Suffix,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => {
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            Self::Numeric => "unable to parse numeric part of quantity",
            Self::Suffix => "unable to parse quantity's suffix",
        })
    }
}

impl std::error::Error for QuantityError {}

/// An amount together with the way it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nano: 0, format: Format::DecimalSi };

    /// A whole amount.
    pub const fn from_value(value: i64, format: Format) -> Quantity {
        Quantity { nano: value as i128 * NANO, format }
    }

    /// An amount in thousandths.
    pub const fn from_milli(milli: i64, format: Format) -> Quantity {
        Quantity { nano: milli as i128 * (NANO / 1000), format }
    }

    /// Reads an amount. What is finer than a billionth is rounded away from zero.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        Ok(Spelling::of(text)?.amount()?.0)
    }

    /// Reads an amount of the API types.
    pub fn of(text: &Text) -> Result<Quantity, QuantityError> {
        Quantity::parse(text.0.trim())
    }

    /// The amount in the API types, in canonical form.
    pub fn to_text(self) -> Text {
        Text(self.to_string())
    }

    /// The whole amount, rounded away from zero.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    /// The amount as CPU.
    pub fn cpu(self) -> MilliCpu {
        MilliCpu(self.milli_value())
    }

    /// The amount as bytes.
    pub fn bytes(self) -> Bytes {
        Bytes(self.value())
    }

    fn scaled(self, unit: i128) -> i64 {
        let whole = divide_away_from_zero(self.nano, unit);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    /// How this amount is written.
    pub const fn format(self) -> Format {
        self.format
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether this is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Whether the amount is a whole number.
    pub const fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }

    /// The sum, written like `self` unless that is zero; the largest amount there is where it would be exceeded.
    pub fn plus(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_add(other.nano), format }
    }

    /// The multiple, written like `self`; the largest amount there is where it would be exceeded.
    pub fn times(self, factor: i64) -> Quantity {
        Quantity { nano: self.nano.saturating_mul(i128::from(factor)), format: self.format }
    }

    /// The difference, written like `self` unless that is zero; may be negative.
    pub fn minus(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_sub(other.nano), format }
    }
}

/// The text that the API server stores for an amount: the text itself where it is already canonical.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, QuantityError> {
    let trimmed = text.trim();
    let (amount, verbatim) = Spelling::of(trimmed)?.amount()?;
    Ok(if verbatim { Cow::Borrowed(trimmed) } else { Cow::Owned(amount.to_string()) })
}

fn divide_away_from_zero(amount: i128, unit: i128) -> i128 {
    let quotient = amount / unit;
    match amount % unit {
        0 => quotient,
        rest => quotient + rest.signum(),
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By amount; how it is written does not matter.
impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> std::cmp::Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// The canonical form: no fraction, the largest suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        // Binary suffixes cannot say fractions, and below 1024 they have nothing to say.
        let binary = self.format == Format::BinarySi
            && self.is_whole()
            && self.nano.unsigned_abs() >= 1024 * NANO.unsigned_abs();
        if binary {
            let mut number = self.nano / NANO;
            let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
            let mut suffix = suffixes.next().unwrap_or_default();
            while number % 1024 == 0 {
                let Some(larger) = suffixes.next() else { break };
                number /= 1024;
                suffix = larger;
            }
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.nano, -9);
        let exponent_limit = if self.format == Format::DecimalExponent { i32::MAX } else { 18 };
        while number % 1000 == 0 && exponent < exponent_limit {
            number /= 1000;
            exponent += 3;
        }
        let suffix = match exponent {
            0 => "",
            _ if self.format == Format::DecimalExponent => return write!(f, "{number}e{exponent}"),
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            _ => "E",
        };
        write!(f, "{number}{suffix}")
    }
}

/// A text taken apart.
struct Spelling<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros; `0` where there are none.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    suffix: Suffix,
}

#[derive(Clone, Copy)]
enum Suffix {
    Decimal { exponent: i32, format: Format },
    Binary { exponent: u32 },
}

/// The longest beginning of `text` whose bytes all satisfy `keep`, and the rest.
fn split_while(text: &str, keep: fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !keep(byte)).unwrap_or(text.len());
    text.split_at(end)
}

impl<'a> Spelling<'a> {
    fn of(text: &'a str) -> Result<Spelling<'a>, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (_, significant) = split_while(unsigned, |byte| byte == b'0');
        let (whole, rest) = split_while(significant, |byte| byte.is_ascii_digit());
        let whole = if whole.is_empty() { "0" } else { whole };
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_while(rest, |byte| byte.is_ascii_digit()),
            None => ("", rest),
        };
        let (_, rest) = split_while(suffix, |byte| b"eEinumkKMGTP".contains(&byte));
        let exponent = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if !exponent.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        Ok(Spelling { negative, whole, fraction, suffix: Suffix::of(suffix)? })
    }

    /// The amount, and whether the text itself counts as its canonical form.
    fn amount(&self) -> Result<(Quantity, bool), QuantityError> {
        let mut digits: i128 = 0;
        for digit in self.whole.bytes().chain(self.fraction.bytes()) {
            let larger = digits.checked_mul(10).and_then(|digits| digits.checked_add(i128::from(digit - b'0')));
            digits = larger.ok_or(QuantityError::Numeric)?;
        }
        let places = i32::try_from(self.fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let (nano, mut format) = match self.suffix {
            Suffix::Decimal { exponent, format } => (decimal(digits, exponent.saturating_sub(places))?, format),
            Suffix::Binary { exponent } => (binary(digits, exponent, places), Format::BinarySi),
        };
        if format == Format::BinarySi && 0 < nano && nano < NANO {
            format = Format::DecimalSi;
        }
        let nano = if self.negative { -nano } else { nano };
        Ok((Quantity { nano, format }, self.is_canonical(digits, places)))
    }

    /// The API server keeps the text it was given where a quick look finds nothing to shorten; so `1.500` stays as it is.
    fn is_canonical(&self, digits: i128, places: i32) -> bool {
        let length = (self.whole.len() + self.fraction.len()) as i32;
        match self.suffix {
            Suffix::Decimal { exponent, .. } => {
                let scale = exponent.saturating_sub(places);
                let ends_in_zeros = match self.fraction.len() {
                    0 => self.whole.ends_with("000"),
                    _ => digits % 1000 == 0 && length >= 3,
                };
                length <= 18 && scale >= -9 && scale % 3 == 0 && !ends_in_zeros && !self.whole.starts_with('0')
            }
            Suffix::Binary { exponent } => {
                let precision = 14 - self.whole.len() as i64 - i64::from(exponent) * 3 / 10;
                self.fraction.is_empty() && precision >= 0 && digits & 7 != 0
            }
        }
    }
}

/// `digits * 10^exponent` in billionths, rounded up.
fn decimal(digits: i128, exponent: i32) -> Result<i128, QuantityError> {
    if digits == 0 {
        return Ok(0);
    }
    let shift = exponent.saturating_add(9);
    let factor = 10i128.checked_pow(shift.unsigned_abs());
    match (shift < 0, factor) {
        (false, Some(factor)) => digits.checked_mul(factor).ok_or(QuantityError::Numeric),
        (false, None) => Err(QuantityError::Numeric),
        (true, Some(divisor)) => Ok(divide_away_from_zero(digits, divisor)),
        (true, None) => Ok(1),
    }
}

/// `digits * 2^exponent / 10^places` in billionths, rounded up, at most the largest 64-bit number.
fn binary(digits: i128, exponent: u32, places: i32) -> i128 {
    let limit = i128::from(i64::MAX) * NANO;
    let Some(product) = digits.checked_mul(1i128 << exponent) else { return limit };
    decimal(product, -places).map_or(limit, |nano| nano.min(limit))
}

impl Suffix {
    fn of(text: &str) -> Result<Suffix, QuantityError> {
        let decimal = |exponent| Ok(Suffix::Decimal { exponent, format: Format::DecimalSi });
        let binary = |exponent| Ok(Suffix::Binary { exponent });
        match text {
            "" => decimal(0),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            _ => {
                let exponent = text.strip_prefix(['e', 'E']).and_then(|digits| digits.parse::<i32>().ok());
                let exponent = exponent.ok_or(QuantityError::Suffix)?;
                Ok(Suffix::Decimal { exponent, format: Format::DecimalExponent })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text in; canonical text, value and thousandths out.
    fn check(text: &str, expected: Result<(&str, i64, i64), QuantityError>) {
        let found = Quantity::parse(text)
            .and_then(|quantity| Ok((canonical(text)?.into_owned(), quantity.value(), quantity.milli_value())));
        assert_eq!(found, expected.map(|(text, value, milli)| (text.to_owned(), value, milli)), "{text:?}");
    }

    #[test]
    fn quantities_read_and_print_as_apimachinery_does() {
        check("0", Ok(("0", 0, 0)));
        check("100m", Ok(("100m", 1, 100)));
        check("1500m", Ok(("1500m", 2, 1500)));
        check("1.5", Ok(("1500m", 2, 1500)));
        check("0.1", Ok(("100m", 1, 100)));
        check("1000m", Ok(("1", 1, 1000)));
        check("64Mi", Ok(("64Mi", 64 << 20, (64 << 20) * 1000)));
        check("1.5Gi", Ok(("1536Mi", 1536 << 20, (1536 << 20) * 1000)));
        check("1024Mi", Ok(("1Gi", 1 << 30, (1 << 30) * 1000)));
        check("1e3", Ok(("1e3", 1000, 1_000_000)));
        check("12e6", Ok(("12e6", 12_000_000, 12_000_000_000)));
        check("1E", Ok(("1E", 1_000_000_000_000_000_000, i64::MAX)));
        check("1000", Ok(("1k", 1000, 1_000_000)));
        check("0.5Ki", Ok(("512", 512, 512_000)));
        check("1.1Ki", Ok(("1126400m", 1127, 1_126_400)));
        check("1u", Ok(("1u", 1, 1)));
        check("0.1n", Ok(("1n", 1, 1)));
        check("-1.5", Ok(("-1500m", -2, -1500)));
        check("1.500", Ok(("1.500", 2, 1500)));
        check("0.500", Ok(("500m", 1, 500)));
        check("9Ei", Ok(("9223372036854775807", i64::MAX, i64::MAX)));
        check(".5", Ok(("500m", 1, 500)));
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_real_reason() {
        for text in ["", "abc", "1 Mi", "1MiB", "1.2.3", "1e3e"] {
            check(text, Err(QuantityError::Format));
        }
        for text in ["1mi", "1K", "12e", "1ee3", "1m1", "--1"] {
            check(text, Err(QuantityError::Suffix));
        }
        check("1e40", Err(QuantityError::Numeric));
    }

    #[test]
    fn sums_keep_the_way_of_writing() {
        let sum = |a: &str, b: &str| Some(Quantity::parse(a).ok()?.plus(Quantity::parse(b).ok()?).to_string());
        assert_eq!(sum("64Mi", "1M"), Some("68108864".to_owned()));
        assert_eq!(sum("0", "64Mi"), Some("64Mi".to_owned()));
        assert_eq!(sum("500m", "1.5"), Some("2".to_owned()));
    }

    #[test]
    fn sums_beyond_all_bounds_stay_at_the_bound() {
        let least = Quantity::parse("-170141183460469231731687303715Ki").unwrap_or_default();
        let less = least.minus(Quantity::parse("170141183460469231731687303715").unwrap_or_default());
        let less = less.minus(Quantity::parse("170141183460469231731687303715").unwrap_or_default());
        assert_eq!(less.value(), i64::MIN);
        assert!(less.to_string().starts_with("-170141183460469231731"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_quantity_or_an_error(text in "[-+0-9.eEinumkKMGTPi ]{0,24}|.{0,8}") {
            let _ = canonical(&text);
        }

        #[test]
        fn what_is_printed_reads_back_as_the_same_amount(digits in -1_000_000_000i64..1_000_000_000, suffix in "n|u|m|k|M|G|Ki|Mi|Gi|e3|e-3|") {
            let quantity = Quantity::parse(&format!("{digits}{suffix}"));
            prop_assert!(quantity.is_ok());
            let printed = quantity.map(|quantity| quantity.to_string()).unwrap_or_default();
            prop_assert_eq!(Quantity::parse(&printed), quantity);
            let again = canonical(&printed).map(|text| text.into_owned());
            prop_assert_eq!(again.as_deref(), Ok(printed.as_str()));
        }
    }
}
