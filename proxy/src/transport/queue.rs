//! What waits to be sent on one stream, in order.

use std::collections::VecDeque;

use super::chunk::Chunk;

/// Chunks on their way, and how many bytes they are.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl SendQueue {
    pub(super) fn push(&mut self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes not yet taken by the kernel.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The chunks of the next write, at most [`BATCH`].
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

    /// Takes the next write out; what it does not send comes back by [`SendQueue::put_back`].
    pub(super) fn take_batch(&mut self) -> Vec<Chunk> {
        let count = self.chunks.len().min(BATCH);
        self.chunks.drain(..count).collect()
    }

    /// Returns a batch of which the kernel took `count` bytes.
    pub(super) fn put_back(&mut self, batch: Vec<Chunk>, count: usize) {
        for chunk in batch.into_iter().rev() {
            self.chunks.push_front(chunk);
        }
        self.taken(count);
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
            queue.push(Chunk::copy_of(bytes));
        }
        let batch = queue.take_batch();
        queue.push(Chunk::copy_of(b"g"));
        queue.put_back(batch, 4);
        let left: Vec<u8> = queue.front().flat_map(|chunk| chunk.to_vec()).collect();
        assert_eq!((left.as_slice(), queue.bytes()), (&b"efg"[..], 3));
        queue.taken(3);
        assert_eq!(queue.front().count(), 0);
    }
}
