//! A byte stream as HTTP reads and writes it: in cleartext, or over TLS.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    mem::MaybeUninit,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;

use super::{Outgoing, Stream};

/// Bytes in both directions. A [`Stream`] is one, in cleartext.
pub trait ByteStream: Unpin + 'static {
    /// Reads into the beginning of `place`; how many bytes, all of them initialised. 0 is the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, place: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>>;

    /// Appends to `buffer` what there is to read, `most` bytes at most; how many. While there is nothing, an empty buffer holds no memory.
    #[expect(unsafe_code, reason = "memory that is about to be read into is not initialised first")]
    fn poll_read_buffer(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() && most <= Scratch::SIZE {
            return Scratch::poll_read(|place| self.poll_read(cx, place), buffer, most);
        }
        buffer.reserve(most);
        let place = buffer.spare_capacity_mut().get_mut(..most).unwrap_or_default();
        let Poll::Ready(count) = self.poll_read(cx, place) else {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
            return Poll::Pending;
        };
        let count = count?.min(most);
        // SAFETY: `poll_read` has initialised so many bytes behind the filled ones, within the `most` that were reserved.
        unsafe { buffer.set_len(buffer.len() + count) };
        Poll::Ready(Ok(count))
    }

    /// Takes over some of `slices`, unless the peer has too much on its way; how many bytes. [`ByteStream::poll_flush`] moves them on.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Ready when all that was written has been taken by the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Flushes, then ends our direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// See [`Stream::outgoing`].
    fn outgoing(&self) -> Outgoing;

    /// Whether there is nothing to read, not even the stream's end: a connection that waits for its next request is silent.
    fn is_silent(&mut self) -> bool;

    /// See [`Stream::reset_on_drop`].
    fn reset_on_drop(&self);
}

/// A thread's memory to read small pieces into, from which they are copied: most reads find nothing or a few hundred bytes, for which
/// memory of the most that might come would be taken and given back.
struct Scratch;

thread_local! {
    static SCRATCH: Cell<Option<Box<[MaybeUninit<u8>; Scratch::SIZE]>>> = const { Cell::new(None) };
}

impl Scratch {
    const SIZE: usize = 8 * 1024;

    #[expect(unsafe_code, reason = "memory that is about to be read into is not initialised first")]
    fn poll_read(
        read: impl FnOnce(&mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut scratch =
            SCRATCH.take().unwrap_or_else(|| Box::new([const { MaybeUninit::uninit() }; Self::SIZE]));
        let place = scratch.get_mut(..most).unwrap_or_default();
        let polled = read(place);
        if let Poll::Ready(Ok(count)) = &polled {
            let filled = place.get(..*count).unwrap_or_default();
            // SAFETY: `read` has initialised so many bytes of `place`.
            *buffer = BytesMut::from(unsafe { filled.assume_init_ref() });
        } else {
            *buffer = BytesMut::new();
        }
        SCRATCH.set(Some(scratch));
        polled
    }
}

impl<S: Stream> ByteStream for S {
    fn poll_read(&mut self, cx: &mut Context<'_>, place: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        self.poll_recv_into(cx, place)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send_ready(cx))?;
        Poll::Ready(Ok(self.write(slices)))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_flush(self, cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_shutdown(self, cx)
    }

    fn outgoing(&self) -> Outgoing {
        Stream::outgoing(self)
    }

    fn is_silent(&mut self) -> bool {
        Stream::is_silent(self)
    }

    fn reset_on_drop(&self) {
        Stream::reset_on_drop(self);
    }
}
