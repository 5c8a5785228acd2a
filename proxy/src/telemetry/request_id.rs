//! What a request is known by: in the log, on the page of an error, to its target and to its client.
//! Invariant: an id can stand unescaped wherever it is shown (`what_could_mean_something_where_it_is_shown_is_no_id`).

use std::fmt;

use http::HeaderValue;

/// The id of a request: one to 128 visible characters of ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Of our own making.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        // Every request has one: formatting costs several times as much.
        let bytes = number.to_be_bytes();
        let digits: [u8; 16] = std::array::from_fn(|place| {
            let byte = bytes.get(place / 2).copied().unwrap_or_default();
            let digit = if place % 2 == 0 { byte >> 4 } else { byte & 0xf };
            b"0123456789abcdef".get(usize::from(digit)).copied().unwrap_or_default()
        });
        // Digits are a field's value; what is there in case they were none is the same number.
        Self(HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from(number)))
    }

    /// One that somebody else has made, if it is one.
    #[must_use]
    pub fn given(value: &[u8]) -> Option<Self> {
        let is_id = (1..=LONGEST).contains(&value.len()) && value.iter().copied().all(is_plain);
        is_id.then(|| HeaderValue::from_bytes(value).ok().map(Self))?
    }

    /// As a field's value.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Visible, and without meaning in HTML, JSON, a quoted string or a shell's.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"&'<>\\`".contains(&byte)
}

/// W3C's and the large clouds' ids have at most 100 characters.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mean_something_where_it_is_shown_is_no_id() {
        let longest = "x".repeat(LONGEST);
        for (value, is_id) in [
            ("605b1aadce869bc2", true),
            ("Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8", true),
            (longest.as_str(), true),
            ("", false),
            (&"x".repeat(LONGEST + 1), false),
            ("a b", false),
            ("a\tb", false),
            ("<b>", false),
            ("a&b", false),
            ("a\"b", false),
            ("a'b", false),
            ("a\\b", false),
            ("b\u{fc}cher", false),
        ] {
            let given = RequestId::given(value.as_bytes());
            assert_eq!(given.map(|id| id.to_string()).as_deref(), Some(value).filter(|_| is_id), "{value}");
        }
        assert_eq!(RequestId::numbered(0xab).to_string(), "00000000000000ab");
        assert!(RequestId::given(RequestId::numbered(u64::MAX).value().as_bytes()).is_some());
    }
}
