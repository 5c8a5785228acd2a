//! JSON as Go writes it, and with members we do not know left as they are.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// What Caddy stores with a certificate: `sans`, `issuer_data`. Without it Caddy orders again.
#[derive(Debug, Clone, Default)]
pub struct CertificateMetadata(Document);

/// A JSON object whose members keep their order and, unless set, their bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Document(Vec<(String, Box<RawValue>)>);

impl CertificateMetadata {
    /// Reads an item; a broken one counts as none, since it must not block its certificate.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        Self(Document::read(text).unwrap_or_default())
    }

    /// Whether `text` can be read.
    #[must_use]
    pub fn is_whole(text: &[u8]) -> bool {
        Document::read(text).is_some()
    }

    /// States what a new certificate covers and where its CA offers it; what else there is stays.
    #[must_use]
    pub fn renewed(mut self, sans: &[String], url: Option<&str>) -> Self {
        self.0.set("sans", &list(sans, 1));
        // certmagic leaves issuer_data out for issuers that have none.
        match url {
            Some(url) => self.0.set("issuer_data", &object(&[("url", quoted(url))], 1)),
            None => self.0.remove("issuer_data"),
        }
        self
    }

    /// As Go's `MarshalIndent(_, "", "\t")` writes it.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        self.0.write()
    }
}

impl Document {
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(member, _)| member == name)?;
        serde_json::from_str(value.get()).ok()
    }

    /// `value` is JSON of ours; a text that is none is not taken.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let Ok(value) = RawValue::from_string(value.to_owned()) else { return };
        match self.0.iter_mut().find(|(member, _)| member == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(member, _)| member != name);
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let members: Vec<_> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.get().to_owned())).collect();
        object(&members, 0).into_bytes()
    }
}

pub(super) fn list(texts: &[String], depth: usize) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    block('[', &texts, ']', depth)
}

fn object(members: &[(&str, String)], depth: usize) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("{}: {value}", quoted(name))).collect();
    block('{', &members, '}', depth)
}

fn block(open: char, parts: &[String], close: char, depth: usize) -> String {
    if parts.is_empty() {
        return format!("{open}{close}");
    }
    let (inner, outer) = ("\t".repeat(depth + 1), "\t".repeat(depth));
    format!("{open}\n{inner}{}\n{outer}{close}", parts.join(&format!(",\n{inner}")))
}

/// Go's `encoding/json` escapes what could end a script element, too.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> de::Visitor<'de> for Members {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Document(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_members_stay_as_they_are() {
        let old = "{\n\t\"sans\": [\n\t\t\"old.example\"\n\t],\n\t\"issuer_data\": {\n\t\t\"url\": \"https://ca/1\",\n\t\t\"ca\": \"x\"\n\t},\n\t\"note\": {\n\t\t\"z\": 1.0,\n\t\t\"a\": 2\n\t}\n}";
        let new = CertificateMetadata::read(old.as_bytes())
            .renewed(&["new.example".to_owned()], Some("https://ca/2?a=1&b=2"));
        let text = String::from_utf8(new.write()).unwrap();
        assert_eq!(
            text,
            "{\n\t\"sans\": [\n\t\t\"new.example\"\n\t],\n\t\"issuer_data\": {\n\t\t\"url\": \"https://ca/2?a=1\\u0026b=2\"\n\t},\n\t\"note\": {\n\t\t\"z\": 1.0,\n\t\t\"a\": 2\n\t}\n}"
        );
    }

    #[test]
    fn broken_metadata_counts_as_none() {
        for text in ["", "[]", "null", "{", "{\"sans\": [}", "\u{0}"] {
            assert_eq!(CertificateMetadata::read(text.as_bytes()).write(), b"{}", "{text}");
        }
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn no_text_panics(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
                let _ = CertificateMetadata::read(text.as_bytes()).renewed(&[text], None).write();
                let _ = CertificateMetadata::read(&bytes);
            }

            #[test]
            fn quoted_texts_read_back(text in "\\PC{0,80}") {
                prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
            }
        }
    }
}
