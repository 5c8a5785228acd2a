//! Header sections of responses, read (RFC 9112 §4, §5).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::{ResponseViolation, framing::BodyFraming};

/// A final response's header section.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: BodyFraming,
    /// Whether the connection can carry another request once the body has ended (RFC 9112 §9.3).
    pub(crate) is_persistent: bool,
}

/// Reads one response's header section, and the interim responses in front of it.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    /// How much of what was received holds no end of a header section.
    searched: usize,
    interim: usize,
}

impl ResponseReader {
    /// Takes the header section out of `received`, once it is there.
    pub(crate) fn read(
        &mut self,
        received: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<ResponseHead>, ResponseViolation> {
        loop {
            check_beginning(received)?;
            let Some(length) = self.find_end(received) else {
                let fits = received.len() < MAX_HEADER_SECTION;
                return if fits { Ok(None) } else { Err(ResponseViolation::HeaderSectionSize) };
            };
            self.searched = 0;
            let head = parse(&received.split_to(length).freeze(), method)?;
            // RFC 9110 §15.2: a client must be able to read interim responses, and may ignore them. 101 is final: nothing of HTTP
            // follows it.
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(ResponseViolation::InterimResponses);
            }
        }
    }

    /// The length of the header section with its empty line. Each byte is looked at once, however the bytes come.
    fn find_end(&mut self, received: &[u8]) -> Option<usize> {
        // RFC 9112 §2.2: a line may end in LF alone.
        let from = self.searched.saturating_sub(END.len());
        let rest = received.get(from..)?;
        let line_feeds = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        for at in line_feeds {
            let behind = rest.get(at + 1..).unwrap_or_default();
            for end in [&b"\n"[..], b"\r\n"] {
                if behind.starts_with(end) {
                    return Some(from + at + 1 + end.len());
                }
            }
        }
        self.searched = received.len();
        None
    }
}

/// What is not HTTP is refused at its first bytes: it may never send an empty line.
fn check_beginning(received: &[u8]) -> Result<(), ResponseViolation> {
    let length = received.len().min(BEGINNING.len());
    let begins = received.get(..length) == BEGINNING.get(..length);
    if begins { Ok(()) } else { Err(ResponseViolation::StatusLine) }
}

fn parse(head: &Bytes, method: &Method) -> Result<ResponseHead, ResponseViolation> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = config().parse_response_with_uninit_headers(&mut response, head, &mut fields);
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseViolation::HeaderSectionSize),
        Err(httparse::Error::Version | httparse::Error::Status) => return Err(ResponseViolation::StatusLine),
        Ok(_) | Err(_) => return Err(ResponseViolation::HeaderSection),
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(ResponseViolation::StatusLine)?;
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let headers = collect(head, response.headers).ok_or(ResponseViolation::HeaderSection)?;
    let framing = BodyFraming::of_response(method, status, version, &headers)?;
    let is_persistent = framing != BodyFraming::UntilClose && persists(version, &headers);
    Ok(ResponseHead { status, headers, framing, is_persistent })
}

fn config() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 §5.1, §5.2: a proxy removes the blank before a colon, and unfolds lines.
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    config
}

fn collect(head: &Bytes, fields: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let is_folded = field.value.contains(&b'\n');
        let value = if is_folded { unfolded(field.value) } else { head.slice_ref(field.value) };
        headers.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(headers)
}

/// RFC 9112 §5.2: each obs-fold is replaced by spaces.
fn unfolded(value: &[u8]) -> Bytes {
    value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

/// RFC 9112 §9.3.
fn persists(version: Version, headers: &HeaderMap) -> bool {
    let mut persists = version != Version::HTTP_10;
    let values = headers.get_all(header::CONNECTION).iter();
    for option in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let option = option.trim_ascii();
        if option.eq_ignore_ascii_case(b"close") {
            return false;
        }
        persists |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    persists
}

const BEGINNING: &[u8] = b"HTTP/1.";
/// The longest end of a header section that may be cut in two: the line feed of its last line, and the empty line.
const END: &[u8] = b"\n\r\n";
/// Fields that a header section may have.
const MAX_FIELDS: usize = 256;
/// Bytes that a header section may have.
pub(super) const MAX_HEADER_SECTION: usize = 128 * 1024;
/// Interim responses in front of a final one.
const MAX_INTERIM: usize = 32;
