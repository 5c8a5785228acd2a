//! Pages of the operator's own: where they are, and what they may load.

use std::{path::PathBuf, str::FromStr};

use http::HeaderValue;
use serde::{Deserialize, Serialize};

section! {
    /// Pages for what the proxy answers itself, in place of its own. Clients that ask for JSON and not for HTML get RFC 9457's
    /// `application/problem+json` in any case.
    pub struct ErrorPagesConfig {
        /// Directory of pages, read at start and at each reload: `502.html` for one status, `4xx.html` and `5xx.html` for all of a kind,
        /// `maintenance.html` for domains in maintenance; each at most 256 KiB. In a page stand `{{status}}`, `{{reason}}`, `{{title}}`,
        /// `{{advice}}`, `{{reference}}`, `{{time}}` and `{{host}}`.
        directory: Option<PathBuf> = None => "\"/etc/gatehouse/error-pages\"",
        /// `Content-Security-Policy` of these pages: what they may load.
        content_security_policy: ContentSecurityPolicy = ContentSecurityPolicy::strict(),
    }
}

/// A value of `Content-Security-Policy` (Content Security Policy Level 3, §2.2): printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentSecurityPolicy(HeaderValue);

impl ContentSecurityPolicy {
    /// Styles and images of the page itself, and nothing else.
    #[must_use]
    pub const fn strict() -> Self {
        Self(HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; img-src data:"))
    }

    /// As the field has it.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for ContentSecurityPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = !text.trim().is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        HeaderValue::from_str(text).ok().filter(|_| fits).map(Self).ok_or_else(|| {
            format!("{text:?} is no policy; write one like `default-src 'self'`, in one line of ASCII")
        })
    }
}

impl TryFrom<String> for ContentSecurityPolicy {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ContentSecurityPolicy> for String {
    fn from(policy: ContentSecurityPolicy) -> Self {
        // What `from_str` lets through is ASCII.
        policy.0.to_str().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_one_line_of_ascii() {
        for (text, is_one) in [
            ("default-src 'self'; img-src https://cdn.example.com", true),
            ("", false),
            (" ", false),
            ("default-src 'self'\r\nset-cookie: a", false),
            ("default-src caf\u{e9}.example", false),
        ] {
            assert_eq!(text.parse::<ContentSecurityPolicy>().is_ok(), is_one, "{text:?}");
        }
    }
}
