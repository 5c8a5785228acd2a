//! Header sections of responses, written (RFC 9112 §4, §5).

use bytes::{Buf, BufMut, BytesMut};
use http::{HeaderValue, Method, StatusCode, Version};

use super::{
    framing::has_no_body,
    message_writer::{MessageWriter, OutgoingFraming},
};
use crate::{field_name::FieldName, fields::Fields};

/// How the end of a response's body is marked for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    /// There is no body, whatever Content-Length says of one.
    Empty,
    /// So many bytes.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
    /// By the end of the connection: HTTP/1.0 has no other way for a length that is not known.
    UntilClose,
}

impl ResponseFraming {
    /// For a body of `length`, where that is known, in answer to a request of `version` with `method`.
    pub(crate) fn new(method: &Method, version: Version, status: StatusCode, length: Option<u64>) -> Self {
        match length {
            _ if has_no_body(method, status) => Self::Empty,
            Some(length) => Self::Length(length),
            None if version == Version::HTTP_10 => Self::UntilClose,
            None => Self::Chunked,
        }
    }

    /// A response with such a body, which begins with `head`.
    pub(crate) fn message<D: Buf>(self, head: BytesMut) -> MessageWriter<D> {
        let framing = match self {
            Self::Empty => return MessageWriter::without_body(head),
            Self::Length(left) => OutgoingFraming::Length { left },
            Self::Chunked => OutgoingFraming::Chunked,
            Self::UntilClose => OutgoingFraming::UntilClose,
        };
        MessageWriter::new(head, framing)
    }
}

/// The header section of a response. Connection and the framing are ours alone; `date` stands in for a Date that is missing (RFC 9110
/// §6.6.1).
pub(crate) fn response_head(
    status: StatusCode,
    fields: &Fields,
    framing: ResponseFraming,
    connection: Option<&'static str>,
    date: &HeaderValue,
) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(fields.size() + OURS);
    put_status_line(&mut bytes, status);
    fields.put(&mut bytes, |name| match name {
        FieldName::Connection | FieldName::TransferEncoding => true,
        FieldName::ContentLength => framing != ResponseFraming::Empty,
        _ => false,
    });
    match framing {
        ResponseFraming::Length(length) => {
            put_field(&mut bytes, b"content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        ResponseFraming::Chunked => bytes.put_slice(b"transfer-encoding: chunked\r\n"),
        ResponseFraming::Empty | ResponseFraming::UntilClose => {}
    }
    if let Some(option) = connection {
        put_field(&mut bytes, b"connection", option.as_bytes());
    }
    if !fields.has(FieldName::Date) {
        put_field(&mut bytes, b"date", date.as_bytes());
    }
    bytes.put_slice(b"\r\n");
    bytes
}

/// An interim response (RFC 9110 §15.2).
pub(crate) fn put_interim(bytes: &mut BytesMut, status: StatusCode, fields: &Fields) {
    put_status_line(bytes, status);
    fields.put(bytes, |_| false);
    bytes.put_slice(b"\r\n");
}

fn put_field(bytes: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        bytes.put_slice(part);
    }
}

fn put_status_line(bytes: &mut BytesMut, status: StatusCode) {
    bytes.put_slice(b"HTTP/1.1 ");
    bytes.put_slice(status.as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.put_slice(b"\r\n");
}

/// Room for the status line, Date, Connection and the framing.
const OURS: usize = 192;
