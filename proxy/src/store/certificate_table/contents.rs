//! What an item holds: read as Caddy reads it, never shown by `{:?}`, and remembered so that a write can be conditional on it.

use std::{collections::HashMap, fmt, ops::Deref};

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::item::{CONTENTS, PRIMARY};
use crate::store::{Item, key_sealer::Tampered};

/// The bytes of an item. Some are private keys, so they are wiped, and `{:?}` shows their number only (`no_key_is_shown`).
#[derive(Clone, PartialEq, Eq)]
pub struct ItemContents(Zeroizing<Vec<u8>>);

/// Why an item holds nothing that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// The attribute is not there.
    #[error("has no `{CONTENTS}`")]
    Absent,
    /// Another type than a string.
    #[error("has `{CONTENTS}` of type {0}, not of type S")]
    Type(&'static str),
    /// No base64.
    #[error("has `{CONTENTS}` that are not base64")]
    Encoding,
    /// A private key that was encrypted for another item, or changed.
    #[error(transparent)]
    Tampered(Tampered),
}

/// An item as it was read: what a write replaces, on condition that nobody has changed it since, whatever its shape.
#[derive(Clone, PartialEq)]
pub struct Version(Option<AttributeValue>);

impl ItemContents {
    /// Reads `Contents` as Go's `base64.StdEncoding` does: line ends within are ignored, bits left over at the end too.
    pub(super) fn of(item: &Item) -> Result<Self, ContentsError> {
        let value = item.get(CONTENTS).ok_or(ContentsError::Absent)?;
        let text = value.as_s().map_err(|value| ContentsError::Type(type_of(value)))?;
        let text: Zeroizing<Vec<u8>> =
            Zeroizing::new(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect());
        let bytes = AS_GO_READS.decode(text.as_slice()).map_err(|_| ContentsError::Encoding)?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl ItemContents {
    pub(super) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl From<Zeroizing<Vec<u8>>> for ItemContents {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for ItemContents {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl Deref for ItemContents {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ItemContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} bytes)", self.0.len())
    }
}

impl Version {
    pub(super) fn of(item: &Item) -> Self {
        Self(item.get(CONTENTS).cloned())
    }

    /// The condition of a write that replaces what was read as `version`, `None` for no item, and the values it names.
    pub(super) fn unchanged(version: Option<&Self>) -> (String, Option<HashMap<String, AttributeValue>>) {
        match version {
            None => (format!("attribute_not_exists({PRIMARY})"), None),
            Some(Self(None)) => {
                (format!("attribute_exists({PRIMARY}) AND attribute_not_exists({CONTENTS})"), None)
            }
            Some(Self(Some(contents))) => (
                format!("{CONTENTS} = :replaced"),
                Some(HashMap::from([(":replaced".to_owned(), contents.clone())])),
            ),
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.0.as_ref().map_or("no contents", |value| type_of(value));
        write!(f, "Version({contents})")
    }
}

/// As the API reference names attribute types (`AttributeValue`).
fn type_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "S",
        AttributeValue::N(_) => "N",
        AttributeValue::B(_) => "B",
        AttributeValue::Bool(_) => "BOOL",
        AttributeValue::Null(_) => "NULL",
        AttributeValue::M(_) => "M",
        AttributeValue::L(_) => "L",
        AttributeValue::Ss(_) => "SS",
        AttributeValue::Ns(_) => "NS",
        AttributeValue::Bs(_) => "BS",
        // `AttributeValue` is non-exhaustive.
        _ => "unknown to this release",
    }
}

const AS_GO_READS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(value: AttributeValue) -> Result<Vec<u8>, ContentsError> {
        ItemContents::of(&Item::from([(CONTENTS.to_owned(), value)])).map(|contents| contents.to_vec())
    }

    #[test]
    fn contents_are_read_as_go_reads_them() {
        for (text, read) in [
            ("Z2F0ZQ==", Some("gate")),
            ("Z2F0\nZQ==\n", Some("gate")),
            ("Z2F0\r\nZQ==\r\n", Some("gate")),
            ("Z2F0ZR==", Some("gate")),
            ("", Some("")),
            ("Z2F0ZQ", None),
            ("Z2F0 ZQ==", None),
            ("Z2F0ZQ==Z2F0ZQ==", None),
            ("Z2F0Z_-=", None),
        ] {
            let expected = read.map(|read| read.as_bytes().to_vec()).ok_or(ContentsError::Encoding);
            assert_eq!(contents(AttributeValue::S(text.to_owned())), expected, "{text:?}");
        }
        assert_eq!(ItemContents::of(&Item::new()), Err(ContentsError::Absent));
        assert_eq!(contents(AttributeValue::Bool(true)), Err(ContentsError::Type("BOOL")));
    }
}
