//! A stream some of whose bytes were received before: they come first.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    task::{Context, Poll},
};

use tokio::io::ReadBuf;

use super::{Chunk, Outgoing, Stream};

/// `stream`, behind what was received of it and not used.
#[derive(Debug)]
pub struct Replayed<S> {
    stream: S,
    received: Option<Chunk>,
}

impl<S> Replayed<S> {
    /// Of which `received` comes first.
    pub fn new(stream: S, received: Chunk) -> Self {
        Self { stream, received: Some(received).filter(|chunk| !chunk.is_empty()) }
    }
}

impl<S> From<S> for Replayed<S> {
    /// Of which nothing was received yet.
    fn from(stream: S) -> Self {
        Self { stream, received: None }
    }
}

impl<S: Stream> Stream for Replayed<S> {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        match self.received.take() {
            Some(chunk) => Poll::Ready(Ok(chunk)),
            None => self.stream.poll_recv(cx),
        }
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_send_ready(cx)
    }

    fn poll_recv_into(
        &mut self,
        cx: &mut Context<'_>,
        place: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        let Some(chunk) = &mut self.received else { return self.stream.poll_recv_into(cx, place) };
        let count = chunk.len().min(place.len());
        ReadBuf::uninit(place).put_slice(chunk.get(..count).unwrap_or_default());
        chunk.advance(count);
        if chunk.is_empty() {
            self.received = None;
        }
        Poll::Ready(Ok(count))
    }

    fn send(&mut self, chunk: Chunk) {
        self.stream.send(chunk);
    }

    fn send_now(&mut self, slices: &[IoSlice<'_>]) -> usize {
        self.stream.send_now(slices)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_flush(&mut self.stream, cx)
    }

    fn outgoing(&self) -> Outgoing {
        Stream::outgoing(&self.stream)
    }

    fn is_silent(&self) -> bool {
        self.received.is_none() && Stream::is_silent(&self.stream)
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.stream.local_address()
    }

    fn reset_on_drop(&self) {
        Stream::reset_on_drop(&self.stream);
    }

    fn probe_peer(&self) {
        self.stream.probe_peer();
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_shutdown(&mut self.stream, cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::transport::{
        ByteStream, Transport,
        tests::memory::{Memory, MemoryStream},
    };

    #[test]
    fn what_was_received_comes_first_however_it_is_read() {
        Memory::run(|_| async {
            for piece in 1..8 {
                let (stream, mut peer) = Memory::pair();
                let mut stream = Replayed::new(stream, Chunk::copy_of(b"before "));
                peer.write_all(b"after").await.unwrap();
                assert!(!Stream::is_silent(&stream));
                let mut read = Vec::new();
                while read.len() < b"before after".len() {
                    let mut place = vec![MaybeUninit::uninit(); piece];
                    let count = poll_fn(|cx| stream.poll_read(cx, &mut place)).await.unwrap();
                    read.extend(place[..count].iter().map(|byte| init(*byte)));
                }
                assert_eq!(read, b"before after", "{piece} at once");
                assert_eq!(Chunk::lent(), 0);
            }
            let (stream, mut peer) = Memory::pair();
            let mut stream = Replayed::new(stream, Chunk::copy_of(b"before"));
            peer.write_all(b"after").await.unwrap();
            let mut receive = async || poll_fn(|cx| stream.poll_recv(cx)).await.unwrap().to_vec();
            assert_eq!((receive().await, receive().await), (b"before".to_vec(), b"after".to_vec()));
        })
        .unwrap();
    }

    #[test]
    fn nothing_received_is_the_stream_itself() {
        Memory::run(|_| async {
            let (stream, mut peer) = Memory::pair();
            let mut stream: Replayed<MemoryStream> = Replayed::new(stream, Chunk::copy_of(b""));
            peer.write_all(b"after").await.unwrap();
            assert_eq!(&*poll_fn(|cx| stream.poll_recv(cx)).await.unwrap(), b"after");
        })
        .unwrap();
    }

    #[expect(unsafe_code, reason = "what `poll_read` counts it has written")]
    fn init(byte: MaybeUninit<u8>) -> u8 {
        // SAFETY: the caller passes bytes within the count that `poll_read` returned, all of which it has initialised.
        unsafe { byte.assume_init() }
    }
}
