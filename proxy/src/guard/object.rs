//! The guard's program, embedded in this binary.

/// The object that `cargo xtask build-ebpf` made, if it had when this binary was built.
pub(crate) fn object() -> Option<&'static [u8]> {
    OBJECT
}

#[cfg(guard_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("GUARD_OBJECT")));
#[cfg(not(guard_object))]
static OBJECT: Option<&[u8]> = None;
