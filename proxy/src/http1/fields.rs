//! What header sections of requests and responses have in common (RFC 9112 §5).

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use super::MessageViolation;

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
        for at in memchr::memchr_iter(b'\n', rest) {
            let behind = rest.get(at + 1..).unwrap_or_default();
            // RFC 9112 §2.2: a line may end in LF alone.
            for end in [&b"\n"[..], b"\r\n"] {
                if behind.starts_with(end) {
                    self.searched = 0;
                    return Some(from + at + 1 + end.len());
                }
            }
        }
        self.searched = received.len();
        None
    }
}

/// The parsed fields of `head`, with their values where they lie, and room for as many as `forward` adds; nothing if one of them is
/// malformed.
pub(super) fn fields(head: &Bytes, parsed: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(parsed.len() + ADDED);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let is_folded = memchr::memchr(b'\n', field.value).is_some();
        let value = if is_folded { unfolded(field.value) } else { head.slice_ref(field.value) };
        headers.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(headers)
}

/// The fields of a trailer section, whose last line end was read (RFC 9112 §7.1.2).
pub(super) fn trailer_fields(mut lines: BytesMut) -> Result<HeaderMap, MessageViolation> {
    lines.put_slice(b"\r\n");
    let section = lines.freeze();
    let mut place = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(&section, &mut place) {
        Ok(httparse::Status::Complete((_, parsed))) => {
            fields(&section, parsed).ok_or(MessageViolation::TrailerSection)
        }
        Err(httparse::Error::TooManyHeaders) => Err(MessageViolation::ChunkExtras),
        Ok(httparse::Status::Partial) | Err(_) => Err(MessageViolation::TrailerSection),
    }
}

/// RFC 9112 §5.2: each obs-fold is replaced by spaces.
fn unfolded(value: &[u8]) -> Bytes {
    value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

/// Writes field lines.
pub(super) fn put_fields<'a>(
    bytes: &mut BytesMut,
    fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) {
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.put_slice(part);
        }
    }
}

/// How many bytes [`put_fields`] writes for all of `headers`.
pub(super) fn size_of_fields(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + b": \r\n".len()).sum()
}

/// The elements of a list-based field, over all of its lines (RFC 9110 §5.6.1).
pub(crate) fn list<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(elements)
}

/// The elements of one of its lines.
pub(crate) fn elements(value: &HeaderValue) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The version that httparse read: it takes HTTP/1.0 and HTTP/1.1 only.
pub(super) fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Whether a message lets its connection carry another (RFC 9112 §9.3).
pub(super) fn persists(version: Version, headers: &HeaderMap) -> bool {
    let mut persists = version != Version::HTTP_10;
    for option in list(headers, &header::CONNECTION) {
        if option.eq_ignore_ascii_case(b"close") {
            return false;
        }
        persists |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    persists
}

/// Fields that are added to a request, so that its map is not made anew for them.
const ADDED: usize = 8;
/// Fields that a trailer section may have.
const MAX_TRAILERS: usize = 32;
/// The longest end of a header section that may be cut in two: the line feed of its last line, and the empty line.
const END: &[u8] = b"\n\r\n";
