//! Messages of both kinds, whole and cut anywhere, what breaks the rules, and hyper beside ours.

mod requests;
mod responses;

use bytes::{Bytes, BytesMut};
use proxy_common::fixture::fuzz::Corpus;

use super::*;

/// Why a message was not read to its end.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    Violation(MessageViolation),
    Truncated,
}

impl From<MessageViolation> for Unread {
    fn from(violation: MessageViolation) -> Self {
        Self::Violation(violation)
    }
}

/// What was received, in pieces.
struct Received<'a> {
    buffer: BytesMut,
    pieces: std::vec::IntoIter<&'a [u8]>,
}

impl<'a> Received<'a> {
    /// `bytes` in pieces that end at `cuts`.
    fn new(bytes: &'a [u8], cuts: &[usize]) -> Self {
        let mut pieces = Vec::new();
        let mut begin = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            pieces.push(&bytes[begin..cut]);
            begin = cut;
        }
        Self { buffer: BytesMut::new(), pieces: pieces.into_iter() }
    }

    /// Whether there was a further piece.
    fn more(&mut self) -> bool {
        self.pieces.next().map(|piece| self.buffer.extend_from_slice(piece)).is_some()
    }

    fn body(&mut self, framing: BodyFraming) -> Result<(Vec<u8>, BodyEnd), Unread> {
        let (mut body, mut data) = (BodyReader::new(framing), Vec::new());
        loop {
            match body.read(&mut self.buffer, usize::MAX)? {
                BodyPart::Data(part) => data.extend(part),
                BodyPart::End(end) => return Ok((data, end)),
                BodyPart::Incomplete if self.more() => {}
                BodyPart::Incomplete => return Ok((data, body.close().map_err(|_| Unread::Truncated)?)),
            }
        }
    }
}

/// Checks that each of `corpus`, and of what mutation makes of it, is read alike however it is cut.
fn check_cuts<T: PartialEq + std::fmt::Debug>(folder: &str, read: impl Fn(&[u8], &[usize]) -> T) {
    corpus(folder).run(|bytes| {
        let whole = read(bytes, &[]);
        for cut in 0..=bytes.len().min(300) {
            assert_eq!(read(bytes, &[cut]), whole, "cut at {cut}");
        }
        let each: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(read(bytes, &each), whole, "byte by byte");
    });
}

fn corpus(folder: &str) -> Corpus {
    Corpus::read(format!("{}/tests/corpus/http1/{folder}", env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn a_few_bytes_keep_no_large_buffer() {
    let mut received = BytesMut::with_capacity(64 * 1024);
    received.extend_from_slice(&[7; 100]);
    let BodyPart::Data(data) = BodyReader::new(BodyFraming::UntilClose).read(&mut received, 9_000).unwrap()
    else {
        panic!("there is data");
    };
    assert_eq!((data.len(), received.capacity()), (100, 64 * 1024 - 100), "copied");
}

#[test]
fn a_body_is_as_long_as_announced() {
    let mut body = BodyWriter::Length { left: 3 };
    assert_eq!(body.frame(2, false), Ok((Bytes::new(), &b""[..])));
    assert_eq!(body.frame(2, false), Err(WrongLength), "one byte too many");
    assert_eq!(BodyWriter::Length { left: 3 }.frame(2, true), Err(WrongLength), "one byte too few");
    assert_eq!(BodyWriter::Length { left: 3 }.frame(3, true), Ok((Bytes::new(), &b""[..])));
}
