//! The text of a setup link: for which entry it is, and until when, signed with a key that the fleet shares. Who has it may read which DNS
//! records its name needs, and nothing else.
//! Not here: how the key is kept (`store::state_table`), what is shown (`api`).
//! Invariants: a text that was changed, is of another key or has ended is no link (`a_link_is_of_its_key_and_time`); a link is of one
//! entry: not of one that was made anew, nor of another tenant's (`a_link_is_of_one_entry`); it tells nothing but its name and its end
//! (`a_tenant_cannot_be_read_nor_guessed`); no text panics (`no_text_panics`).

use aws_lc_rs::{error::Unspecified, hmac, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::name::Pattern;

/// Signs and reads links.
#[derive(Clone)]
pub struct LinkKey {
    secret: Zeroizing<[u8; HASH]>,
    key: hmac::Key,
}

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupLink {
    /// The name of the entry.
    pub pattern: Pattern,
    /// Which entry of this name.
    pub entry: EntryMark,
    /// Seconds since the epoch at which it ends.
    pub ends_at_seconds: u64,
}

/// Tells an entry from others that its name has had: a keyed hash of whose it is and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryMark([u8; MARK]);

/// A text is no link of this key, or one that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoLink;

impl LinkKey {
    /// A new one, by the library's random numbers.
    pub fn generate() -> Result<Self, Unspecified> {
        let mut secret = Zeroizing::new([0; HASH]);
        rand::fill(secret.as_mut_slice())?;
        Ok(Self::of(secret))
    }

    /// The key with this secret; `None` for what is none of ours.
    #[must_use]
    pub fn read(secret: &[u8]) -> Option<Self> {
        secret.try_into().ok().map(Zeroizing::new).map(Self::of)
    }

    fn of(secret: Zeroizing<[u8; HASH]>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_slice());
        Self { secret, key }
    }

    /// What is kept of it.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        self.secret.as_slice()
    }

    /// The mark of the entry of `pattern` that `tenant` has since `created_at`, in microseconds since the epoch; absent, it was made by hand.
    #[must_use]
    pub fn mark(&self, pattern: &Pattern, tenant: &str, created_at: Option<u64>) -> EntryMark {
        let name = pattern.to_string();
        // Each length stands before its text, so that no two entries are signed alike.
        let said = [
            ENTRY,
            &name.len().to_be_bytes(),
            name.as_bytes(),
            &tenant.len().to_be_bytes(),
            tenant.as_bytes(),
            &created_at.unwrap_or(u64::MAX).to_be_bytes(),
        ];
        let tag = hmac::sign(&self.key, &said.concat());
        let mut mark = [0; MARK];
        mark.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        EntryMark(mark)
    }

    /// The text of `link`, which stands in a URL as it is.
    #[must_use]
    pub fn sign(&self, link: &SetupLink) -> String {
        let name = link.pattern.to_string();
        let said = [&link.ends_at_seconds.to_be_bytes(), link.entry.0.as_slice(), name.as_bytes()].concat();
        let tag = hmac::sign(&self.key, &[LINK, &said].concat());
        URL_SAFE_NO_PAD.encode([tag.as_ref(), &said].concat())
    }

    /// The link of `text` at `now_seconds` since the epoch. The signature is compared in constant time.
    pub fn verify(&self, text: &str, now_seconds: u64) -> Result<SetupLink, NoLink> {
        if !may_be_link(text) {
            return Err(NoLink);
        }
        let whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoLink)?;
        let (tag, said) = whole.split_at_checked(HASH).ok_or(NoLink)?;
        hmac::verify(&self.key, &[LINK, said].concat(), tag).map_err(|_| NoLink)?;
        SetupLink::read(said).filter(|link| now_seconds < link.ends_at_seconds).ok_or(NoLink)
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey")
    }
}

impl SetupLink {
    fn read(said: &[u8]) -> Option<Self> {
        let (ends_at, said) = said.split_first_chunk()?;
        let (entry, name) = said.split_first_chunk()?;
        let pattern = Pattern::parse(std::str::from_utf8(name).ok()?).ok()?;
        Some(Self { pattern, entry: EntryMark(*entry), ends_at_seconds: u64::from_be_bytes(*ends_at) })
    }
}

/// Whether a text has the form of a link, whosever it is: what has not is none without a look at the key.
#[must_use]
pub fn may_be_link(text: &str) -> bool {
    let is_of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (SHORTEST..=LONGEST).contains(&text.len()) && text.bytes().all(is_of_base64)
}

/// Neither is the beginning of the other.
const LINK: &[u8] = b"setup link\0";
const ENTRY: &[u8] = b"entry\0";
/// Bytes of HMAC-SHA256.
const HASH: usize = 32;
/// RFC 2104 §5: half of a tag is enough.
const MARK: usize = 16;
/// A tag, an instant, a mark and no name are 75 characters of base64.
const SHORTEST: usize = 76;
/// With the longest name they are 416.
const LONGEST: usize = 420;

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn link(key: &LinkKey, name: &str) -> SetupLink {
        let pattern = pattern(name);
        SetupLink { entry: key.mark(&pattern, "acme", Some(7)), pattern, ends_at_seconds: 1_000 }
    }

    #[test]
    fn a_link_is_of_its_key_and_time() {
        let [key, other] = [(); 2].map(|()| LinkKey::generate().unwrap());
        for name in ["shop.customer.example", "*.customer.example", &format!("{}a.example", "a.".repeat(122))]
        {
            let link = link(&key, name);
            let text = key.sign(&link);
            assert!(text.len() <= LONGEST, "{}", text.len());
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert_eq!(key.verify(&text, 999), Ok(link.clone()));
            assert_eq!(LinkKey::read(key.secret()).unwrap().verify(&text, 0), Ok(link));
            assert_eq!(key.verify(&text, 1_000), Err(NoLink), "it has ended");
            assert_eq!(other.verify(&text, 0), Err(NoLink));
            for place in 0..text.len() {
                let mut wrong = text.clone();
                wrong.replace_range(place..=place, if text.as_bytes()[place] == b'A' { "B" } else { "A" });
                assert_eq!(key.verify(&wrong, 0), Err(NoLink), "{wrong}");
            }
        }
        for wrong in ["", "a", "ä", &"A".repeat(43), &"A".repeat(100), &"A".repeat(5_000)] {
            assert_eq!(key.verify(wrong, 0), Err(NoLink), "{wrong}");
        }
        assert!(LinkKey::read(&[7; 31]).is_none() && LinkKey::read(&[7; 33]).is_none());
    }

    #[test]
    fn a_link_is_of_one_entry() {
        let [key, other] = [(); 2].map(|()| LinkKey::generate().unwrap());
        let of = |key: &LinkKey, name: &str, tenant: &str, created_at| {
            key.mark(&pattern(name), tenant, created_at)
        };
        let mark = of(&key, "a.example", "acme", Some(7));
        assert_eq!(mark, of(&key, "a.example", "acme", Some(7)));
        for others in [
            of(&key, "a.example", "acme", Some(8)),
            of(&key, "a.example", "acme", None),
            of(&key, "a.example", "zeta", Some(7)),
            of(&key, "b.example", "acme", Some(7)),
            of(&key, "*.a.example", "acme", Some(7)),
            of(&key, "a.exampl", "eacme", Some(7)),
            of(&other, "a.example", "acme", Some(7)),
        ] {
            assert_ne!(mark, others);
        }
    }

    #[test]
    fn a_tenant_cannot_be_read_nor_guessed() {
        let key = LinkKey::generate().unwrap();
        let text = key.sign(&link(&key, "shop.customer.example"));
        let whole = URL_SAFE_NO_PAD.decode(text).unwrap();
        assert!(!whole.windows(4).any(|part| part == b"acme"));
        assert_eq!(format!("{key:?}"), "LinkKey");
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_text_panics(text in "\\PC{0,160}|[A-Za-z0-9_-]{60,430}", said in prop::collection::vec(any::<u8>(), 0..80)) {
                let key = LinkKey::generate().unwrap();
                prop_assert_eq!(key.verify(&text, 0), Err(NoLink));
                // What is signed is read with the same care, for a release after this one may have signed it.
                if let Some(link) = SetupLink::read(&said) {
                    prop_assert_eq!(key.verify(&key.sign(&link), 0), if link.ends_at_seconds > 0 { Ok(link) } else { Err(NoLink) });
                }
            }
        }
    }
}
