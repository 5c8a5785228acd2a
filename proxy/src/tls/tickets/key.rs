//! One key, and the tickets that it seals: `name | salt | AES-256-GCM(session)`, after RFC 5077 §4.

use std::{fmt, time::SystemTime};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hkdf, rand,
};
use zeroize::Zeroizing;

use crate::{config::TlsVersion, name::ServerName};

/// A key, and when it may be used. The times are of the wall clock, since they mean the same on every instance.
#[derive(Debug, PartialEq, Eq)]
pub struct TicketKey {
    /// How tickets say which key they need; in clear.
    pub name: KeyName,
    /// When it begins to seal tickets.
    pub seals_from: SystemTime,
    /// When it no longer seals any.
    pub seals_until: SystemTime,
    /// When it no longer opens any.
    pub opens_until: SystemTime,
    /// What keys of single tickets are derived from.
    pub secret: TicketSecret,
}

/// The name of a key: random, and no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyName(pub [u8; NAME_BYTES]);

/// The secret of a key; wiped when it is dropped, and never shown.
#[derive(PartialEq, Eq)]
pub struct TicketSecret(Zeroizing<[u8; SECRET_BYTES]>);

/// What a ticket is valid for, beside the time: bound into its key, so that it cannot be opened for anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TicketScope(Box<[u8]>);

impl TicketKey {
    /// With a random name and a random secret.
    pub fn random(
        seals_from: SystemTime,
        seals_until: SystemTime,
        opens_until: SystemTime,
    ) -> Result<Self, Unspecified> {
        let (mut name, mut secret) = ([0; NAME_BYTES], Zeroizing::new([0; SECRET_BYTES]));
        rand::fill(&mut name)?;
        rand::fill(&mut *secret)?;
        let (name, secret) = (KeyName(name), TicketSecret(secret));
        Ok(Self { name, seals_from, seals_until, opens_until, secret })
    }

    /// The ticket that holds `session`; `None` for one that is longer than any of ours.
    pub(super) fn seal(&self, scope: &TicketScope, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > LONGEST - OVERHEAD {
            return None;
        }
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).ok()?;
        let mut sealed = session.to_vec();
        let key = self.derive(&salt, scope).ok()?;
        key.seal_in_place_append_tag(only_nonce(), Aad::from(self.name.0), &mut sealed).ok()?;
        Some([self.name.0.as_slice(), &salt, &sealed].concat())
    }

    /// The session in what follows the name in a ticket; `None` where it was not sealed by this key for `scope`.
    pub(super) fn open(&self, scope: &TicketScope, rest: &[u8]) -> Option<Vec<u8>> {
        let (salt, sealed) = rest.split_first_chunk::<SALT_BYTES>()?;
        let mut session = sealed.to_vec();
        let key = self.derive(salt, scope).ok()?;
        let opened = key.open_in_place(only_nonce(), Aad::from(self.name.0), &mut session).ok()?.len();
        session.truncate(opened);
        Some(session)
    }

    /// A key for one ticket (RFC 5869): no number of tickets wears it out, as random nonces under one key would.
    fn derive(&self, salt: &[u8; SALT_BYTES], scope: &TicketScope) -> Result<LessSafeKey, Unspecified> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&*self.secret.0);
        let key: UnboundKey = extracted.expand(&[LABEL, &scope.0], &AES_256_GCM)?.into();
        Ok(LessSafeKey::new(key))
    }
}

impl KeyName {
    /// The name at the start of `ticket`, and what follows; `None` where it cannot be one of ours.
    pub(super) fn split(ticket: &[u8]) -> Option<(Self, &[u8])> {
        if !(OVERHEAD..=LONGEST).contains(&ticket.len()) {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        Some((Self(*name), rest))
    }
}

impl TicketSecret {
    /// Of bytes that a table holds; `None` where they are of another length.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        if bytes.len() != secret.len() {
            return None;
        }
        secret.copy_from_slice(bytes);
        Some(Self(secret))
    }

    /// Its bytes, for the table alone.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &*self.0
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecret({SECRET_BYTES} bytes)")
    }
}

impl TicketScope {
    /// Sessions with `name`, which is served from version `minimum` on.
    pub(super) fn of(name: &ServerName, minimum: TlsVersion) -> Self {
        Self(format!("{minimum} {name}").into_bytes().into())
    }
}

/// Each key seals one ticket, so that the nonce need not differ (RFC 5116 §3.1).
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// RFC 5077 §4.
const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const OVERHEAD: usize = NAME_BYTES + SALT_BYTES + TAG_BYTES;
/// Ours are of some 200 bytes: no session holds a client's certificate.
const LONGEST: usize = 2048;
const LABEL: &[u8] = b"gatehouse session ticket 1\0";
