//! The guard's program as it lies in this binary.

/// The object that `cargo xtask build-ebpf` made, if it had when this binary was built.
#[cfg(guard_object)]
pub(crate) fn object() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(env!("GUARD_OBJECT")))
}

/// None: `cargo xtask build-ebpf` had not been run when this binary was built.
#[cfg(not(guard_object))]
pub(crate) fn object() -> Option<&'static [u8]> {
    None
}
