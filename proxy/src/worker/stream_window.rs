//! How much of a stream's answer may be held: the more, the faster its client reads.
//! Not here: what is held, and for how long (`response_buffer`, whose tests show how a window grows).

/// How much of one stream may be held.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamWindow {
    size: usize,
    /// Since it has that size.
    taken: usize,
}

impl Default for StreamWindow {
    fn default() -> Self {
        Self { size: LEAST, taken: 0 }
    }
}

impl StreamWindow {
    /// The client took so much.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken >= GROWS_AFTER * self.size && self.size < LARGEST {
            *self = Self { size: self.size * 2, taken: 0 };
        }
    }

    /// The size of a further piece, if one may be held beside `held` bytes: half the window, so that one piece is read while
    /// the other is sent.
    pub(super) fn piece(self, held: usize, crowded: bool) -> Option<usize> {
        let (size, least) = if crowded { (CROWDED, CROWDED) } else { (self.size, LEAST) };
        let piece = (size / 2).max(least);
        (held == 0 || held.saturating_add(piece) <= size).then_some(piece)
    }
}

/// What any stream may hold.
pub(super) const LEAST: usize = 8 * 1024;
/// The same where its connection or the process holds too much: a hundred streams that nobody reads cost less than 1 MiB.
pub(super) const CROWDED: usize = 2 * 1024;
/// What a stream may hold whose client is fast; half of it is the largest piece.
pub(super) const LARGEST: usize = 256 * 1024;
/// A window doubles when its client has taken so many times its size: what the kernels on the way hold is no sign of a reader.
pub(super) const GROWS_AFTER: usize = 8;
