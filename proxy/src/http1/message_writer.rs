//! A message on its way out: its header section, then its body piece by piece.

use std::io::{IoSlice, Write as _};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;

use crate::fields::Fields;

/// What of a message is to be written next, in order; a [`Buf`] that is empty until the next piece of the body is put.
#[derive(Debug)]
pub(crate) struct MessageWriter<D> {
    head: BytesMut,
    before: Bytes,
    data: Option<D>,
    behind: Bytes,
    framing: OutgoingFraming,
    is_over: bool,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutgoingFraming {
    /// So many bytes are left, as Content-Length has announced.
    Length { left: u64 },
    /// RFC 9112 §7.1.
    Chunked,
    /// The connection's end is the body's.
    UntilClose,
}

impl<D: Buf> MessageWriter<D> {
    /// A message that begins with `head`; its body, if only its end, is to be put.
    pub(crate) fn new(head: BytesMut, framing: OutgoingFraming) -> Self {
        Self { head, before: Bytes::new(), data: None, behind: Bytes::new(), framing, is_over: false }
    }

    /// A message that ends with `head`: no body is asked for.
    pub(crate) fn without_body(head: BytesMut) -> Self {
        Self { is_over: true, ..Self::new(head, OutgoingFraming::Length { left: 0 }) }
    }

    /// Whether the end of the body was put.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the next piece of the body can be put: the last one was written, and was not the last of all.
    pub(crate) fn needs_body(&self) -> bool {
        !self.is_over && self.before.is_empty() && self.data.is_none() && self.behind.is_empty()
    }

    /// Puts the next piece of the body. An error is another length than the one that was announced: what is beyond would be read as
    /// another message.
    pub(crate) fn put_body(&mut self, data: Option<D>, is_last: bool) -> Result<(), WrongLength> {
        let data = data.filter(D::has_remaining);
        let length = data.as_ref().map_or(0, D::remaining);
        (self.before, self.behind) = self.framing.frame(length, is_last)?;
        (self.data, self.is_over) = (data, is_last);
        Ok(())
    }

    /// Puts the end of the body, with its trailer section where the coding has one (RFC 9110 §6.5.1: they may be discarded elsewhere).
    pub(crate) fn put_end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        self.put_body(None, true)?;
        if let (OutgoingFraming::Chunked, Some(trailers)) = (self.framing, trailers) {
            let trailers = Fields::from(trailers);
            let mut bytes = BytesMut::with_capacity(trailers.size() + LAST_CHUNK.len());
            bytes.put_slice(b"0\r\n");
            trailers.put(&mut bytes, |_| false);
            bytes.put_slice(b"\r\n");
            self.behind = bytes.freeze();
        }
        Ok(())
    }

    fn pieces(&self) -> [&[u8]; 4] {
        let data = self.data.as_ref().map_or(&b""[..], D::chunk);
        [&self.head, &self.before, data, &self.behind]
    }
}

impl<D: Buf> Buf for MessageWriter<D> {
    fn remaining(&self) -> usize {
        let data = self.data.as_ref().map_or(0, D::remaining);
        self.head.len() + self.before.len() + data + self.behind.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces().into_iter().find(|piece| !piece.is_empty()).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces().into_iter().filter(|piece| !piece.is_empty());
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
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
}

fn advance(piece: &mut impl Buf, count: &mut usize) {
    let taken = piece.remaining().min(*count);
    piece.advance(taken);
    *count -= taken;
}

impl OutgoingFraming {
    /// What goes out in front of so many bytes of data and behind them, and behind the last ones.
    fn frame(&mut self, length: usize, is_last: bool) -> Result<(Bytes, Bytes), WrongLength> {
        match self {
            Self::Length { left } => {
                *left = left.checked_sub(length as u64).ok_or(WrongLength)?;
                if is_last && *left > 0 { Err(WrongLength) } else { Ok((Bytes::new(), Bytes::new())) }
            }
            Self::Chunked => Ok(match (length, is_last) {
                // An empty chunk would end the body.
                (0, false) => (Bytes::new(), Bytes::new()),
                (0, true) => (Bytes::new(), Bytes::from_static(LAST_CHUNK)),
                (_, false) => (chunk_size(length), Bytes::from_static(LINE_END)),
                (_, true) => (chunk_size(length), Bytes::from_static(LINE_END_AND_LAST_CHUNK)),
            }),
            Self::UntilClose => Ok((Bytes::new(), Bytes::new())),
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
