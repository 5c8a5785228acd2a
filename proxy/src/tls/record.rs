//! Records, protected in place (RFC 8446 §5.2, RFC 5246 §6.2.3.3): one direction of a connection.

use std::{
    io::{self, IoSlice},
    ops::Range,
};

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::alert::Alert;
use crate::transport::Chunk;

/// What a record holds (RFC 8446 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ContentType {
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
}

impl TryFrom<u8> for ContentType {
    type Error = RecordFault;
    fn try_from(byte: u8) -> Result<Self, RecordFault> {
        let known = [Self::Alert, Self::Handshake, Self::ApplicationData];
        known.into_iter().find(|known| *known as u8 == byte).ok_or(RecordFault::Unexpected)
    }
}

/// Why the records of a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordFault {
    #[error("a TLS record was not sealed with the connection's keys")]
    Forged,
    #[error("a TLS record holds more than it may")]
    Overflow,
    #[error("a TLS message has no place here")]
    Unexpected,
    #[error("a TLS message is malformed")]
    Malformed,
    #[error("a TLS message holds a value that it cannot have")]
    Illegal,
    #[error("too many TLS records came without data")]
    Dataless,
    #[error("the peer ended the TLS connection with alert {0}")]
    Alerted(u8),
    #[error("the keys of the TLS connection have sealed as many records as they may")]
    KeysUsedUp,
    #[error("the keys of the TLS connection cannot be used")]
    Keys,
}

impl RecordFault {
    /// What the peer is told of it.
    pub(super) fn alert(self) -> Option<Alert> {
        match self {
            Self::Forged => Some(Alert::BadRecordMac),
            Self::Overflow => Some(Alert::RecordOverflow),
            Self::Unexpected | Self::Dataless => Some(Alert::UnexpectedMessage),
            Self::Malformed => Some(Alert::DecodeError),
            Self::Illegal => Some(Alert::IllegalParameter),
            Self::Keys => Some(Alert::InternalError),
            Self::Alerted(_) | Self::KeysUsedUp => None,
        }
    }
}

impl From<RecordFault> for io::Error {
    fn from(fault: RecordFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

/// The keys of one direction, and the number of its next record.
pub(super) struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    scheme: Scheme,
}

/// How nonces, additional data and content types stand in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// RFC 8446 §5.2.
    Tls13,
    /// RFC 5288 §3: a part of the nonce stands before the ciphertext.
    Tls12Gcm,
    /// RFC 7905 §2: the nonce as in TLS 1.3.
    Tls12Chacha,
}

/// Where a record's content lies in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) content_type: ContentType,
    pub(super) content: Range<usize>,
}

impl Protection {
    /// With `secrets`, from record number `sequence` on.
    pub(super) fn new(
        version: ProtocolVersion,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, RecordFault> {
        let is_tls13 = version == ProtocolVersion::TLSv1_3;
        let gcm = if is_tls13 { Scheme::Tls13 } else { Scheme::Tls12Gcm };
        let chacha = if is_tls13 { Scheme::Tls13 } else { Scheme::Tls12Chacha };
        let (algorithm, scheme, key, iv): (&Algorithm, _, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, chacha, key, iv),
            _ => return Err(RecordFault::Keys),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| RecordFault::Keys)?;
        let iv = iv.as_ref().try_into().map_err(|_| RecordFault::Keys)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence, scheme })
    }

    /// How many records were protected with these keys.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn is_tls13(&self) -> bool {
        self.scheme == Scheme::Tls13
    }

    /// Opens `record`, which is whole, where it lies.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Opened, RecordFault> {
        let (header, body) = record.split_first_chunk_mut::<HEADER>().ok_or(RecordFault::Malformed)?;
        let (explicit, sealed) =
            body.split_at_mut_checked(self.scheme.explicit_nonce()).ok_or(RecordFault::Forged)?;
        let length = sealed.len().checked_sub(TAG).ok_or(RecordFault::Forged)?;
        let mut nonce = self.nonce();
        if !explicit.is_empty() {
            nonce = self.iv;
            nonce[NONCE_LEN - EXPLICIT_NONCE..].copy_from_slice(explicit);
        }
        let data = Aad::from(self.additional_data(*header, length));
        let content = self.key.open_in_place(Nonce::assume_unique_for_key(nonce), data, sealed);
        let content = content.map_err(|_| RecordFault::Forged)?;
        self.sequence += 1;
        let (content_type, length) = match self.scheme {
            Scheme::Tls13 => inner(content)?,
            Scheme::Tls12Gcm | Scheme::Tls12Chacha => (header[0], content.len()),
        };
        if length > MAX_CONTENT {
            return Err(RecordFault::Overflow);
        }
        let from = HEADER + explicit.len();
        Ok(Opened { content_type: content_type.try_into()?, content: from..from + length })
    }

    /// A record with as much of `slices` as it may hold, behind the first `skipped` bytes, and how much that was.
    pub(super) fn seal(
        &mut self,
        content_type: ContentType,
        slices: &[IoSlice<'_>],
        mut skipped: usize,
    ) -> Result<(usize, Chunk), RecordFault> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let length = total.saturating_sub(skipped).min(MAX_CONTENT);
        // RFC 8446 §5.2: in TLS 1.3 the content type stands behind the content.
        let is_tls13 = self.is_tls13();
        let (outer, inner) = if is_tls13 {
            (ContentType::ApplicationData, &[content_type as u8][..])
        } else {
            (content_type, &[][..])
        };
        let explicit = self.scheme.explicit_nonce();
        let header = header(outer, explicit + length + inner.len() + TAG);
        let nonce = self.nonce();
        let mut record = Chunk::empty();
        record.fill(&header);
        // RFC 5288 §3: any value that is never used twice, as is the record's number.
        record.fill(nonce.get(NONCE_LEN - explicit..).unwrap_or_default());
        let mut left = length;
        for slice in slices {
            let rest = slice.get(skipped..).unwrap_or_default();
            skipped = skipped.saturating_sub(slice.len());
            left -= record.fill(rest.get(..left).unwrap_or(rest));
        }
        record.fill(inner);
        let data = Aad::from(self.additional_data(header, length));
        let sealed = record.get_mut(HEADER + explicit..).unwrap_or_default();
        let tag = self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), data, sealed);
        record.fill(tag.map_err(|_| RecordFault::Keys)?.as_ref());
        self.sequence += 1;
        Ok((length, record))
    }

    /// RFC 8446 §5.3.
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().skip(NONCE_LEN - 8).zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    /// What is authenticated beside a content of `length` in a record with this `header`: the header itself (RFC 8446 §5.2); in TLS 1.2 the
    /// record's number, its content type and version, and the length (RFC 5246 §6.2.3.3).
    fn additional_data(&self, header: [u8; HEADER], length: usize) -> AdditionalData {
        let [content_type, ..] = header;
        let mut data = AdditionalData { bytes: [0; 13], length: 13 };
        if self.is_tls13() {
            data.length = HEADER;
            data.bytes[..HEADER].copy_from_slice(&header);
        } else {
            let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            data.bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
            data.bytes[8..].copy_from_slice(&[content_type, 3, 3, high, low]);
        }
        data
    }
}

impl Scheme {
    /// Bytes of the nonce that stand before the ciphertext.
    fn explicit_nonce(self) -> usize {
        if self == Self::Tls12Gcm { EXPLICIT_NONCE } else { 0 }
    }
}

struct AdditionalData {
    bytes: [u8; 13],
    length: usize,
}

impl AsRef<[u8]> for AdditionalData {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Of a record with so many bytes behind it.
fn header(content_type: ContentType, length: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    [content_type as u8, 3, 3, high, low]
}

/// RFC 8446 §5.4: the content type is the last byte that is not zero; the length of the content before it.
fn inner(content: &[u8]) -> Result<(u8, usize), RecordFault> {
    let last = content.iter().rposition(|byte| *byte != 0).ok_or(RecordFault::Unexpected)?;
    Ok((content.get(last).copied().unwrap_or_default(), last))
}

/// The length of the record that `received` begins with, once all of it is there; `is_tls13` is how its connection protects records.
pub(super) fn whole(received: &[u8], is_tls13: bool) -> Result<Option<usize>, RecordFault> {
    let Some(header) = received.first_chunk::<HEADER>() else { return Ok(None) };
    // RFC 8446 §5.2: from outside, all protected records are alike.
    if ContentType::try_from(header[0])? != ContentType::ApplicationData && is_tls13 {
        return Err(RecordFault::Unexpected);
    }
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length > MAX_PROTECTED {
        return Err(RecordFault::Overflow);
    }
    Ok(Some(HEADER + length).filter(|length| *length <= received.len()))
}

/// RFC 8446 §5.1.
pub(super) const MAX_CONTENT: usize = 1 << 14;
/// RFC 8446 §5.2. RFC 5246 §6.2.3 allows more, but no cipher of ours needs it.
const MAX_PROTECTED: usize = MAX_CONTENT + 256;
/// Content type, version, length.
const HEADER: usize = 5;
const TAG: usize = 16;
/// RFC 5288 §3.
const EXPLICIT_NONCE: usize = 8;
// A received record, and one that is sealed, fit a buffer.
const _: () = assert!(HEADER + MAX_PROTECTED <= Chunk::SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    impl Protection {
        /// A record of TLS 1.3 around what its seal covers, with content type and padding.
        pub(in crate::tls) fn seal_as_it_is(&mut self, inner: &[u8]) -> Vec<u8> {
            let header = header(ContentType::ApplicationData, inner.len() + TAG);
            let (nonce, mut sealed) = (Nonce::assume_unique_for_key(self.nonce()), inner.to_vec());
            let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut sealed).unwrap();
            self.sequence += 1;
            [&header, sealed.as_slice(), tag.as_ref()].concat()
        }
    }
}
