//! The tenant of a domain.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A tenant of the domains table: up to 128 letters, digits and `-_.@:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(String);

/// The tenant of an entry without one.
pub const DEFAULT_TENANT: &str = "default";

/// A text names no tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant: `{0}` is not a tenant; write up to 128 letters, digits, `-`, `_`, `.`, `@` or `:`")]
pub struct NoTenant(String);

impl Tenant {
    /// As the table has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Of an entry without one.
impl Default for Tenant {
    fn default() -> Self {
        Self(DEFAULT_TENANT.to_owned())
    }
}

impl FromStr for Tenant {
    type Err = NoTenant;
    fn from_str(text: &str) -> Result<Self, NoTenant> {
        // It travels in a query as it is (RFC 3986 §3.4).
        let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(permitted) {
            return Err(NoTenant(text.chars().take(140).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Tenant {
    type Error = NoTenant;
    fn try_from(text: String) -> Result<Self, NoTenant> {
        text.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> String {
        tenant.0
    }
}
