//! Requests, written (RFC 9112 §3, §5, §7.1).

use std::io::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use http::request;

/// The header section of a request. Its fields go out as they are: whoever made them has seen to Host and to the framing.
pub(crate) fn request_head(head: &request::Parts) -> Bytes {
    let (method, target) =
        (head.method.as_str(), head.uri.path_and_query().map_or("/", |path| path.as_str()));
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    let length = method.len() + target.len() + REQUEST_LINE + fields.sum::<usize>();
    let mut bytes = BytesMut::with_capacity(length);
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        bytes.put_slice(part.as_bytes());
    }
    for (name, value) in &head.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.put_slice(part);
        }
    }
    bytes.put_slice(b"\r\n");
    bytes.freeze()
}

/// How the body of a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyWriter {
    /// So many bytes are left, as Content-Length has announced.
    Length { left: u64 },
    /// RFC 9112 §7.1.
    Chunked,
}

impl BodyWriter {
    /// What goes out in front of `data` and behind it. An error is more data than was announced: the rest would be read as another
    /// request.
    pub(crate) fn frame(&mut self, data: &[u8]) -> Result<(Bytes, &'static [u8]), WrongLength> {
        match self {
            // An empty chunk would end the body.
            _ if data.is_empty() => Ok((Bytes::new(), b"")),
            Self::Length { left } => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                Ok((Bytes::new(), b""))
            }
            Self::Chunked => {
                let mut size = BytesMut::with_capacity(CHUNK_SIZE).writer();
                // Writing into memory does not fail.
                let _ = write!(size, "{:x}\r\n", data.len());
                Ok((size.into_inner().freeze(), b"\r\n"))
            }
        }
    }

    /// What goes out behind the last data. An error is less data than was announced.
    pub(crate) fn end(&self) -> Result<&'static [u8], WrongLength> {
        match self {
            Self::Length { left: 0 } => Ok(b""),
            Self::Length { .. } => Err(WrongLength),
            Self::Chunked => Ok(b"0\r\n\r\n"),
        }
    }
}

/// A body is not as long as its Content-Length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not as long as announced")]
pub(crate) struct WrongLength;

/// ` HTTP/1.1` and the line ends, beside method and target.
const REQUEST_LINE: usize = 16;
/// `: ` and the line's end.
const FIELD: usize = 4;
/// Of a chunk's size with its line's end.
const CHUNK_SIZE: usize = 18;
