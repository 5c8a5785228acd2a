//! Header sections of requests, written (RFC 9112 §3, §5).

use bytes::{BufMut, Bytes, BytesMut};
use http::request;

use super::fields::{put_fields, size_of_fields};

/// The header section of a request. Its fields go out as they are: whoever made them has seen to Host and to the framing.
pub(crate) fn request_head(head: &request::Parts) -> Bytes {
    let (method, target) =
        (head.method.as_str(), head.uri.path_and_query().map_or("/", |path| path.as_str()));
    let mut bytes =
        BytesMut::with_capacity(method.len() + target.len() + REQUEST_LINE + size_of_fields(&head.headers));
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        bytes.put_slice(part.as_bytes());
    }
    put_fields(&mut bytes, head.headers.iter());
    bytes.put_slice(b"\r\n");
    bytes.freeze()
}

/// ` HTTP/1.1` and the line ends, beside method and target.
const REQUEST_LINE: usize = 16;
