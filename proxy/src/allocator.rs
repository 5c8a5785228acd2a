//! The process's memory allocator, and how it releases unused memory to the system.
//!
//! mimalloc keeps memory that a thread has freed for that thread, and looks at it again only when the thread allocates: after a peak,
//! nothing would be released. A collection by the thread itself does not hold up other threads, unlike `malloc_trim(3)`, which stopped
//! all of them for 98 ms in a measurement.

/// What the binary allocates by.
pub type Allocator = mimalloc::MiMalloc;

/// The allocator itself.
pub const ALLOCATOR: Allocator = mimalloc::MiMalloc;

/// Has the calling thread release what it has freed.
#[expect(unsafe_code, reason = "the allocator's own function, which its crate only declares")]
pub(crate) fn release_freed() {
    // SAFETY: `mi_collect` may be called at any time by any thread, for memory of any thread; it touches free memory only.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
