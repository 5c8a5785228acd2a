//! The unsent data of one stream, in order.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use super::{Outgoing, chunk::Chunk};

/// Chunks to be sent, and their size in bytes.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    given: u64,
}

impl SendQueue {
    /// Queues `chunk`, in the last buffer where it fits: a peer that causes many small answers and reads none of them
    /// (RFC 9113 §10.5) is held to twice as much memory as [`SendQueue::bytes`] says.
    pub(super) fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.len();
        self.given += chunk.len() as u64;
        match self.chunks.back_mut() {
            _ if chunk.is_empty() => {}
            Some(last) if chunk.len() <= last.spare() => {
                last.fill(&chunk);
            }
            Some(_) | None => self.chunks.push_back(chunk),
        }
    }

    /// The kernel took `count` bytes that were never queued.
    pub(super) fn passed_by(&mut self, count: usize) {
        self.given += count as u64;
    }

    /// Drops everything: the stream has failed, and nothing more can be sent.
    pub(super) fn clear(&mut self) {
        *self = Self { given: self.given, ..Self::default() };
    }

    /// How far what was pushed has come, while the kernel still holds `unacknowledged` bytes of it.
    pub(super) fn outgoing(&self, unacknowledged: u64) -> Outgoing {
        let waiting = unacknowledged.saturating_add(self.bytes as u64);
        Outgoing { given: self.given, acknowledged: self.given.saturating_sub(waiting) }
    }

    /// Bytes not yet taken by the kernel; those of a batch that is out are among them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn front(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().take(BATCH)
    }

    /// The kernel took `count` bytes from the front.
    pub(super) fn taken(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(chunk) = self.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.chunks.pop_front();
        }
    }

    /// Has `write` take bytes from the front.
    pub(super) fn write_by(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); BATCH];
        let chunks = self.chunks.iter().take(BATCH);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        let count = write(slices.get(..filled).unwrap_or_default())?;
        self.taken(count);
        Ok(())
    }

    /// Takes the next write out, which is empty when nothing waits; what it does not send comes back by
    /// [`SendQueue::put_back`].
    pub(super) fn take_batch(&mut self) -> Batch {
        let count = self.chunks.len().min(BATCH);
        let mut chunks = self.chunks.drain(..count);
        Batch { first: chunks.next().unwrap_or_else(Chunk::empty), more: chunks.collect() }
    }

    /// Returns a batch of which the kernel took `count` bytes.
    pub(super) fn put_back(&mut self, batch: Batch, count: usize) {
        for chunk in batch.more.into_iter().rev() {
            self.chunks.push_front(chunk);
        }
        self.chunks.push_front(batch.first);
        self.taken(count);
    }
}

/// The chunks of one write. The usual one needs no memory of its own.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) first: Chunk,
    more: Vec<Chunk>,
}

impl Batch {
    pub(super) fn is_single(&self) -> bool {
        self.more.is_empty()
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

/// Buffers of one vectored write; with [`Chunk::SIZE`] that is the whole of `SEND_LIMIT`.
pub(super) const BATCH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_leaves_the_rest_in_order() {
        let mut queue = SendQueue::default();
        for bytes in [&b"abc"[..], b"", b"de", b"f"] {
            queue.push(whole(bytes));
        }
        let batch = queue.take_batch();
        queue.push(whole(b"g"));
        queue.put_back(batch, 4);
        let left: Vec<u8> = queue.front().flat_map(|chunk| chunk.to_vec()).collect();
        assert_eq!((left.as_slice(), queue.bytes()), (&b"efg"[..], 3));
        queue.taken(3);
        assert_eq!((queue.front().count(), queue.bytes()), (0, 0));
    }

    #[test]
    fn small_chunks_share_buffers_in_order() {
        let mut queue = SendQueue::default();
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(3 * Chunk::SIZE).collect();
        for bytes in sent.chunks(39) {
            queue.push(Chunk::copy_of(bytes));
        }
        let queued: Vec<u8> = queue.front().flat_map(|chunk| chunk.to_vec()).collect();
        assert!(queued == sent && queue.bytes() == sent.len(), "{} bytes", queued.len());
        assert!(queue.front().count() <= 4, "{} buffers", queue.front().count());
    }

    /// A chunk without free space at its end.
    fn whole(bytes: &[u8]) -> Chunk {
        Chunk::of(bytes.to_vec())
    }
}
