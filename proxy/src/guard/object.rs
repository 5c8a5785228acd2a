//! Placeholder until the kernel side arrives.
pub(crate) fn object() -> Option<&'static [u8]> {
    None
}
