//! The process's memory allocator, and how it releases unused memory to the system.
//!
//! mimalloc keeps memory that a thread has freed for that thread, and looks at it again only when the thread allocates: after a peak,
//! nothing would be released. A collection by the thread itself does not hold up other threads, unlike `malloc_trim(3)`, which stopped
//! all of them for 98 ms in a measurement.
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait, and mimalloc's functions are only declared by its crate"
)]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_collect, mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// What the binary allocates by: mimalloc, whose crate `mimalloc` asks for every alignment by name. What C's `malloc` aligns anyway takes
/// half of the instructions, and a request allocates some thirty times.
#[derive(Debug, Clone, Copy)]
pub struct Allocator;

// SAFETY: as mimalloc's own functions promise, memory is as large and aligned as it was asked for, zeroed where that was asked for, moved
// with its content, and null when there is none; none of them unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let memory = if is_aligned_anyway(layout, layout.size()) {
            // SAFETY: any size may be asked for.
            unsafe { mi_malloc(layout.size()) }
        } else {
            // SAFETY: any size and any power of two.
            unsafe { mi_malloc_aligned(layout.size(), layout.align()) }
        };
        memory.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let memory = if is_aligned_anyway(layout, layout.size()) {
            // SAFETY: any size may be asked for.
            unsafe { mi_zalloc(layout.size()) }
        } else {
            // SAFETY: any size and any power of two.
            unsafe { mi_zalloc_aligned(layout.size(), layout.align()) }
        };
        memory.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller has it from here; `mi_free` takes memory of any alignment.
        unsafe { mi_free(memory.cast()) };
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let memory = if is_aligned_anyway(layout, size) {
            // SAFETY: the caller has it from here; memory of any alignment is taken.
            unsafe { mi_realloc(memory.cast(), size) }
        } else {
            // SAFETY: the same, and the alignment is a power of two.
            unsafe { mi_realloc_aligned(memory.cast(), size, layout.align()) }
        };
        memory.cast()
    }
}

/// Whether so many bytes are aligned as `layout` wants whoever asks for them: C's `malloc` aligns for every type that fits into them
/// (C17 §7.22.3), of which the most demanding has this alignment on x86-64 and on arm64.
#[inline]
fn is_aligned_anyway(layout: Layout, size: usize) -> bool {
    layout.align() <= MALLOC_ALIGN && layout.align() <= size
}

/// Has the calling thread release what it has freed.
pub(crate) fn release_freed() {
    // SAFETY: `mi_collect` may be called at any time by any thread, for memory of any thread; it touches free memory only.
    unsafe { mi_collect(true) };
}

const MALLOC_ALIGN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_keeps_its_content_whatever_its_size() {
        for (size, align) in (0..10).flat_map(|size| (0..8).map(move |align| (1 << size, 1 << align))) {
            let layout = Layout::from_size_align(size, align).unwrap();
            let is_aligned = |memory: *mut u8| memory.addr().is_multiple_of(align);
            // SAFETY: the layout is not empty.
            let memory = unsafe { Allocator.alloc_zeroed(layout) };
            assert!(!memory.is_null() && is_aligned(memory), "{layout:?}");
            // SAFETY: it is so large, was zeroed, and nobody else has it.
            let bytes = unsafe { std::slice::from_raw_parts_mut(memory, size) };
            assert!(bytes.iter().all(|byte| *byte == 0), "{layout:?}");
            bytes.fill(7);
            // SAFETY: it was had with this layout; the new size is not 0.
            let grown = unsafe { Allocator.realloc(memory, layout, 3 * size) };
            assert!(!grown.is_null() && is_aligned(grown), "{layout:?}");
            // SAFETY: what it held is there still.
            let bytes = unsafe { std::slice::from_raw_parts(grown, size) };
            assert!(bytes.iter().all(|byte| *byte == 7), "{layout:?}");
            // SAFETY: it was had with this alignment, and is given back once.
            unsafe { Allocator.dealloc(grown, Layout::from_size_align(3 * size, align).unwrap()) };
        }
    }
}
