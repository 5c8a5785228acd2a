//! External account binding (RFC 8555 §7.3.4): a CA's customer number and key, which tie the fleet's account to a contract.
//! Invariant: the key is never shown, and wiped when it is dropped (`no_part_of_the_key_is_told`).

use std::{env, fs::File, io::Read as _, path::Path};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use instant_acme::ExternalAccountKey;
use zeroize::Zeroizing;

use super::{AcmeError, MALFORMED, OrderError, UNAUTHORIZED};
use crate::config::ExternalAccountConfig;

/// What an account is bound to.
#[derive(Clone)]
pub(super) struct ExternalAccount {
    pub(super) key_id: String,
    key: Zeroizing<Vec<u8>>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum ExternalAccountKeyError {
    /// The file.
    #[error("it cannot be read")]
    File(#[source] std::io::Error),
    /// The variable.
    #[error("the variable is not set")]
    Variable,
    /// No base64, or too little of it.
    #[error("it is no key in base64url of {SHORTEST} bytes or more")]
    Encoding,
}

impl ExternalAccount {
    /// Reads the key from where `config` says it is.
    pub(super) fn read(config: &ExternalAccountConfig) -> Result<Self, AcmeError> {
        let (place, text) = match (&config.hmac_key_file, &config.hmac_key_variable) {
            (Some(file), _) => (format!("hmac_key_file `{}`", file.display()), of_file(file)),
            (None, Some(name)) => (format!("hmac_key_variable `{name}`"), of_variable(name)),
            // Refused by the validation of settings.
            (None, None) => ("hmac_key_file".to_owned(), Err(ExternalAccountKeyError::Variable)),
        };
        let key = text.and_then(|text| decode(&text));
        let key = key.map_err(|source| AcmeError::ExternalAccountKey { place, source })?;
        Ok(Self { key_id: config.key_id.clone(), key })
    }

    /// What a refused registration says of the external account.
    pub(super) fn explain(&self, error: OrderError) -> OrderError {
        match error {
            OrderError::Refused(refusal)
                if refusal.is_of_kind(UNAUTHORIZED) || refusal.is_of_kind(MALFORMED) =>
            {
                OrderError::ExternalAccountRefused { key_id: self.key_id.clone(), problem: refusal.problem }
            }
            error => error,
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self { key_id: "1".to_owned(), key: Zeroizing::new(vec![1; SHORTEST]) }
    }

    pub(super) fn binding(&self) -> ExternalAccountKey {
        ExternalAccountKey::new(self.key_id.clone(), &self.key)
    }
}

fn of_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, ExternalAccountKeyError> {
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST));
    let file = File::open(path).map_err(ExternalAccountKeyError::File)?;
    let bound = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    file.take(bound).read_to_end(&mut text).map_err(ExternalAccountKeyError::File)?;
    Ok(text)
}

fn of_variable(name: &str) -> Result<Zeroizing<Vec<u8>>, ExternalAccountKeyError> {
    let value = env::var(name).map_err(|_| ExternalAccountKeyError::Variable)?;
    Ok(Zeroizing::new(value.into_bytes()))
}

/// Base64url with or without padding; space around it is an editor's.
fn decode(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, ExternalAccountKeyError> {
    let key = BASE64URL.decode(text.trim_ascii()).map(Zeroizing::new);
    key.ok().filter(|key| key.len() >= SHORTEST).ok_or(ExternalAccountKeyError::Encoding)
}

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// CAs give 32 bytes or more; anything much shorter is a part of one, or the identifier.
const SHORTEST: usize = 16;
/// Of a file; keys have some hundred characters.
const LONGEST: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn of(text: &str) -> Result<ExternalAccount, AcmeError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        ExternalAccount::read(&ExternalAccountConfig {
            key_id: "kid".to_owned(),
            hmac_key_file: Some(file.path().to_owned()),
            hmac_key_variable: None,
        })
    }

    #[test]
    fn a_key_is_read_with_or_without_padding_and_the_editors_line_end() {
        for text in ["-_-_AAECAwQFBgcICQoLDA0=", "-_-_AAECAwQFBgcICQoLDA0", " -_-_AAECAwQFBgcICQoLDA0\r\n"] {
            let read = of(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(read.key.get(..3), Some(&[0xfb, 0xff, 0xbf][..]), "{text:?}");
        }
    }

    #[test]
    fn no_part_of_the_key_is_told() {
        for text in ["c2VjcmV0", "not base64 secret!", "", "secretsecretsecret/secret+secret"] {
            let error = of(text).err().unwrap_or_else(|| panic!("{text:?} is read"));
            let told = format!("{error} {error:?}");
            assert!(told.contains("hmac_key_file"), "{told}");
            assert!(!told.contains("secret") && !told.contains("c2Vj"), "{told}");
        }
        let missing = ExternalAccountConfig {
            key_id: "kid".to_owned(),
            hmac_key_file: None,
            hmac_key_variable: Some("GATEHOUSE_TEST_NO_SUCH_VARIABLE".to_owned()),
        };
        let error = ExternalAccount::read(&missing).err().unwrap().to_string();
        assert!(error.contains("hmac_key_variable `GATEHOUSE_TEST_NO_SUCH_VARIABLE`"), "{error}");
    }
}
