//! Header sections of requests, written (RFC 9112 §3, §5).

use bytes::{BufMut, BytesMut};
use http::HeaderValue;

use super::RequestParts;

/// The header section of a request for `target`, Host first (RFC 9110 §7.2). Its fields go out as they are: whoever made them has seen to the
/// framing.
pub(crate) fn request_head(head: &RequestParts, target: &str, host: &HeaderValue) -> BytesMut {
    let method = head.method.as_str();
    let ours = method.len() + target.len() + host.len() + LINES;
    let mut bytes = BytesMut::with_capacity(ours + head.fields.size());
    for part in [method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\nhost: ", host.as_bytes(), b"\r\n"]
    {
        bytes.put_slice(part);
    }
    head.fields.put(&mut bytes, |_| false);
    bytes.put_slice(b"\r\n");
    bytes
}

/// What the request line and Host have beside method, target and host, and the empty line.
const LINES: usize = 24;
