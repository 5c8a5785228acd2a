//! The name by which an endpoint refers to settings for TLS.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// What `;tls=` and `[upstream.tls.NAME]` say: 1 to 63 ASCII letters, digits, `-` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TlsName(Arc<str>);

/// Not such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of TLS settings; write 1 to 63 letters, digits, `-` and `_`")]
pub struct TlsNameError(String);

impl TlsName {
    /// Reads a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (is_plain && (1..=LONGEST).contains(&text.len())).then(|| Self(text.into()))
    }
}

impl fmt::Display for TlsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TlsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TlsName {
    type Error = TlsNameError;
    fn try_from(text: String) -> Result<Self, TlsNameError> {
        Self::parse(&text).ok_or(TlsNameError(text))
    }
}

impl From<TlsName> for String {
    fn from(name: TlsName) -> Self {
        name.to_string()
    }
}

const LONGEST: usize = 63;
