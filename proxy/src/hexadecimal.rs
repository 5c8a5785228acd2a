//! Bytes as lower-case hexadecimal digits.

use std::fmt::Write as _;

/// Two digits a byte. The text is never moved while it is written, so that a secret's is in one place.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
