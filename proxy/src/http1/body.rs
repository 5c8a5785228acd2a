//! Bodies, read from what was received.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::{MessageViolation, chunked::ChunkedReader, framing::BodyFraming};
use crate::small_pieces::join;

/// Where the reading of a body stands.
#[derive(Debug)]
pub(crate) struct BodyReader {
    state: State,
    trailers: Option<Box<HeaderMap>>,
}

#[derive(Debug)]
enum State {
    Length {
        left: u64,
    },
    Chunked(ChunkedReader),
    UntilClose,
    Ended(BodyEnd),
    /// What came behind the data was no chunk.
    Broken(MessageViolation),
}

/// What of a body was in the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyPart {
    Data(Bytes),
    /// Nothing: more has to be received.
    Incomplete,
    End(BodyEnd),
}

/// What the end of a body means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// The body said where it ends.
    Marked,
    /// It ended with its connection.
    Closed,
}

impl BodyReader {
    pub(crate) fn new(framing: BodyFraming) -> Self {
        let state = match framing {
            BodyFraming::Length(0) => State::Ended(BodyEnd::Marked),
            BodyFraming::Length(left) => State::Length { left },
            BodyFraming::Chunked => State::Chunked(ChunkedReader::new()),
            BodyFraming::UntilClose => State::UntilClose,
        };
        Self { state, trailers: None }
    }

    /// Takes the next part out of `received`, of at most `most` bytes of data: small chunks are one part.
    pub(crate) fn read(
        &mut self,
        received: &mut BytesMut,
        most: usize,
    ) -> Result<BodyPart, MessageViolation> {
        // What ends it or breaks it off is there when it is asked for again.
        match self.read_one(received, most)? {
            BodyPart::Data(first) => {
                Ok(BodyPart::Data(join(first, most, |room| match self.read_one(received, room) {
                    Ok(BodyPart::Data(data)) => Some(data),
                    Ok(BodyPart::Incomplete | BodyPart::End(_)) | Err(_) => None,
                })))
            }
            part => Ok(part),
        }
    }

    /// The same of at most one chunk.
    fn read_one(&mut self, received: &mut BytesMut, most: usize) -> Result<BodyPart, MessageViolation> {
        self.skip_framing(received)?;
        let expected = match &self.state {
            State::Ended(end) => return Ok(BodyPart::End(*end)),
            State::Length { left } => *left,
            State::UntilClose => u64::MAX,
            State::Chunked(chunked) => chunked.data_left(),
            State::Broken(violation) => return Err(*violation),
        };
        let count = received.len().min(most).min(usize::try_from(expected).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(BodyPart::Incomplete);
        }
        let data = take(received, count);
        self.took(count as u64);
        // The end is seen with the last data, if it is there: the connection is free at once. A fault in its place is told with the next part.
        let _ = self.skip_framing(received);
        Ok(BodyPart::Data(data))
    }

    fn skip_framing(&mut self, received: &mut BytesMut) -> Result<(), MessageViolation> {
        let skipped = self.try_skip_framing(received);
        if let Err(violation) = skipped {
            self.state = State::Broken(violation);
        }
        skipped
    }

    fn try_skip_framing(&mut self, received: &mut BytesMut) -> Result<(), MessageViolation> {
        let chunked = match &mut self.state {
            State::Chunked(chunked) => chunked,
            State::Broken(violation) => return Err(*violation),
            State::Length { .. } | State::UntilClose | State::Ended(_) => return Ok(()),
        };
        let count = chunked.read(received)?;
        received.advance(count);
        if chunked.is_over()
            && let State::Chunked(chunked) = std::mem::replace(&mut self.state, State::Ended(BodyEnd::Marked))
        {
            self.trailers = chunked.trailers()?.map(Box::new);
        }
        Ok(())
    }

    /// The trailer section of a body that has ended, once.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// Whether [`BodyReader::take_trailers`] has some.
    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// The connection has ended: whether the body has, too (RFC 9112 §8).
    pub(crate) fn close(&mut self) -> Result<BodyEnd, Truncated> {
        match self.state {
            State::UntilClose => {
                self.state = State::Ended(BodyEnd::Closed);
                Ok(BodyEnd::Closed)
            }
            State::Ended(end) => Ok(end),
            State::Length { .. } | State::Chunked(_) | State::Broken(_) => Err(Truncated),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn end(&self) -> Option<BodyEnd> {
        match self.state {
            State::Ended(end) => Some(end),
            State::Length { .. } | State::Chunked(_) | State::UntilClose | State::Broken(_) => None,
        }
    }

    /// How many bytes of data are to come, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.state {
            State::Ended(_) => Some(0),
            State::Length { left } => Some(left),
            State::Chunked(_) | State::UntilClose | State::Broken(_) => None,
        }
    }

    fn took(&mut self, count: u64) {
        match &mut self.state {
            State::Length { left } if *left <= count => self.state = State::Ended(BodyEnd::Marked),
            State::Length { left } => *left -= count,
            State::Chunked(chunked) => chunked.took(count),
            State::UntilClose | State::Ended(_) | State::Broken(_) => {}
        }
    }
}

/// The connection ended before the body did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended before the body did")]
pub(crate) struct Truncated;

/// A few bytes are copied, so that they do not keep a large buffer alive while their reader does not take them.
fn take(received: &mut BytesMut, count: usize) -> Bytes {
    if count.saturating_mul(2) >= received.capacity() {
        return received.split_to(count).freeze();
    }
    let bytes = Bytes::copy_from_slice(received.get(..count).unwrap_or_default());
    received.advance(count);
    bytes
}
