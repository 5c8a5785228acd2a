//! How many requests are answered: `20/s`, `20/s burst 200`, or `off`.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::JsonSchema;

/// What bounds requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RequestRate {
    /// Nothing, also where a general setting would.
    Off,
    /// So many in each second, and some at once.
    AtMost {
        /// Requests in a second, on average.
        per_second: NonZeroU32,
        /// Requests at once, by who has made none for long; as many as in a second where nothing is said.
        burst: NonZeroU32,
    },
}

impl RequestRate {
    /// What [`str::parse`] reads, as a regular expression (ECMA-262, as JSON Schema has them).
    pub(crate) const PATTERN: &str = "^(off|[0-9]+/s( burst [0-9]+)?)$";

    fn parse(text: &str) -> Option<Self> {
        if text == OFF {
            return Some(Self::Off);
        }
        let (rate, burst) = match text.split_once(BURST) {
            Some((rate, burst)) => (rate, Some(number(burst)?)),
            None => (text, None),
        };
        let per_second = number(rate.strip_suffix(PER_SECOND)?)?;
        Some(Self::AtMost { per_second, burst: burst.unwrap_or(per_second) })
    }
}

fn number(text: &str) -> Option<NonZeroU32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number: &NonZeroU32| is_plain && number.get() <= MOST)
}

impl FromStr for RequestRate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| {
            format!(
                "`{text}` is not a rate; write it like `20/s`, `20/s burst 200` or `off`, with numbers from 1 to {MOST}"
            )
        })
    }
}

impl fmt::Display for RequestRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str(OFF),
            Self::AtMost { per_second, burst } if per_second == burst => {
                write!(f, "{per_second}{PER_SECOND}")
            }
            Self::AtMost { per_second, burst } => write!(f, "{per_second}{PER_SECOND}{BURST}{burst}"),
        }
    }
}

impl TryFrom<String> for RequestRate {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RequestRate> for String {
    fn from(rate: RequestRate) -> Self {
        rate.to_string()
    }
}

impl JsonSchema for RequestRate {
    fn json_schema() -> Value {
        json!({ "type": "string", "pattern": Self::PATTERN })
    }
}

const OFF: &str = "off";
const PER_SECOND: &str = "/s";
const BURST: &str = " burst ";
/// More than a machine answers in a second.
const MOST: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_what_they_write() {
        for (text, written) in [
            ("off", "off"),
            ("20/s", "20/s"),
            ("20/s burst 200", "20/s burst 200"),
            ("20/s burst 20", "20/s"),
            ("0020/s", "20/s"),
        ] {
            let rate: RequestRate = text.parse().unwrap();
            assert_eq!(rate.to_string(), written);
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_how_one_is_written() {
        for text in [
            "",
            "20",
            "20/m",
            "0/s",
            "20/s burst 0",
            "20/s burst",
            "+20/s",
            "-1/s",
            "1000001/s",
            "Off",
            "20 /s",
        ] {
            let refused = text.parse::<RequestRate>().unwrap_err();
            assert!(
                refused.contains(&format!("`{text}`")) && refused.contains("`20/s burst 200`"),
                "{refused}"
            );
        }
    }
}
