//! Buffers of a worker's own pool.

use std::{
    cell::RefCell,
    fmt, io,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
    task::Poll,
};

/// Received bytes, or bytes to send, in a buffer of the worker's pool, to which it returns when dropped.
pub struct Chunk {
    bytes: Vec<u8>,
    start: usize,
}

impl Chunk {
    /// The usual size of a pooled buffer, bytes: one TLS record with its overhead (RFC 8446 §5.2).
    pub const SIZE: usize = 16 * 1024 + 512;

    /// An empty buffer of [`Chunk::SIZE`] from the pool.
    #[must_use]
    pub fn empty() -> Self {
        let pooled = POOL.with_borrow_mut(|pool| {
            pool.lent += 1;
            pool.free.pop()
        });
        Self { bytes: pooled.unwrap_or_else(|| Vec::with_capacity(Self::SIZE)), start: 0 }
    }

    /// How many buffers of this thread's pool are in use.
    #[cfg(test)]
    pub(crate) fn lent() -> usize {
        POOL.with_borrow(|pool| pool.lent)
    }

    /// A copy of `bytes` in pooled memory.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut chunk = Self::empty();
        chunk.bytes.extend_from_slice(bytes);
        chunk
    }

    /// What is left of the buffer, bytes.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Appends as much of `bytes` as fits without growing, and says how much that was.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let fitting = bytes.split_at_checked(self.spare()).map_or(bytes, |(fitting, _)| fitting);
        self.bytes.extend_from_slice(fitting);
        fitting.len()
    }

    /// Leaves out the first `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
    }

    /// Moves what there is to the beginning of the buffer, so that all of the rest is room behind it.
    pub fn compact(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
    }

    /// Appends what `receive` writes to the beginning of what is left of the buffer; how much that was.
    pub fn poll_append(
        &mut self,
        receive: impl FnOnce(&mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let before = self.bytes.len();
        let received = self.receive(|place| match receive(place) {
            Poll::Ready(received) => received,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            received => Poll::Ready(received.map(|()| self.bytes.len() - before)),
        }
    }

    /// Appends what `receive` writes to the beginning of what is left of the buffer; it says how much that was.
    #[expect(unsafe_code, reason = "the kernel fills memory that is not initialised")]
    pub(super) fn receive(
        &mut self,
        receive: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let count = receive(self.bytes.spare_capacity_mut())?;
        // SAFETY: both back ends return what the kernel, or tokio, says it has written there; that is within the capacity.
        unsafe { self.bytes.set_len(self.bytes.len() + count) };
        Ok(())
    }

    /// A buffer that `receive` has filled; while it waits, the buffer returns to the pool.
    pub(super) fn poll_received(
        receive: impl FnOnce(&mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<Self>> {
        let mut chunk = Self::empty();
        chunk.poll_append(receive).map_ok(|_| chunk)
    }

    /// Memory that is not the pool's.
    #[cfg(test)]
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.bytes.capacity() < Self::SIZE {
            return;
        }
        self.bytes.clear();
        let bytes = std::mem::take(&mut self.bytes);
        // A thread that ends drops its pool before some of its chunks.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.lent = pool.lent.saturating_sub(1);
            if pool.free.len() < POOLED {
                pool.free.push(bytes);
            }
        });
    }
}

/// A worker's free buffers, and how many of its buffers are not.
#[derive(Debug)]
struct ChunkPool {
    free: Vec<Vec<u8>>,
    lent: usize,
}

thread_local! {
    static POOL: RefCell<ChunkPool> = const { RefCell::new(ChunkPool { free: Vec::new(), lent: 0 }) };
}

/// Free buffers a worker keeps; 4 MiB.
const POOLED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_return_to_the_pool_and_never_grow() {
        let mut chunk = Chunk::empty();
        assert_eq!(chunk.fill(&vec![7; 2 * Chunk::SIZE]), Chunk::SIZE);
        assert_eq!(chunk.fill(&[1]), 0);
        chunk.advance(3);
        assert_eq!(chunk.len(), Chunk::SIZE - 3);
        let address = chunk.bytes.as_ptr();
        assert_eq!(Chunk::lent(), 1);
        drop(chunk);
        assert_eq!(Chunk::lent(), 0);
        let again = Chunk::empty();
        assert_eq!((again.bytes.as_ptr(), again.len()), (address, 0));
    }
}
