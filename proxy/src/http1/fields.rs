//! What header sections of requests and responses have in common (RFC 9112 §5).

use std::sync::LazyLock;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Version};
use memchr::memmem::Finder;

use super::MessageViolation;
use crate::{field_name::FieldName, fields::Fields};

/// Looks for the end of a header section; each byte is looked at once, however the bytes come.
#[derive(Debug, Default)]
pub(super) struct EndSearch {
    /// How much of what was received holds no end.
    searched: usize,
}

impl EndSearch {
    /// The length of the header section with its empty line, once it is there; the next search is for the next one.
    pub(super) fn find(&mut self, received: &[u8]) -> Option<usize> {
        let from = self.searched.saturating_sub(END.len());
        let rest = received.get(from..)?;
        let behind_crlf = CRLF_END.find(rest);
        // RFC 9112 §2.2: a line may end in LF alone, also an earlier one.
        let earlier = rest.get(..=behind_crlf.unwrap_or(rest.len())).unwrap_or(rest);
        let end = LF_END.find(earlier).map(|at| at + LF_END.needle().len());
        let end = end.or_else(|| behind_crlf.map(|at| at + END.len()));
        self.searched = if end.is_some() { 0 } else { received.len() };
        end.map(|end| from + end)
    }
}

/// The fields of a trailer section, whose last line end was read (RFC 9112 §7.1.2).
pub(super) fn trailer_fields(mut lines: BytesMut) -> Result<HeaderMap, MessageViolation> {
    lines.put_slice(b"\r\n");
    let section = lines.freeze();
    let mut place = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(&section, &mut place) {
        Ok(httparse::Status::Complete((_, parsed))) => {
            let fields = Fields::received(section.clone(), parsed).ok_or(MessageViolation::TrailerSection)?;
            Ok(fields.to_map())
        }
        Err(httparse::Error::TooManyHeaders) => Err(MessageViolation::ChunkExtras),
        Ok(httparse::Status::Partial) | Err(_) => Err(MessageViolation::TrailerSection),
    }
}

/// The version that httparse read: it takes HTTP/1.0 and HTTP/1.1 only.
pub(super) fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Whether a message lets its connection carry another (RFC 9112 §9.3).
pub(super) fn persists(version: Version, fields: &Fields) -> bool {
    let mut persists = version != Version::HTTP_10;
    for option in fields.list(FieldName::Connection) {
        if option.eq_ignore_ascii_case(b"close") {
            return false;
        }
        persists |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    persists
}

/// Fields that a trailer section may have.
const MAX_TRAILERS: usize = 32;
/// The longest end of a header section that may be cut in two: the line feed of its last line, and the empty line.
const END: &[u8] = b"\n\r\n";
/// Each of the two ends, as its search is prepared.
static CRLF_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));
static LF_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n\n"));
