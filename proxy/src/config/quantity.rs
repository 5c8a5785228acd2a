//! Durations and sizes with their unit: `10s`, `32KiB`.

use std::{fmt, ops::Deref, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A duration, written `250ms`, `10s`, `5m`, `12h` or `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// A number of bytes, written `512B`, `32KiB`, `64MiB` or `1GiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {what}; write it like {example}")]
pub struct QuantityError {
    value: String,
    what: &'static str,
    example: &'static str,
}

impl Span {
    /// So many milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// So many seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl ByteSize {
    /// So many KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Span {
    /// A regular expression of the texts that are read.
    pub(super) fn pattern() -> String {
        pattern(SPAN_UNITS)
    }
}

impl ByteSize {
    /// A regular expression of the texts that are read.
    pub(super) fn pattern() -> String {
        pattern(SIZE_UNITS)
    }
}

impl Deref for Span {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl FromStr for Span {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError {
            value: text.to_owned(),
            what: "a duration",
            example: "`250ms`, `10s`, `5m`, `12h` or `7d`",
        };
        quantity(text, SPAN_UNITS).map(Duration::from_millis).map(Self).ok_or_else(error)
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError {
            value: text.to_owned(),
            what: "a size",
            example: "`512B`, `32KiB`, `64MiB` or `1GiB`",
        };
        quantity(text, SIZE_UNITS).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), SPAN_UNITS)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, self.0, SIZE_UNITS)
    }
}

macro_rules! text_forms {
    ($($name:ty),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{self}") }
        }
        impl TryFrom<String> for $name {
            type Error = QuantityError;
            fn try_from(text: String) -> Result<Self, QuantityError> { text.parse() }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String { value.to_string() }
        }
    )+};
}
text_forms!(Span, ByteSize);

fn pattern(units: &[(&str, u64)]) -> String {
    let units: Vec<_> = units.iter().map(|(name, _)| *name).collect();
    format!("^[0-9]+\\s*({})$", units.join("|"))
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn write_quantity(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", value / factor),
        None => write!(f, "{value}{}", units.first().map_or("", |(unit, _)| unit)),
    }
}

/// Smallest unit first; factors in milliseconds.
const SPAN_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_what_they_write() {
        for text in ["0ms", "250ms", "10s", "90s", "5m", "12h", "7d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0B", "512B", "32KiB", "64MiB", "1GiB", "1536B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn patterns_name_every_unit() {
        assert_eq!(Span::pattern(), r"^[0-9]+\s*(ms|s|m|h|d)$");
        assert_eq!(ByteSize::pattern(), r"^[0-9]+\s*(B|KiB|MiB|GiB)$");
    }

    #[test]
    fn a_number_without_its_unit_is_refused() {
        for text in ["", "10", "s", "10 years", "-1s", "1.5s", "99999999999999999999s", "9999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }
}
