//! `cargo xtask build-ebpf`: the guard's object, by whichever toolchain is there.

/// Builds the object into `target/ebpf/guard`.
pub(crate) fn run() -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
