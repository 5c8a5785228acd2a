//! Loops by the kernel's own helper (Linux 5.17), whose verifier follows one turn instead of each.
//! Not here: what a turn does, and where it leaves what it found (`ByteSource::repeat` says why that matters).
//! Invariant: a hello is walked as in user space, however many turns it takes
//! (`every_frame_meets_its_verdict_and_every_verdict_is_met`).
#![expect(unsafe_code, reason = "the helper calls back by pointer")]

use core::ffi::{c_long, c_void};
use core::ops::ControlFlow::{self, Break, Continue};

use aya_ebpf::helpers::generated::bpf_loop;

/// Takes `turn` until it breaks, at most `most` times.
#[inline]
pub(crate) fn repeat<T: FnMut() -> ControlFlow<()>>(most: u32, mut turn: T) {
    let callback = take_one::<T> as *mut c_void;
    // SAFETY: the helper calls `take_one` with the pointer given here, only before it returns; meanwhile nothing else
    // refers to `turn`. It fails, and calls nothing, only beyond 2^23 turns.
    unsafe { bpf_loop(most, callback, (&raw mut turn).cast(), 0) };
}

/// One turn; 0 asks the helper for another.
///
/// # Safety
/// `turn` is a `T` to which nothing else refers.
unsafe extern "C" fn take_one<T: FnMut() -> ControlFlow<()>>(_index: u32, turn: *mut c_void) -> c_long {
    // SAFETY: the helper hands back the pointer that `repeat` gave it, to a `T` that nothing else refers to meanwhile.
    let turn = unsafe { &mut *turn.cast::<T>() };
    match turn() {
        Continue(()) => 0,
        Break(()) => 1,
    }
}
