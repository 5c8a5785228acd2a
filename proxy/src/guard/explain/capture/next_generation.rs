//! The blocks of a pcapng file: sections, interfaces, packets; others are passed over.

use super::{ByteOrder, CaptureError, Link, Packet};

/// What is left of a file.
#[derive(Clone)]
pub(in super::super) struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
    order: ByteOrder,
    interfaces: Vec<Interface>,
    failed: bool,
}

#[derive(Clone, Copy)]
struct Interface {
    link: Link,
    /// How times are counted.
    resolution: Resolution,
}

/// Units of time in a second: a power of ten or of two.
#[derive(Clone, Copy)]
struct Resolution {
    base: u128,
    exponent: u32,
}

/// Whether `bytes` begin with a section.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&SECTION.to_be_bytes())
}

impl<'a> Blocks<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, order: ByteOrder::Little, interfaces: Vec::new(), failed: false }
    }

    /// The next packet; none where the file ends, be it within a block.
    pub(super) fn next(&mut self) -> Option<Result<Packet<'a>, CaptureError>> {
        while !self.failed {
            match self.block() {
                Ok(None) => return None,
                Ok(Some(None)) => {}
                Ok(Some(Some(packet))) => return Some(Ok(packet)),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Reads a block, which may hold a packet; none at the end.
    #[expect(clippy::option_option, reason = "the end of the file, and a block without a packet")]
    fn block(&mut self) -> Result<Option<Option<Packet<'a>>>, CaptureError> {
        let Some(rest) = self.bytes.get(self.at..).filter(|rest| rest.len() >= LEAST_BLOCK) else {
            return Ok(None);
        };
        if begins(rest) {
            self.enter_section(rest)?;
        }
        let kind = self.order.u32(rest, 0).unwrap_or_default();
        let length = self.order.length(rest, 4).unwrap_or_default();
        if length < LEAST_BLOCK || !length.is_multiple_of(4) {
            return Err(
                self.malformed("the length of a block is less than a block has, or no multiple of four")
            );
        }
        let block = rest.get(..length);
        let Some(body) = block.and_then(|block| block.get(8..length - 4)) else { return Ok(None) };
        let packet = match kind {
            INTERFACE => self.enter_interface(body).map(|()| None)?,
            ENHANCED_PACKET => Some(self.enhanced(body)?),
            SIMPLE_PACKET => Some(self.simple(body)?),
            _ => None,
        };
        self.at = self.at.saturating_add(length);
        Ok(Some(packet))
    }

    /// A section may have another order of bytes, and begins its interfaces anew.
    fn enter_section(&mut self, rest: &[u8]) -> Result<(), CaptureError> {
        self.order = match rest.get(8..12) {
            Some([0x4d, 0x3c, 0x2b, 0x1a]) => ByteOrder::Little,
            Some([0x1a, 0x2b, 0x3c, 0x4d]) => ByteOrder::Big,
            _ => return Err(self.malformed("a section has no byte-order magic")),
        };
        self.interfaces.clear();
        Ok(())
    }

    fn enter_interface(&mut self, body: &[u8]) -> Result<(), CaptureError> {
        if self.interfaces.len() >= MOST_INTERFACES {
            return Err(self.malformed("more than a thousand interfaces"));
        }
        let link = self.order.u16(body, 0).ok_or_else(|| self.malformed(CUT))?;
        let resolution = self.resolution(body.get(8..).unwrap_or_default());
        self.interfaces.push(Interface { link: Link::of(link.into())?, resolution });
        Ok(())
    }

    /// The option `if_tsresol`; without it, times are in microseconds.
    fn resolution(&self, mut options: &[u8]) -> Resolution {
        while let (Some(code), Some(length)) = (self.order.u16(options, 0), self.order.u16(options, 2)) {
            let value = options.get(4);
            if code == TIME_RESOLUTION && length == 1 {
                return value.map_or(MICROSECONDS, |value| Resolution::of(*value));
            }
            // Options are padded to four bytes.
            let next = 4 + usize::from(length).next_multiple_of(4);
            options = options.get(next..).unwrap_or_default();
        }
        MICROSECONDS
    }

    fn enhanced(&self, body: &'a [u8]) -> Result<Packet<'a>, CaptureError> {
        let number = |at| self.order.u32(body, at).ok_or_else(|| self.malformed(CUT));
        let interface = self.interface(number(0)?)?;
        let time = u64::from(number(4)?) << 32 | u64::from(number(8)?);
        let end = self.order.length(body, 12).and_then(|length| length.checked_add(20));
        let bytes = end.and_then(|end| body.get(20..end)).ok_or_else(|| self.malformed(CUT))?;
        Ok(Packet { at_ns: interface.resolution.nanoseconds(time), link: interface.link, bytes })
    }

    /// A packet of the first interface, without a time, and perhaps cut: the block then says how long the packet was.
    fn simple(&self, body: &'a [u8]) -> Result<Packet<'a>, CaptureError> {
        let interface = self.interface(0)?;
        let original = self.order.length(body, 0).ok_or_else(|| self.malformed(CUT))?;
        let kept = body.get(4..).unwrap_or_default();
        let bytes = kept.get(..original).unwrap_or(kept);
        Ok(Packet { at_ns: 0, link: interface.link, bytes })
    }

    fn interface(&self, index: u32) -> Result<Interface, CaptureError> {
        let interface = usize::try_from(index).ok().and_then(|index| self.interfaces.get(index));
        interface.copied().ok_or_else(|| self.malformed("a packet of an interface that is not described"))
    }

    fn malformed(&self, what: &'static str) -> CaptureError {
        CaptureError::Malformed { at: self.at, what }
    }
}

impl Resolution {
    /// The most significant bit tells which power it is.
    fn of(value: u8) -> Self {
        let base = if value & 0x80 == 0 { 10 } else { 2 };
        Self { base, exponent: u32::from(value & 0x7f) }
    }

    fn nanoseconds(self, time: u64) -> u64 {
        // Units finer than any clock's leave nothing.
        let units = self.base.checked_pow(self.exponent).unwrap_or(u128::MAX);
        u64::try_from(u128::from(time) * 1_000_000_000 / units).unwrap_or(u64::MAX)
    }
}

const MICROSECONDS: Resolution = Resolution { base: 10, exponent: 6 };
const CUT: &str = "a block ends before what it holds";
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const TIME_RESOLUTION: u16 = 9;
/// Type, length, and the length again.
const LEAST_BLOCK: usize = 12;
const MOST_INTERFACES: usize = 1000;
