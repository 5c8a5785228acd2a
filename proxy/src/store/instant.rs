//! Instants as tables hold them.

use std::time::{Duration, SystemTime};

use time::{
    OffsetDateTime, PrimitiveDateTime,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

/// Milliseconds since the epoch; 0 before it.
#[must_use]
pub fn epoch_millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An instant of UTC in whole microseconds, written `2026-11-24T02:15:08.123456Z`: fixed in width, so that it sorts as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Micros(u64);

impl Micros {
    /// Of so many microseconds since the epoch; none after the year 9999.
    #[must_use]
    pub fn from_epoch(micros: u64) -> Self {
        Self(micros.min(MOST))
    }

    /// Of `at`.
    #[must_use]
    pub fn of(at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::from_epoch(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub fn since_epoch(self) -> u64 {
        self.0
    }

    /// Of so many seconds since the epoch.
    #[must_use]
    pub fn of_seconds(seconds: u64) -> Self {
        Self::from_epoch(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// So much later.
    #[must_use]
    pub fn more(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The same as a time of the clock.
    #[must_use]
    pub fn at(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.0)
    }

    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self::from_epoch(self.0.saturating_add(1))
    }

    /// So much earlier.
    #[must_use]
    pub fn less(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` it is; zero where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Reads what [`Micros::to_string`] writes, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let instant = PrimitiveDateTime::parse(text, FORM).ok()?.assume_utc();
        u64::try_from(instant.unix_timestamp_nanos() / 1000).ok().filter(|micros| *micros <= MOST).map(Self)
    }

    /// Reads any instant of RFC 3339 since 1970, as people and programs write them.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(instant.unix_timestamp_nanos() / 1_000).ok().map(Self::from_epoch)
    }
}

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let instant = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000)
            .map_err(|_| std::fmt::Error)?;
        f.write_str(&instant.format(FORM).map_err(|_| std::fmt::Error)?)
    }
}

impl<'de> serde::Deserialize<'de> for Micros {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an instant")))
    }
}

impl serde::Serialize for Micros {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Clocks of a fleet differ by less: AWS takes no request that is dated five minutes wrong ("Signature Version 4 signing process").
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);
const FORM: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
/// 9999-12-31T23:59:59.999999Z, the last instant of four-digit years (RFC 3339 §1).
const MOST: u64 = 253_402_300_799_999_999;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_fixed_form_is_an_instant() {
        assert_eq!(Micros::from_epoch(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Micros::from_epoch(u64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T02:15:08Z",
            "2026-11-24T02:15:08.123Z",
            "2026-11-24T02:15:08.123456+01:00",
            "2026-13-24T02:15:08.123456Z",
            "1969-12-31T23:59:59.000000Z",
        ] {
            assert_eq!(Micros::parse(text), None, "{text}");
        }
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn instants_sort_as_their_texts_do(a in 0..=MOST, b in 0..=MOST) {
                let (a, b) = (Micros::from_epoch(a), Micros::from_epoch(b));
                prop_assert_eq!(Micros::parse(&a.to_string()), Some(a));
                prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            }

            #[test]
            fn no_text_panics(text in "\\PC{0,40}") {
                let _ = Micros::parse(&text);
            }
        }
    }
}
