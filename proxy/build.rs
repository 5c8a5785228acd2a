//! Embeds the guard's object where `cargo xtask build-ebpf` has made one; without it the binary is built all the same,
//! and its guard says what to run.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(guard_object)");
    println!("cargo::rerun-if-changed=build.rs");
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let folder = manifest.join("../target/ebpf");
    // Cargo reruns this on every build for as long as a path it watches is missing.
    fs::create_dir_all(&folder)?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let object = folder.join("guard");
    if object.is_file() {
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-env=GUARD_OBJECT={}", object.display());
        println!("cargo::rustc-cfg=guard_object");
    }
    Ok(())
}
