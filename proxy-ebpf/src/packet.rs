//! The packet under judgement. Its first part is read where it lies, which the verifier permits behind a comparison with its
//! end; what is behind that part, in fragments, is read by a helper.
#![expect(unsafe_code, reason = "kernel helpers take pointers")]

use core::arch::asm;
use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ops::ControlFlow;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use proxy_common::name_hash::NameBuffer;
use proxy_common::source::ByteSource;

use crate::bpf_loop;

/// Reads a number of this width, as it lies in the packet. The compiler takes such an address for unaligned and would read it
/// byte by byte; the machine need not.
macro_rules! read {
    ($width:literal, $at:expr) => {{
        let (at, number): (usize, u64) = ($at, 0);
        let mut number = number;
        // SAFETY: `within` has compared the end of what is read with the end of the packet's first part.
        unsafe {
            asm!(concat!("{0} = *(", $width, " *)({1} + 0)"), out(reg) number, in(reg) at, options(readonly, nostack));
        }
        number
    }};
}

/// A packet as it was received.
pub(crate) struct Packet {
    /// Invariant: the context the program was called with, valid until it returns.
    context: *mut xdp_md,
    /// Whether the first part is known to hold a whole datagram.
    is_linear: Cell<bool>,
}

impl Packet {
    pub(crate) const fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx, is_linear: Cell::new(false) }
    }

    /// Its length; until it is truncated, that with which it was received.
    #[inline]
    pub(crate) fn bytes(&self) -> u32 {
        if self.is_linear.get() { self.linear_bytes() } else { self.all_bytes() }
    }

    pub(crate) const fn context(&self) -> *mut xdp_md {
        self.context
    }

    #[inline]
    fn linear_bytes(&self) -> u32 {
        let (start, end) = self.linear();
        end.wrapping_sub(start) as u32
    }

    /// Fragments included.
    #[inline]
    fn all_bytes(&self) -> u32 {
        // SAFETY: the helper takes the program's own context.
        let bytes = unsafe { bpf_xdp_get_buff_len(self.context) };
        bytes as u32
    }

    /// Where the first part begins and ends.
    #[inline(always)]
    fn linear(&self) -> (usize, usize) {
        // SAFETY: the context is valid until the program returns.
        let context = unsafe { &*self.context };
        (context.data as usize, context.data_end as usize)
    }

    /// The address of `BYTES` bytes from `offset`, if they are in the first part.
    #[inline(always)]
    fn within<const BYTES: usize>(&self, offset: u32) -> Option<usize> {
        let (start, end) = self.linear();
        // The verifier follows no offset beyond 2^16 - 1, and believes no bound that it does not see.
        let offset = opaque(offset);
        if offset > LONGEST_LINEAR {
            return None;
        }
        let at = start + offset as usize;
        let mut behind = at;
        // The compiler would compare the last byte with the end, of which the verifier learns nothing.
        // SAFETY: a number is added to a register.
        unsafe { asm!("{0} += {1}", inout(reg) behind, const BYTES, options(pure, nomem, nostack)) };
        if behind > end { None } else { Some(at) }
    }

    /// Up to eight bytes from `offset` by the helper, as a big-endian number.
    #[inline(never)]
    fn load_slowly(&self, offset: u32, bytes: u32, number: &mut u64) -> bool {
        let Some(bytes) = counted(bytes, 8) else { return false };
        let mut word = 0u64;
        // SAFETY: the helper writes at most the eight bytes of `word`.
        let result =
            unsafe { bpf_xdp_load_bytes(self.context, offset, (&raw mut word).cast(), bytes as u32) };
        *number = u64::from_be(word) >> (64 - 8 * bytes);
        result == 0
    }

    #[inline(always)]
    fn slow(&self, offset: u32, bytes: u32) -> Option<u64> {
        let mut number = 0;
        self.load_slowly(offset, bytes, &mut number).then_some(number)
    }

    /// Overwrites `N` bytes from `offset`.
    pub(crate) fn store<const N: usize>(&self, offset: u32, bytes: &[u8; N]) -> Option<()> {
        // SAFETY: the helper reads the N bytes behind the pointer and refuses an offset outside the packet.
        let result =
            unsafe { bpf_xdp_store_bytes(self.context, offset, bytes.as_ptr().cast_mut().cast(), N as u32) };
        (result == 0).then_some(())
    }

    /// Cuts the packet to its first `bytes`.
    pub(crate) fn truncate(&self, bytes: u32) -> Option<()> {
        let delta = bytes.wrapping_sub(self.all_bytes()).cast_signed();
        // SAFETY: the helper refuses a length it cannot give; no pointer into the packet is kept.
        let result = unsafe { bpf_xdp_adjust_tail(self.context, delta) };
        (result == 0).then_some(())
    }
}

impl ByteSource for Packet {
    #[inline]
    fn size(&self) -> u32 {
        self.bytes()
    }

    #[inline(always)]
    fn reaches(&self, end: u32) -> bool {
        let is_linear = end <= self.linear_bytes();
        self.is_linear.set(is_linear);
        is_linear || end <= self.all_bytes()
    }

    #[inline]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes the N bytes behind the pointer, or fails; it refuses an offset outside the packet.
        let result = unsafe { bpf_xdp_load_bytes(self.context, offset, bytes.as_mut_ptr().cast(), N as u32) };
        if result != 0 {
            return None;
        }
        // SAFETY: the helper has succeeded, so it has written all N bytes.
        Some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn load_u8(&self, offset: u32) -> Option<u8> {
        match self.within::<1>(offset) {
            Some(at) => Some(read!("u8", at) as u8),
            None => self.slow(offset, 1).map(|number| number as u8),
        }
    }

    #[inline(always)]
    fn load_u16(&self, offset: u32) -> Option<u16> {
        match self.within::<2>(offset) {
            Some(at) => Some(u16::from_be(read!("u16", at) as u16)),
            None => self.slow(offset, 2).map(|number| number as u16),
        }
    }

    #[inline(always)]
    fn load_u32(&self, offset: u32) -> Option<u32> {
        match self.within::<4>(offset) {
            Some(at) => Some(u32::from_be(read!("u32", at) as u32)),
            None => self.slow(offset, 4).map(|number| number as u32),
        }
    }

    #[inline(always)]
    fn load_u64(&self, offset: u32) -> Option<u64> {
        match self.within::<8>(offset) {
            Some(at) => Some(u64::from_be(read!("u64", at))),
            None => self.slow(offset, 8),
        }
    }

    #[inline(always)]
    fn load_number(&self, offset: u32, bytes: u32) -> Option<u64> {
        let fewer = opaque(bytes.wrapping_sub(1));
        if fewer >= 8 {
            return None;
        }
        match self.within::<8>(offset) {
            Some(at) => Some(u64::from_be(read!("u64", at)) >> (56 - 8 * fewer)),
            None => self.slow(offset, bytes),
        }
    }

    #[inline]
    fn load_name(&self, offset: u32, bytes: u32, name: &mut NameBuffer, at: u32) -> Option<()> {
        let (bytes, at) = (counted(bytes, 0xff)?, opaque(at));
        // SAFETY: a position below 256 lies in a buffer of 512 bytes.
        let to = unsafe { name.bytes_mut().as_mut_ptr().add((at & 0xff) as usize) };
        // SAFETY: at most 255 bytes from a position below 256 lie in a buffer of 512 bytes.
        let result = unsafe { bpf_xdp_load_bytes(self.context, offset, to.cast(), bytes as u32) };
        (result == 0).then_some(())
    }

    #[inline]
    fn repeat(&self, most: u32, turn: impl FnMut() -> ControlFlow<()>) {
        bpf_loop::repeat(most, turn);
    }
}

/// `bytes`, if they are at least one and at most `most`. Linux before 6.8 learns nothing of a number's lower bound from its
/// not being zero, and refuses a read of perhaps no bytes: so the bound is of one less, and one is added.
#[inline]
fn counted(bytes: u32, most: u64) -> Option<u64> {
    let all_but_one = opaque(bytes.wrapping_sub(1));
    (all_but_one < most).then_some(all_but_one + 1)
}

/// Makes the compiler forget what it knows of a number. The verifier knows less, so the bounds that follow must be checked
/// in the program although the compiler could prove them.
#[inline]
fn opaque(number: u32) -> u64 {
    let mut number = u64::from(number);
    // SAFETY: a register is moved to itself.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}

/// Longer than any part of a packet that lies in one piece.
const LONGEST_LINEAR: u64 = 0x7fff;
