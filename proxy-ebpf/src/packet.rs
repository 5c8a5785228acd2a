//! The packet under judgement, read and written by helpers alone, since parts of it may lie in fragments.
#![expect(unsafe_code, reason = "kernel helpers take pointers")]

use core::arch::asm;
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

/// A packet as it was received.
pub(crate) struct Packet {
    /// Invariant: the context the program was called with, valid until it returns.
    context: *mut xdp_md,
    bytes: u32,
}

impl Packet {
    pub(crate) fn new(context: &XdpContext) -> Self {
        // SAFETY: the helper takes the program's own context.
        let bytes = unsafe { bpf_xdp_get_buff_len(context.ctx) };
        Self { context: context.ctx, bytes: bytes as u32 }
    }

    /// Length at the time the program was called.
    pub(crate) const fn received_bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(crate) const fn context(&self) -> *mut xdp_md {
        self.context
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
        let delta = bytes.wrapping_sub(self.bytes).cast_signed();
        // SAFETY: the helper refuses a length it cannot give; no pointer into the packet is kept.
        let result = unsafe { bpf_xdp_adjust_tail(self.context, delta) };
        (result == 0).then_some(())
    }
}

impl ByteSource for Packet {
    #[inline]
    fn size(&self) -> u32 {
        self.bytes
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

    #[inline]
    fn load_number(&self, offset: u32, bytes: u32) -> Option<u64> {
        let bytes = counted(bytes, 8)?;
        let mut word = 0u64;
        // SAFETY: the helper writes at most the eight bytes of `word`.
        let result =
            unsafe { bpf_xdp_load_bytes(self.context, offset, (&raw mut word).cast(), bytes as u32) };
        (result == 0).then_some(u64::from_be(word) >> (64 - 8 * bytes))
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
