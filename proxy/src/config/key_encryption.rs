//! How private keys are encrypted in tables, as settings write it.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// By which key the keys of items are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyEncryption {
    /// Not at all.
    Off,
    /// By the keys in this file.
    File(PathBuf),
    /// By the key of AWS KMS with this identifier, alias or ARN.
    Kms(String),
}

impl KeyEncryption {
    /// The region of the key, if its ARN says one (`arn:aws:kms:REGION:ACCOUNT:key/ID`).
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        let Self::Kms(key) = self else { return None };
        let mut parts = key.split(':');
        (parts.next() == Some("arn") && parts.nth(1) == Some("kms")).then(|| parts.next()).flatten()
    }
}

impl TryFrom<String> for KeyEncryption {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "off" => Ok(Self::Off),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            Some(("kms", key)) if !key.is_empty() && !key.contains(char::is_whitespace) => {
                Ok(Self::Kms(key.to_owned()))
            }
            _ => Err(format!(
                "`{text}` names no key; write `off`, `file:/etc/gatehouse/keys`, or `kms:` and the ARN or alias of a KMS key"
            )),
        }
    }
}

impl From<KeyEncryption> for String {
    fn from(encryption: KeyEncryption) -> String {
        encryption.to_string()
    }
}

impl fmt::Display for KeyEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Kms(key) => write!(f, "kms:{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, region) in [
            ("off", None),
            ("file:/etc/gatehouse/keys", None),
            ("kms:alias/gatehouse", None),
            ("kms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd", Some("eu-central-1")),
            ("kms:arn:aws:kms:eu-central-1:111122223333:alias/gatehouse", Some("eu-central-1")),
        ] {
            let read = KeyEncryption::try_from(text.to_owned()).unwrap();
            assert_eq!((read.to_string().as_str(), read.region()), (text, region));
        }
        for text in ["", "on", "file:", "file:keys", "kms:", "kms:a b", "vault:/x"] {
            let error = KeyEncryption::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains(text) && error.contains("write `off`"), "{error}");
        }
    }
}
