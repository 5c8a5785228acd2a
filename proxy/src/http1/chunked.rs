//! The chunked coding, read (RFC 9112 §7.1).

use bytes::{BufMut, BytesMut};
use http::HeaderMap;

use super::{MessageViolation, fields::trailer_fields};

/// What stands between the bytes of a chunked body.
#[derive(Debug)]
pub(super) struct ChunkedReader {
    state: State,
    /// Bytes of extensions and of the trailer section so far.
    extras: usize,
    /// The lines of the trailer section so far.
    trailers: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Of `chunk-size`, so many digits were read.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind `chunk-size`: blanks, or extensions.
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCarriageReturn,
    DataLineFeed,
    /// At the beginning of a trailer field, or of the empty line.
    TrailerLine,
    TrailerField,
    TrailerLineFeed,
    LastLineFeed,
    End,
}

impl ChunkedReader {
    pub(super) fn new() -> Self {
        Self { state: FIRST_SIZE, extras: 0, trailers: BytesMut::new() }
    }

    /// Reads what stands in front of the next data, or ends the body; how many of `bytes` that was.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, MessageViolation> {
        let mut count = 0;
        for byte in bytes {
            if matches!(self.state, State::Data { .. } | State::End) {
                break;
            }
            self.state = self.after(*byte)?;
            count += 1;
        }
        Ok(count)
    }

    /// How many bytes of data come next; 0 if something else does.
    pub(super) fn data_left(&self) -> u64 {
        if let State::Data { left } = self.state { left } else { 0 }
    }

    /// Whether the body has ended.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::End
    }

    /// The trailer section, if there is one, behind the end.
    pub(super) fn trailers(self) -> Result<Option<HeaderMap>, MessageViolation> {
        if self.trailers.is_empty() { Ok(None) } else { trailer_fields(self.trailers).map(Some) }
    }

    /// So many bytes of data were taken.
    pub(super) fn took(&mut self, count: u64) {
        if let State::Data { left } = self.state {
            let left = left.saturating_sub(count);
            self.state = if left == 0 { State::DataCarriageReturn } else { State::Data { left } };
        }
    }

    fn after(&mut self, byte: u8) -> Result<State, MessageViolation> {
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) => match char::from(byte).to_digit(16) {
                // RFC 9112 §7.1: a recipient must not let the number overflow.
                Some(_) if digits == MAX_DIGITS => return Err(MessageViolation::Chunk),
                Some(digit) => State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 },
                None if digits == 0 => return Err(MessageViolation::Chunk),
                None => behind_size(size, byte)?,
            },
            (State::Extension { size }, b'\r') => State::SizeLineFeed { size },
            (State::Extension { size }, byte) if byte != b'\n' => self.extra(State::Extension { size })?,
            (State::SizeLineFeed { size: 0 }, b'\n') => State::TrailerLine,
            (State::TrailerLineFeed, b'\n') => {
                self.trailers.put_slice(b"\r\n");
                State::TrailerLine
            }
            (State::SizeLineFeed { size }, b'\n') => State::Data { left: size },
            (State::DataCarriageReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => FIRST_SIZE,
            (State::TrailerLine, b'\r') => State::LastLineFeed,
            (State::TrailerLine | State::TrailerField, byte) if byte != b'\n' && byte != b'\r' => {
                self.trailers.put_u8(byte);
                self.extra(State::TrailerField)?
            }
            (State::TrailerField, b'\r') => State::TrailerLineFeed,
            (State::LastLineFeed, b'\n') => State::End,
            _ => return Err(MessageViolation::Chunk),
        })
    }

    fn extra(&mut self, state: State) -> Result<State, MessageViolation> {
        self.extras += 1;
        if self.extras > MAX_EXTRAS { Err(MessageViolation::ChunkExtras) } else { Ok(state) }
    }
}

/// RFC 9112 §7.1.1: the size may be followed by blanks (in practice) and by extensions, which are ignored.
fn behind_size(size: u64, byte: u8) -> Result<State, MessageViolation> {
    match byte {
        b'\r' => Ok(State::SizeLineFeed { size }),
        b';' | b' ' | b'\t' => Ok(State::Extension { size }),
        _ => Err(MessageViolation::Chunk),
    }
}

const FIRST_SIZE: State = State::Size { size: 0, digits: 0 };
/// Of a number of 64 bits.
const MAX_DIGITS: u8 = 16;
/// RFC 9112 §7.1.1: a recipient ought to limit the total of extensions in a message.
const MAX_EXTRAS: usize = 16 * 1024;
