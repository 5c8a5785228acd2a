//! The process's memory allocator, and giving back to the system what it keeps.
//!
//! mimalloc keeps what a thread has freed for that thread, and looks at it again only when the thread allocates: of a peak that
//! is over, nothing would come back. A collection by the thread itself holds up no other, unlike `malloc_trim(3)`, which was
//! seen to stop all of them for 98 ms.

/// What the binary allocates by.
pub type Allocator = mimalloc::MiMalloc;

/// The allocator itself.
pub const ALLOCATOR: Allocator = mimalloc::MiMalloc;

/// Has the calling thread release what it has freed.
#[expect(unsafe_code, reason = "the allocator's own function, which its crate only declares")]
pub(crate) fn release_freed() {
    // SAFETY: `mi_collect` may be called at any time by any thread, whoever made the memory; it touches free memory only.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
