//! Where bytes come from: a packet in the kernel, which only a helper may read since it may lie in fragments, or a
//! slice in user space. Parsers know nothing else of either.
//! Invariants: a read beyond the end is `None`, never a panic and never a part (`reads_beyond_the_end_are_none`); turns
//! are bounded (`turns_end_with_a_break_or_at_the_bound`).

use core::ops::ControlFlow;

use crate::name_hash::NameBuffer;

/// A run of bytes that is read by copying.
pub trait ByteSource {
    /// How many bytes there are.
    fn size(&self) -> u32;

    /// Whether there are at least `end` bytes; cheaper than their number where parts of a packet lie in fragments.
    #[inline]
    fn reaches(&self, end: u32) -> bool {
        end <= self.size()
    }

    /// `N` bytes from `offset`.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// The byte at `offset`.
    #[inline]
    fn load_u8(&self, offset: u32) -> Option<u8> {
        self.load(offset).map(u8::from_be_bytes)
    }

    /// Two bytes from `offset`, as a big-endian number.
    #[inline]
    fn load_u16(&self, offset: u32) -> Option<u16> {
        self.load(offset).map(u16::from_be_bytes)
    }

    /// Four bytes from `offset`, as a big-endian number.
    #[inline]
    fn load_u32(&self, offset: u32) -> Option<u32> {
        self.load(offset).map(u32::from_be_bytes)
    }

    /// Eight bytes from `offset`, as a big-endian number.
    #[inline]
    fn load_u64(&self, offset: u32) -> Option<u64> {
        self.load(offset).map(u64::from_be_bytes)
    }

    /// 1 to 8 bytes from `offset`, as one big-endian number.
    fn load_number(&self, offset: u32, bytes: u32) -> Option<u64>;

    /// Copies `bytes` from `offset` to position `at` of a name; both are below 256.
    fn load_name(&self, offset: u32, bytes: u32, name: &mut NameBuffer, at: u32) -> Option<()>;

    /// Takes `turn` until it breaks, at most `most` times.
    ///
    /// The kernel's verifier follows each turn of a plain loop; the program there has a helper whose turns are followed once.
    /// What a turn changes must lie in map memory there, not on the stack: before Linux 6.7 it is taken for changed by one
    /// turn, however many there are.
    fn repeat(&self, most: u32, mut turn: impl FnMut() -> ControlFlow<()>) {
        for _ in 0..most {
            if turn().is_break() {
                return;
            }
        }
    }
}

impl ByteSource for [u8] {
    fn size(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.get(offset as usize..)?.first_chunk().copied()
    }

    fn load_number(&self, offset: u32, bytes: u32) -> Option<u64> {
        let piece = self.get(offset as usize..)?.get(..bytes as usize)?;
        (1..=8).contains(&bytes).then(|| piece.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn load_name(&self, offset: u32, bytes: u32, name: &mut NameBuffer, at: u32) -> Option<()> {
        let piece = self.get(offset as usize..)?.get(..bytes as usize)?;
        name.bytes_mut().get_mut(at as usize..)?.get_mut(..piece.len())?.copy_from_slice(piece);
        Some(())
    }
}

/// A part of another source, such as the payload of a packet.
pub struct SourceWindow<'a, S: ?Sized> {
    source: &'a S,
    start: u32,
    size: u32,
}

impl<'a, S: ByteSource + ?Sized> SourceWindow<'a, S> {
    /// `size` bytes from `start`; what of it lies beyond the end of `source` cannot be read.
    #[inline]
    pub const fn new(source: &'a S, start: u32, size: u32) -> Self {
        Self { source, start, size }
    }

    #[inline]
    fn position(&self, offset: u32, bytes: u32) -> Option<u32> {
        let inside = offset.checked_add(bytes)? <= self.size;
        if inside { self.start.checked_add(offset) } else { None }
    }
}

impl<S: ByteSource + ?Sized> ByteSource for SourceWindow<'_, S> {
    #[inline]
    fn size(&self) -> u32 {
        self.size
    }

    #[inline]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.source.load(self.position(offset, u32::try_from(N).ok()?)?)
    }

    #[inline]
    fn load_number(&self, offset: u32, bytes: u32) -> Option<u64> {
        self.source.load_number(self.position(offset, bytes)?, bytes)
    }

    #[inline]
    fn load_name(&self, offset: u32, bytes: u32, name: &mut NameBuffer, at: u32) -> Option<()> {
        self.source.load_name(self.position(offset, bytes)?, bytes, name, at)
    }

    #[inline]
    fn repeat(&self, most: u32, turn: impl FnMut() -> ControlFlow<()>) {
        self.source.repeat(most, turn);
    }
}

#[cfg(test)]
mod tests {
    use core::ops::ControlFlow::{Break, Continue};

    use super::*;

    #[test]
    fn reads_beyond_the_end_are_none() {
        let bytes: &[u8] = &[1, 2, 3, 4];
        let window = SourceWindow::new(bytes, 1, 2);
        assert_eq!(bytes.load::<2>(2), Some([3, 4]));
        assert_eq!(bytes.load::<2>(3), None);
        assert_eq!(bytes.load_number(1, 3), Some(0x02_03_04));
        assert_eq!(bytes.load_number(2, 3), None);
        assert_eq!(bytes.load_number(u32::MAX, 1), None);
        assert_eq!(window.load::<2>(0), Some([2, 3]));
        assert_eq!(window.load::<2>(1), None, "four bytes are there, but two belong to the window");
        assert_eq!(window.load_number(u32::MAX, 2), None);
        assert_eq!(SourceWindow::new(bytes, 3, 9).load::<2>(0), None);
    }

    #[test]
    fn turns_end_with_a_break_or_at_the_bound() {
        let bytes: &[u8] = &[];
        for (most, breaks_in, taken) in [(5, 3, 3), (5, 5, 5), (5, 9, 5), (0, 1, 0)] {
            let mut turns = 0;
            let turn = || {
                turns += 1;
                if turns == breaks_in { Break(()) } else { Continue(()) }
            };
            SourceWindow::new(bytes, 0, 0).repeat(most, turn);
            assert_eq!(turns, taken, "at most {most}, a break in turn {breaks_in}");
        }
    }

    #[test]
    fn numbers_have_one_to_eight_bytes() {
        let bytes: &[u8] = &[0xff; 16];
        for (width, expected) in [(0, None), (1, Some(0xff)), (8, Some(u64::MAX)), (9, None)] {
            assert_eq!(bytes.load_number(0, width), expected, "{width}");
        }
    }

    #[test]
    fn a_name_is_copied_to_its_position() {
        let (bytes, mut name): (&[u8], _) = (b"xexample", NameBuffer::new());
        assert_eq!(bytes.load_name(1, 2, &mut name, 0), Some(()));
        assert_eq!(bytes.load_name(3, 5, &mut name, 2), Some(()));
        assert_eq!(name.name(7), b"example");
        assert_eq!(bytes.load_name(3, 6, &mut name, 0), None);
        assert_eq!(bytes.load_name(0, 8, &mut name, 510), None);
    }
}
