//! The name by which a fleet recognises requests that it has sent itself (`CDN-Loop`).

use std::str::FromStr;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

/// A cdn-id (RFC 8586 §2): a host, with a port if need be, or a pseudonym; at most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoopId(HeaderValue);

impl LoopId {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // What `from_str` lets through is ASCII.
        self.0.to_str().unwrap_or_default()
    }

    /// As `CDN-Loop` has it.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for LoopId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Beside a token, what an address with a port has.
        let permitted = |byte: u8| is_tchar(byte) || b":[]".contains(&byte);
        let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(permitted);
        let value = HeaderValue::from_str(text).ok().filter(|_| fits);
        value
            .map(Self)
            .ok_or_else(|| format!("`{text}` cannot name a fleet; write a host name like `edge.example.com`"))
    }
}

/// Whether a token may have this byte (RFC 9110 §5.6.2).
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl TryFrom<String> for LoopId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LoopId> for String {
    fn from(id: LoopId) -> Self {
        id.as_str().to_owned()
    }
}

const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_id_is_a_host_or_a_token() {
        for (text, is_one) in [
            ("edge.example.com", true),
            ("edge.example.com:8443", true),
            ("[2001:db8::1]:443", true),
            ("an-operator", true),
            ("", false),
            ("two words", false),
            ("a,b", false),
            ("a;b=c", false),
            ("caf\u{e9}", false),
        ] {
            assert_eq!(text.parse::<LoopId>().is_ok(), is_one, "{text:?}");
        }
    }
}
