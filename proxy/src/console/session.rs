//! Who is signed in: the text of a session's cookie, and the CSRF token in each of its forms.
//! Not here: whether the token behind it holds still (`api::holder` asks that of each request), cookies as HTTP has them, pages.
//! Invariants: a session that was changed, has ended or is of another start is none (`a_session_is_of_its_instance_and_time`); a form of one
//! session is none of another (`a_form_is_of_its_session`); no text panics (`no_text_panics`).

use std::time::Duration;

use aws_lc_rs::{error::Unspecified, hmac, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{api_token::TokenHash, store::instant::Micros};

/// Signs sessions and forms. Of one start of one instance: a key derived from the token's hash would let whoever reads the state table
/// sign in, and the hash is kept there because it lets nobody.
pub(super) struct SessionKey(hmac::Key);

/// Who is signed in, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    /// Of its token, by which the token is looked up for each request.
    pub(super) token: TokenHash,
    /// When it ends, whatever becomes of its token.
    pub(super) ends_at: Micros,
}

/// A text is no session of this instance, or one that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoSession;

/// A form is none that this session was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ForeignForm;

impl SessionKey {
    /// A new one, by the library's random numbers.
    pub(super) fn generate() -> Result<Self, Unspecified> {
        let mut key = [0; HASH];
        rand::fill(&mut key)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The cookie of `session`.
    pub(super) fn seal(&self, session: Session) -> String {
        let said = session.bytes();
        let tag = hmac::sign(&self.0, &tagged(SESSION, &said));
        URL_SAFE_NO_PAD.encode([tag.as_ref(), &said].concat())
    }

    /// The session of `cookie` at `now`.
    pub(super) fn open(&self, cookie: &str, now: Micros) -> Result<Session, NoSession> {
        if cookie.len() > LONGEST {
            return Err(NoSession);
        }
        let whole = URL_SAFE_NO_PAD.decode(cookie).map_err(|_| NoSession)?;
        let (tag, said) = whole.split_at_checked(HASH).ok_or(NoSession)?;
        hmac::verify(&self.0, &tagged(SESSION, said), tag).map_err(|_| NoSession)?;
        Session::read(said).filter(|session| now < session.ends_at).ok_or(NoSession)
    }

    /// What each form of `session` has in its hidden field.
    pub(super) fn form(&self, session: Session) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &tagged(FORM, &session.bytes())))
    }

    /// Whether a form with `field` was given to `session`; compared in constant time.
    pub(super) fn check_form(&self, session: Session, field: &str) -> Result<(), ForeignForm> {
        if field.len() > LONGEST {
            return Err(ForeignForm);
        }
        let tag = URL_SAFE_NO_PAD.decode(field).map_err(|_| ForeignForm)?;
        hmac::verify(&self.0, &tagged(FORM, &session.bytes()), &tag).map_err(|_| ForeignForm)
    }
}

impl Session {
    fn bytes(self) -> Vec<u8> {
        [self.token.as_bytes().as_slice(), &self.ends_at.since_epoch().to_be_bytes()].concat()
    }

    fn read(said: &[u8]) -> Option<Self> {
        let (token, ends_at) = said.split_at_checked(HASH)?;
        let ends_at = u64::from_be_bytes(ends_at.try_into().ok()?);
        let token = TokenHash::from_bytes(token.try_into().ok()?);
        Some(Self { token, ends_at: Micros::from_epoch(ends_at) })
    }
}

/// What is signed says what for: a form's field is no cookie.
fn tagged(purpose: &[u8], said: &[u8]) -> Vec<u8> {
    [purpose, said].concat()
}

/// A working day. A token that is revoked ends its sessions sooner.
pub(super) const SESSION_LIFE: Duration = Duration::from_hours(12);
/// Neither is the beginning of the other.
const SESSION: &[u8] = b"session\0";
const FORM: &[u8] = b"form\0";
/// Bytes of SHA-256, and of HMAC with it.
const HASH: usize = 32;
/// A tag, a hash and an instant are 96 characters of base64.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(token: u8) -> Session {
        Session { token: TokenHash::from_bytes([token; HASH]), ends_at: Micros::from_epoch(1_000) }
    }

    #[test]
    fn a_session_is_of_its_instance_and_time() {
        let [key, other] = [(); 2].map(|()| SessionKey::generate().unwrap());
        let cookie = key.seal(session(1));
        assert!(cookie.len() <= LONGEST, "{}", cookie.len());
        assert_eq!(key.open(&cookie, Micros::from_epoch(999)), Ok(session(1)));
        assert_eq!(key.open(&cookie, Micros::from_epoch(1_000)), Err(NoSession), "it has ended");
        assert_eq!(other.open(&cookie, Micros::from_epoch(0)), Err(NoSession), "of another start");
        for place in 0..cookie.len() {
            let digit = if cookie.as_bytes()[place] == b'A' { "B" } else { "A" };
            let mut wrong = cookie.clone();
            wrong.replace_range(place..=place, digit);
            assert_eq!(key.open(&wrong, Micros::from_epoch(0)), Err(NoSession), "{place}");
        }
    }

    #[test]
    fn a_form_is_of_its_session() {
        let key = SessionKey::generate().unwrap();
        let field = key.form(session(1));
        assert_eq!(key.check_form(session(1), &field), Ok(()));
        assert_eq!(key.check_form(session(2), &field), Err(ForeignForm));
        let later = Session { ends_at: Micros::from_epoch(2_000), ..session(1) };
        assert_eq!(
            key.check_form(later, &field),
            Err(ForeignForm),
            "of an earlier session of the same token"
        );
        assert_eq!(
            key.check_form(session(1), &key.seal(session(1))),
            Err(ForeignForm),
            "a cookie is no form"
        );
        assert_eq!(key.check_form(session(1), ""), Err(ForeignForm));
        let tag = URL_SAFE_NO_PAD.decode(&field).unwrap();
        let forged = URL_SAFE_NO_PAD.encode([tag, session(1).bytes()].concat());
        assert_eq!(key.open(&forged, Micros::from_epoch(0)), Err(NoSession), "a CSRF token signs no session");
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn no_text_panics(text in "\\PC{0,160}|[A-Za-z0-9_-]{90,130}") {
                let key = SessionKey::generate().unwrap();
                prop_assert_eq!(key.open(&text, Micros::from_epoch(0)), Err(NoSession));
                prop_assert_eq!(key.check_form(session(1), &text), Err(ForeignForm));
            }
        }
    }
}
