//! The path of a Unix socket.

use std::{fmt, path::Path, sync::Arc};

/// The path of a Unix socket, at most 107 bytes (unix(7)): absolute, in visible ASCII, and without segments that lead elsewhere than they say.
/// Symbolic links are the business of who may write in its directory.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SocketPath(Arc<str>);

impl SocketPath {
    /// Reads `/run/app.sock`; none if `text` is no such path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // `,` and `;` end an endpoint and its parameters.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b';'));
        let mut segments = text.strip_prefix('/')?.split('/');
        let is_direct = segments.all(|segment| !matches!(segment, "" | "." | ".."));
        (is_plain && is_direct && text.len() <= LONGEST).then(|| Self(text.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the system takes it.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(self.as_str())
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// unix(7): `sun_path` less its zero.
pub(crate) const LONGEST: usize = 107;
