//! Header sections of responses, read (RFC 9112 §4, §5).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};

use super::{
    MessageViolation,
    fields::{EndSearch, persists, version},
    framing::BodyFraming,
};
use crate::fields::Fields;

/// What was read of a response.
#[derive(Debug)]
pub(crate) enum ResponsePart {
    /// A header section in front of the final one (RFC 9110 §15.2).
    Interim(InterimResponse),
    Final(ResponseHead),
}

/// An interim response, which has no body.
#[derive(Debug)]
pub(crate) struct InterimResponse {
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
}

/// A final response's header section.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
    pub(crate) framing: BodyFraming,
    /// Whether the connection can carry another request once the body has ended (RFC 9112 §9.3).
    pub(crate) is_persistent: bool,
}

/// Reads the interim responses in front of one response, and its header section.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    search: EndSearch,
    interim: usize,
}

impl ResponseReader {
    /// Takes the next header section out of `received`, once it is there.
    pub(crate) fn read(
        &mut self,
        received: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<ResponsePart>, MessageViolation> {
        check_beginning(received)?;
        let Some(length) = self.search.find(received) else {
            let fits = received.len() < MAX_HEADER_SECTION;
            return if fits { Ok(None) } else { Err(MessageViolation::HeaderSectionSize) };
        };
        let head = parse(&received.split_to(length).freeze(), method)?;
        // 101 is final: nothing of HTTP follows it (RFC 9110 §15.2.2).
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(ResponsePart::Final(head)));
        }
        self.interim += 1;
        if self.interim > MAX_INTERIM {
            return Err(MessageViolation::InterimResponses);
        }
        Ok(Some(ResponsePart::Interim(InterimResponse { status: head.status, fields: head.fields })))
    }
}

/// What is not HTTP is refused at its first bytes: it may never send an empty line.
fn check_beginning(received: &[u8]) -> Result<(), MessageViolation> {
    let length = received.len().min(BEGINNING.len());
    let begins = received.get(..length) == BEGINNING.get(..length);
    if begins { Ok(()) } else { Err(MessageViolation::StatusLine) }
}

fn parse(head: &Bytes, method: &Method) -> Result<ResponseHead, MessageViolation> {
    let mut place = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = config().parse_response_with_uninit_headers(&mut response, head, &mut place);
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(MessageViolation::HeaderSectionSize),
        Err(httparse::Error::Version | httparse::Error::Status) => return Err(MessageViolation::StatusLine),
        Ok(_) | Err(_) => return Err(MessageViolation::HeaderSection),
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(MessageViolation::StatusLine)?;
    let version = version(response.version);
    let fields =
        Fields::received_folded(head.clone(), response.headers).ok_or(MessageViolation::HeaderSection)?;
    let framing = BodyFraming::of_response(method, status, version, &fields)?;
    let is_persistent = framing != BodyFraming::UntilClose && persists(version, &fields);
    Ok(ResponseHead { status, fields, framing, is_persistent })
}

fn config() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 §5.1, §5.2: a proxy removes the blank before a colon, and unfolds lines.
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    config
}

const BEGINNING: &[u8] = b"HTTP/1.";
/// Fields that a header section may have.
const MAX_FIELDS: usize = 256;
/// Bytes that a header section may have.
pub(super) const MAX_HEADER_SECTION: usize = 128 * 1024;
/// Interim responses in front of a final one.
const MAX_INTERIM: usize = 32;
