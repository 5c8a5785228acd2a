//! Messages on their way out: what is unsent, and how a body is framed.

use std::io::{IoSlice, Write as _};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The pieces of a message that are to be written next, in order: its header section, then one piece of its body with its framing.
#[derive(Debug)]
pub(crate) struct Outgoing<D> {
    head: Bytes,
    before: Bytes,
    data: Option<D>,
    behind: &'static [u8],
}

impl<D: Buf> Outgoing<D> {
    /// A message that begins with `head`.
    pub(crate) fn new(head: Bytes) -> Self {
        Self { head, before: Bytes::new(), data: None, behind: b"" }
    }

    /// What is left to be written.
    pub(crate) fn slices(&self) -> [IoSlice<'_>; 4] {
        let data = self.data.as_ref().map_or(&b""[..], D::chunk);
        [&self.head, &self.before, data, self.behind].map(IoSlice::new)
    }

    /// So many bytes were written.
    pub(crate) fn advance(&mut self, mut count: usize) {
        advance(&mut self.head, &mut count);
        advance(&mut self.before, &mut count);
        if let Some(data) = &mut self.data {
            advance(data, &mut count);
            if !data.has_remaining() {
                self.data = None;
            }
        }
        advance(&mut self.behind, &mut count);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && !self.has_body()
    }

    /// Whether some of the body is left.
    pub(crate) fn has_body(&self) -> bool {
        !self.before.is_empty() || self.data.is_some() || !self.behind.is_empty()
    }

    /// Puts one piece of the body behind the header section; nothing of another piece may be left.
    pub(crate) fn set_body(&mut self, before: Bytes, data: Option<D>, behind: &'static [u8]) {
        (self.before, self.data, self.behind) = (before, data.filter(D::has_remaining), behind);
    }
}

fn advance(piece: &mut impl Buf, count: &mut usize) {
    let taken = piece.remaining().min(*count);
    piece.advance(taken);
    *count -= taken;
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyWriter {
    /// So many bytes are left, as Content-Length has announced.
    Length { left: u64 },
    /// RFC 9112 §7.1.
    Chunked,
    /// The connection's end is the body's.
    UntilClose,
}

impl BodyWriter {
    /// What goes out in front of so many bytes of data and behind them, and behind the last ones. An error is another length than the one
    /// that was announced: what is beyond would be read as another message.
    pub(crate) fn frame(
        &mut self,
        length: usize,
        is_last: bool,
    ) -> Result<(Bytes, &'static [u8]), WrongLength> {
        match self {
            Self::Length { left } => {
                *left = left.checked_sub(length as u64).ok_or(WrongLength)?;
                if is_last && *left > 0 { Err(WrongLength) } else { Ok((Bytes::new(), b"")) }
            }
            Self::Chunked => Ok(match (length, is_last) {
                // An empty chunk would end the body.
                (0, false) => (Bytes::new(), b""),
                (0, true) => (Bytes::new(), LAST_CHUNK),
                (_, false) => (chunk_size(length), LINE_END),
                (_, true) => (chunk_size(length), LINE_END_AND_LAST_CHUNK),
            }),
            Self::UntilClose => Ok((Bytes::new(), b"")),
        }
    }
}

fn chunk_size(length: usize) -> Bytes {
    let mut size = BytesMut::with_capacity(CHUNK_SIZE).writer();
    // Writing into memory does not fail.
    let _ = write!(size, "{length:x}\r\n");
    size.into_inner().freeze()
}

/// A body is not as long as its Content-Length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not as long as announced")]
pub(crate) struct WrongLength;

const LINE_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const LINE_END_AND_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// Of a chunk's size with its line's end.
const CHUNK_SIZE: usize = 18;
