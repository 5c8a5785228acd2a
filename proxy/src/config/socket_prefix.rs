//! Unix sockets by their directory, or one by its path.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::JsonSchema;
use crate::target::SocketPath;

/// `/run/apps/` is every socket below that directory, `/run/app.sock` that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketPrefix(String);

/// Not such a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no absolute path without `//`, `.` and `..`; write it like `/run/apps/` or `/run/app.sock`"
)]
pub struct SocketPrefixError(String);

impl SocketPrefix {
    /// Whether `path` is meant.
    #[must_use]
    pub fn covers(&self, path: &SocketPath) -> bool {
        match path.as_str().strip_prefix(&self.0) {
            // A `SocketPath` has no segment that leads out again.
            Some(rest) => rest.is_empty() || self.0.ends_with('/'),
            None => false,
        }
    }
}

impl TryFrom<String> for SocketPrefix {
    type Error = SocketPrefixError;
    fn try_from(text: String) -> Result<Self, SocketPrefixError> {
        // `/` alone is every socket there is.
        let path = text.strip_suffix('/').unwrap_or(&text);
        let is_path = text == "/" || SocketPath::parse(path).is_some();
        if is_path { Ok(Self(text)) } else { Err(SocketPrefixError(text)) }
    }
}

impl From<SocketPrefix> for String {
    fn from(prefix: SocketPrefix) -> Self {
        prefix.0
    }
}

impl JsonSchema for SocketPrefix {
    fn json_schema() -> Value {
        json!({ "type": "string", "pattern": "^/" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_covers_what_is_below_it_and_a_socket_itself() {
        for (prefix, path, covered) in [
            ("/run/apps/", "/run/apps/shop.sock", true),
            ("/run/apps/", "/run/apps/shop/web.sock", true),
            ("/run/apps/", "/run/apps", false),
            ("/run/apps/", "/run/appsock", false),
            ("/run/app.sock", "/run/app.sock", true),
            ("/run/app.sock", "/run/app.sock2", false),
            ("/run/app.sock", "/run/app.sock/x", false),
            ("/", "/run/app.sock", true),
        ] {
            let (prefix, path) = (SocketPrefix::try_from(prefix.to_owned()), SocketPath::parse(path));
            let (prefix, path) = (prefix.unwrap(), path.unwrap());
            assert_eq!(prefix.covers(&path), covered, "{prefix:?} {path}");
        }
        for wrong in ["", "run/apps/", "/run/../etc/", "/run//apps/", "//", "/run/a b/"] {
            assert!(SocketPrefix::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
