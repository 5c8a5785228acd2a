//! Where a message's body ends (RFC 9112 §6.3).

use http::{Method, StatusCode, Version};

use super::MessageViolation;
use crate::{field_name::FieldName, fields::Fields};

/// How the end of a body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// So many bytes.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

impl BodyFraming {
    /// Of the response with this header section to a request with `method`.
    pub(super) fn of_response(
        method: &Method,
        status: StatusCode,
        version: Version,
        fields: &Fields,
    ) -> Result<Self, MessageViolation> {
        let marked = marked(version, fields)?;
        // RFC 9112 §6.3, first rule: whatever the fields say.
        Ok(if has_no_body(method, status) { Self::Length(0) } else { marked.unwrap_or(Self::UntilClose) })
    }

    /// Of the request with this header section.
    pub(super) fn of_request(version: Version, fields: &Fields) -> Result<Self, MessageViolation> {
        // RFC 9112 §6.3, seventh rule.
        Ok(marked(version, fields)?.unwrap_or(Self::Length(0)))
    }
}

/// What the fields say.
fn marked(version: Version, fields: &Fields) -> Result<Option<BodyFraming>, MessageViolation> {
    let length = content_length(fields)?;
    if !fields.has(FieldName::TransferEncoding) {
        return Ok(length.map(BodyFraming::Length));
    }
    // RFC 9112 §6.1: both at once may be an attempt at smuggling, and one of HTTP/1.0 is faulty.
    if length.is_some() || version == Version::HTTP_10 || !is_chunked(fields) {
        return Err(MessageViolation::TransferEncoding);
    }
    Ok(Some(BodyFraming::Chunked))
}

/// Whether the response to a request by `method` has none, whatever its fields say (RFC 9110 §6.4.1).
pub(crate) fn has_no_body(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// RFC 9112 §7: the only coding that a proxy must know, and the only one that none has to ask for.
fn is_chunked(fields: &Fields) -> bool {
    fields.only(FieldName::TransferEncoding).is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
}

/// RFC 9112 §6.3, fifth rule: the same number several times is one number.
fn content_length(fields: &Fields) -> Result<Option<u64>, MessageViolation> {
    let mut length = None;
    for value in fields.list(FieldName::ContentLength) {
        let number = decimal(value).ok_or(MessageViolation::ContentLength)?;
        if length.is_some_and(|length| length != number) {
            return Err(MessageViolation::ContentLength);
        }
        length = Some(number);
    }
    Ok(length)
}

/// RFC 9110 §8.6: `1*DIGIT`; `str::parse` would take a sign as well.
fn decimal(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}
