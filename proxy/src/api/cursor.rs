//! Where the next part of a list begins, as a client keeps it: opaque, and of one token and one query.
//! Invariant: a cursor that was changed, or is of another token or query, is refused (`a_cursor_is_of_its_token_and_query`). Whose
//! entries are listed says the query alone, and no cursor.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use crate::api_token::TokenHash;

/// A text is no cursor of this token and query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoCursor;

/// Makes and reads cursors.
pub(super) struct Cursors {
    /// Of the token, so that each instance reads what another made and the fleet shares no key for it.
    key: hmac::Key,
    query: Vec<u8>,
}

impl Cursors {
    /// Of the token `hash`, and of what was asked for.
    pub(super) fn of(hash: &TokenHash, query: &impl Serialize) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, hash.as_bytes());
        Self { key, query: serde_json::to_vec(query).unwrap_or_default() }
    }

    /// The cursor of `place`.
    pub(super) fn seal(&self, place: &impl Serialize) -> String {
        let place = serde_json::to_vec(place).unwrap_or_default();
        let mut whole = self.tag(&place).as_ref().to_vec();
        whole.extend(place);
        URL_SAFE_NO_PAD.encode(whole)
    }

    /// The place of `cursor`.
    pub(super) fn open<P: DeserializeOwned>(&self, cursor: &str) -> Result<P, NoCursor> {
        if cursor.len() > LONGEST {
            return Err(NoCursor);
        }
        let whole = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| NoCursor)?;
        let (tag, place) = whole.split_at_checked(TAG).ok_or(NoCursor)?;
        hmac::verify(&self.key, &self.tagged(place), tag).map_err(|_| NoCursor)?;
        serde_json::from_slice(place).map_err(|_| NoCursor)
    }

    fn tag(&self, place: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key, &self.tagged(place))
    }

    fn tagged(&self, place: &[u8]) -> Vec<u8> {
        let length = self.query.len().to_be_bytes();
        [&length, self.query.as_slice(), place].concat()
    }
}

/// Bytes of HMAC-SHA256.
const TAG: usize = 32;
/// A name and an instant, with room.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_token::ApiToken;

    #[test]
    fn a_cursor_is_of_its_token_and_query() {
        let [one, other] = [(); 2].map(|()| ApiToken::generate().unwrap().hash());
        let cursors = Cursors::of(&one, &("acme", "shop"));
        let cursor = cursors.seal(&"shop.example");
        assert_eq!(cursors.open::<String>(&cursor), Ok("shop.example".to_owned()));
        for others in [Cursors::of(&other, &("acme", "shop")), Cursors::of(&one, &("acme", "sho"))] {
            assert_eq!(others.open::<String>(&cursor), Err(NoCursor));
        }
        for place in 0..cursor.len() {
            let mut wrong = cursor.clone();
            wrong.replace_range(place..=place, if cursor.as_bytes()[place] == b'A' { "B" } else { "A" });
            assert_eq!(cursors.open::<String>(&wrong), Err(NoCursor), "{wrong}");
        }
        for wrong in ["", "a", "ä", &"A".repeat(43), &"A".repeat(5_000)] {
            assert_eq!(cursors.open::<String>(wrong), Err(NoCursor), "{wrong}");
        }
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_text_panics(text in "\\PC{0,100}|[A-Za-z0-9_-]{0,200}") {
                let cursors = Cursors::of(&ApiToken::generate().unwrap().hash(), &());
                prop_assert_eq!(cursors.open::<String>(&text), Err(NoCursor));
            }
        }
    }

    #[test]
    fn the_longest_name_has_a_cursor() {
        let cursors = Cursors::of(&ApiToken::generate().unwrap().hash(), &());
        let place = ("a".repeat(255), "2026-11-28T23:59:59.000001Z".to_owned());
        assert_eq!(cursors.open(&cursors.seal(&place)), Ok(place));
    }
}
