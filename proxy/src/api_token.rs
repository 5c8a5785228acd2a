//! The text of a token of the API, and what it may do.
//! Not here: where tokens are kept (`store::state_table`), who asks for what (`api`).
//! Invariants: a secret is never shown but once, nor logged (`no_secret_is_shown`); a text with a typing error is told without a look-up
//! (`a_typing_error_is_told_by_the_checksum`).

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    digest::{SHA256, digest},
    error::Unspecified,
    rand,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::hexadecimal::hexadecimal;

/// A token as its holder has it: `gatehouse_`, an id of 12 digits, `_`, a secret of 256 bits in 64 digits and a checksum in 8, all
/// hexadecimal. Programs that look for secrets in texts find it by `gatehouse_[0-9a-f]{12}_[0-9a-f]{72}`.
pub struct ApiToken(Zeroizing<String>);

/// Which token: what may be shown and logged of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

/// SHA-256 of a token, by which it is kept and found. Who reads it cannot use it: a secret of 256 random bits is not guessed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

/// What an operator calls a token: up to 64 letters, digits, spaces and `-_.@:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

/// Something that a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Read entries.
    #[serde(rename = "domains:read")]
    DomainsRead,
    /// Change entries.
    #[serde(rename = "domains:write")]
    DomainsWrite,
    /// Read who changed what.
    #[serde(rename = "audit:read")]
    AuditRead,
}

/// A text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It has another form.
    #[error(
        "it is not a token of Gatehouse; `gatehouse token create` makes one like `gatehouse_0123456789ab_...`"
    )]
    Form,
    /// It has the form, and a digit is wrong or missing.
    #[error("its checksum is wrong; copy it whole, as `gatehouse token create` printed it")]
    Checksum,
}

/// A text names no token, or no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is no {what}; write {remedy}")]
pub struct NoTokenPart {
    value: String,
    what: &'static str,
    remedy: &'static str,
}

impl ApiToken {
    /// A new one, by the library's random numbers.
    pub fn generate() -> Result<Self, Unspecified> {
        let (mut id, mut secret) = ([0; ID_BYTES], Zeroizing::new([0; SECRET_BYTES]));
        rand::fill(&mut id)?;
        rand::fill(&mut *secret)?;
        let begin = Zeroizing::new(format!(
            "{PREFIX}{}_{}",
            hexadecimal(&id),
            *Zeroizing::new(hexadecimal(&*secret))
        ));
        Ok(Self(Zeroizing::new(format!("{}{}", *begin, checksum(&begin)))))
    }

    /// Reads what its holder sent.
    pub fn parse(text: &str) -> Result<Self, TokenFault> {
        let rest = text.strip_prefix(PREFIX).ok_or(TokenFault::Form)?;
        let (id, secret) = rest.split_once('_').ok_or(TokenFault::Form)?;
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex(id) || !is_hex(secret) || text.len() > LENGTH {
            return Err(TokenFault::Form);
        }
        let (begin, sum) = text.split_at_checked(LENGTH - CHECKSUM_DIGITS).ok_or(TokenFault::Checksum)?;
        if id.len() != ID_BYTES * 2 || checksum(begin) != sum {
            return Err(TokenFault::Checksum);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Which it is.
    #[must_use]
    pub fn id(&self) -> TokenId {
        let id = self.0.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next());
        TokenId(id.unwrap_or_default().to_owned())
    }

    /// What it is kept under. Comparing hashes in any way tells nothing of the secret, whatever time it takes.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; 32];
        // SHA-256 has 32 bytes.
        hash.iter_mut().zip(digest(&SHA256, self.0.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
        TokenHash(hash)
    }

    /// The text itself, for its holder alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({})", self.id())
    }
}

impl TokenHash {
    /// What was kept as [`Self::as_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::DomainsRead, Self::DomainsWrite, Self::AuditRead];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DomainsRead => "domains:read",
            Self::DomainsWrite => "domains:write",
            Self::AuditRead => "audit:read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = NoTokenPart;
    fn from_str(text: &str) -> Result<Self, NoTokenPart> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| no_part(text, "scope", "`domains:read`, `domains:write` or `audit:read`"))
    }
}

impl FromStr for TokenId {
    type Err = NoTokenPart;
    fn from_str(text: &str) -> Result<Self, NoTokenPart> {
        if text.len() == ID_BYTES * 2 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text.to_owned()));
        }
        Err(no_part(
            text,
            "token's id",
            "the 12 digits that `gatehouse token list` shows, not the token itself",
        ))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenName {
    type Err = NoTokenPart;
    fn from_str(text: &str) -> Result<Self, NoTokenPart> {
        let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b" -_.@:".contains(&byte);
        if text.trim().is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(permitted) {
            return Err(no_part(
                text,
                "token's name",
                "up to 64 letters, digits, spaces, `-`, `_`, `.`, `@` or `:`",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NoTokenPart;
            fn try_from(text: String) -> Result<Self, NoTokenPart> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(part: $name) -> String {
                part.0
            }
        }
    };
}
as_text!(TokenId);
as_text!(TokenName);

/// A token given in place of its id is not repeated: the text may reach a log.
fn no_part(value: &str, what: &'static str, remedy: &'static str) -> NoTokenPart {
    let is_secret = value.contains(PREFIX) || value.len() > LONGEST_NAME;
    let value = if is_secret { "(left out)".to_owned() } else { value.to_owned() };
    NoTokenPart { value, what, remedy }
}

/// Of a text without its checksum: no secret, since it tells less than [`TokenHash`].
fn checksum(begin: &str) -> String {
    let sum = digest(&SHA256, begin.as_bytes());
    hexadecimal(sum.as_ref().get(..CHECKSUM_DIGITS / 2).unwrap_or_default())
}

const PREFIX: &str = "gatehouse_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
const CHECKSUM_DIGITS: usize = 8;
const LENGTH: usize = PREFIX.len() + ID_BYTES * 2 + 1 + SECRET_BYTES * 2 + CHECKSUM_DIGITS;
const LONGEST_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_differ_and_are_read_as_they_were_made() {
        let (one, other) = (ApiToken::generate().unwrap(), ApiToken::generate().unwrap());
        assert_ne!(one.hash(), other.hash());
        assert_ne!(one.id(), other.id());
        let read = ApiToken::parse(one.reveal()).unwrap();
        assert_eq!((read.hash(), read.id()), (one.hash(), one.id()));
        assert_eq!(one.reveal().len(), LENGTH);
    }

    #[test]
    fn no_secret_is_shown() {
        let token = ApiToken::generate().unwrap();
        assert_eq!(format!("{token:?}"), format!("ApiToken({})", token.id()));
        let refused = token.reveal().parse::<TokenId>().unwrap_err().to_string();
        assert!(!refused.contains(token.reveal()), "{refused}");
    }

    #[test]
    fn a_typing_error_is_told_by_the_checksum() {
        let token = ApiToken::generate().unwrap();
        let text = token.reveal();
        for place in PREFIX.len()..text.len() {
            let digit = if text.as_bytes()[place] == b'a' { "b" } else { "a" };
            let mut wrong = text.to_owned();
            wrong.replace_range(place..=place, digit);
            assert!(ApiToken::parse(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(ApiToken::parse(&text[..text.len() - 1]).unwrap_err(), TokenFault::Checksum);
        for other in ["", "gatehouse_", "Bearer", "gatehouse_ä_", &text.to_uppercase(), &format!("{text}0")]
        {
            assert_eq!(ApiToken::parse(other).unwrap_err(), TokenFault::Form, "{other}");
        }
    }

    #[test]
    fn names_ids_and_scopes_are_read_or_refused() {
        for (text, is_name) in
            [("ci of acme", true), ("", false), (" ", false), ("a\nb", false), ("ü", false)]
        {
            assert_eq!(text.parse::<TokenName>().is_ok(), is_name, "{text:?}");
        }
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(serde_json::to_string(&scope).unwrap(), format!("\"{scope}\""));
        }
        let told = "domains".parse::<Scope>().unwrap_err().to_string();
        assert_eq!(told, "`domains` is no scope; write `domains:read`, `domains:write` or `audit:read`");
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn no_text_panics(text in "\\PC{0,120}|gatehouse_[0-9a-f]{10,14}_[0-9a-f]{60,80}") {
                let _ = ApiToken::parse(&text);
            }
        }
    }
}
