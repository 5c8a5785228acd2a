//! Messages of both kinds, whole and cut anywhere, what breaks the rules, and hyper beside ours.

mod requests;
mod responses;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
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

    fn body(&mut self, framing: BodyFraming) -> Result<(Vec<u8>, BodyEnd, Option<HeaderMap>), Unread> {
        let (mut body, mut data) = (BodyReader::new(framing), Vec::new());
        loop {
            match body.read(&mut self.buffer, usize::MAX)? {
                BodyPart::Data(part) => data.extend(part),
                BodyPart::End(end) => return Ok((data, end, body.take_trailers())),
                BodyPart::Incomplete if self.more() => {}
                BodyPart::Incomplete => {
                    return Ok((data, body.close().map_err(|_| Unread::Truncated)?, None));
                }
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
fn small_chunks_are_one_part() {
    let text = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(2_730));
    let (mut received, mut reader) = (BytesMut::from(text.as_str()), BodyReader::new(BodyFraming::Chunked));
    let mut lengths = Vec::new();
    while let BodyPart::Data(data) = reader.read(&mut received, 16 * 1024).unwrap() {
        lengths.push(data.len());
    }
    assert_eq!((lengths, reader.end()), (vec![2_048, 682], Some(BodyEnd::Marked)));
}

/// Events of which the last is the text that an application wrote when it crashed.
#[test]
fn what_came_before_a_chunk_that_is_none_is_read() {
    for text in ["1\r\nx\r\n1\r\ny\r\nzz", "2\r\nxy\r\nzz", "2\r\nxyzz", "2\r\nxy\r\n0\r\nno field\r\n\r\n"] {
        let (mut received, mut reader) = (BytesMut::from(text), BodyReader::new(BodyFraming::Chunked));
        let read = reader.read(&mut received, 9_000).unwrap();
        assert_eq!(read, BodyPart::Data("xy".into()), "{text:?}");
        for _ in 0..2 {
            assert!(reader.read(&mut received, 9_000).is_err(), "{text:?}");
        }
        assert_eq!((reader.end(), reader.left(), reader.close().is_err()), (None, None, true), "{text:?}");
    }
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
    let put = |pieces: &[(&'static [u8], bool)]| {
        let mut message = MessageWriter::new(BytesMut::new(), OutgoingFraming::Length { left: 3 });
        let mut written = Vec::new();
        for (data, is_last) in pieces {
            message.put_body(Some(*data), *is_last)?;
            written.extend(message.copy_to_bytes(message.remaining()));
        }
        Ok(written)
    };
    assert_eq!(put(&[(b"ab", false), (b"cd", false)]), Err(WrongLength), "one byte too many");
    assert_eq!(put(&[(b"ab", true)]), Err(WrongLength), "one byte too few");
    assert_eq!(put(&[(b"ab", false), (b"c", true)]), Ok(b"abc".to_vec()));
}

#[test]
fn a_message_is_written_in_order_however_it_is_taken() {
    for most in 1..20 {
        let mut message = MessageWriter::new(BytesMut::from("head."), OutgoingFraming::Chunked);
        assert!(message.needs_body());
        message.put_body(Some(&b"body"[..]), true).unwrap();
        let mut written = Vec::<u8>::new();
        while message.has_remaining() {
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let filled = message.chunks_vectored(&mut slices);
            let chunks = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>();
            assert_eq!(chunks.len(), message.remaining());
            assert!(chunks.starts_with(message.chunk()) && !message.chunk().is_empty());
            let count = most.min(chunks.len());
            written.extend(&chunks[..count]);
            message.advance(count);
        }
        assert_eq!(written, b"head.4\r\nbody\r\n0\r\n\r\n", "{most} at once");
        assert!(message.is_over() && !message.needs_body());
    }
}
