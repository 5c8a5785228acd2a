//! Settings for compression.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{JsonSchema, enums::ContentCoding, loop_id::is_tchar, quantity::ByteSize};

section! {
    /// Compression of targets' responses over HTTPS. Before you turn it on, read what it can tell an attacker: docs/security.md, "Compression".
    pub struct CompressionConfig {
        /// Codings that responses are compressed with: `gzip`. Without any, all responses pass as they are.
        encodings: Vec<ContentCoding> = Vec::new() => "[\"gzip\"]",
        /// Length of the shortest body that is compressed, where it is known before.
        minimum_size: ByteSize = ByteSize::kib(1),
        /// Media types that are compressed; `text/*` is all of text.
        types: Vec<MediaType> = MediaType::usual(),
        /// Responses that are compressed at a time; others pass as they are meanwhile. Each takes some 400 KiB of memory.
        streams: usize = 256,
    }
}

/// A media type without parameters (RFC 9110 §8.3.1), like `text/html`, or all of one kind, like `text/*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(String);

impl MediaType {
    fn parse(text: &str) -> Option<Self> {
        let (kind, subtype) = text.split_once('/')?;
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_tchar);
        let is_valid =
            is_token(kind) && kind != "*" && (subtype == "*" || is_token(subtype) && !subtype.contains('*'));
        is_valid.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Whether `essence`, a media type without parameters, is this one or of this kind.
    #[must_use]
    pub fn is(&self, essence: &[u8]) -> bool {
        match self.0.strip_suffix('*') {
            Some(kind) => {
                essence.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()))
            }
            None => essence.eq_ignore_ascii_case(self.0.as_bytes()),
        }
    }

    /// What is text, and grows when it is not compressed.
    fn usual() -> Vec<Self> {
        USUAL.iter().map(|text| Self((*text).to_owned())).collect()
    }
}

impl TryFrom<String> for MediaType {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!("`{text}` is not a media type; write it like `text/html` or `text/*`, without parameters")
        })
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for MediaType {
    fn json_schema() -> Value {
        json!({ "type": "string", "pattern": "^[^/; ]+/[^/; ]+$" })
    }
}

const USUAL: [&str; 11] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "image/svg+xml",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_itself_or_of_a_kind() {
        let media_type = |text: &str| MediaType::try_from(text.to_owned());
        for (listed, essence, is_it) in [
            ("text/html", "text/html", true),
            ("text/html", "TEXT/HTML", true),
            ("Text/HTML", "text/html", true),
            ("text/html", "text/htmlx", false),
            ("text/*", "text/css", true),
            ("text/*", "textual/css", false),
            ("text/*", "text", false),
            ("image/svg+xml", "image/svg+xml", true),
        ] {
            assert_eq!(media_type(listed).unwrap().is(essence.as_bytes()), is_it, "{listed} and {essence}");
        }
        for text in ["", "text", "*/*", "text/", "/html", "text/html; charset=utf-8", "text/ht*", "a/b/c"] {
            let refused = media_type(text).unwrap_err();
            assert!(refused.contains(&format!("`{text}`")) && refused.contains("`text/*`"), "{refused}");
        }
    }
}
