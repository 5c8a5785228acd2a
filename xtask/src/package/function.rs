//! `cargo xtask package function`: functions for Lambda on arm64, as the stacks `fleet` and `functions` read them from a bucket.
//! Not here: what a function does (`fleet-function`, `domain-functions`), and who puts it into the bucket (docs/deploying.md).
//! Invariants: each is started once before it is packed, in an emulator; none needs a C library newer than Lambda's
//! (`a_library_newer_than_lambdas_is_named`); the same binary gives the same bytes, and its name says which (`PACK`).

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use super::{Architecture, FOLDER, Product, Workspace, cargo_build, crates, licences};
use crate::setup;

/// Builds, tries and packs them.
pub(super) fn run(shell: &Shell) -> anyhow::Result<()> {
    setup::arm64(shell)?;
    let workspace = Workspace::of(shell, ARCHITECTURE, Product::Gatehouse)?;
    for (package, name) in FUNCTIONS {
        println!("package: building {package} (minutes the first time)");
        package_one(shell, &workspace, package, name)?;
    }
    Ok(())
}

fn package_one(shell: &Shell, workspace: &Workspace, package: &str, name: &str) -> anyhow::Result<()> {
    let binary = cargo_build::build(shell, workspace, package, name, &[])?;
    licences::judge(&crates::linked(shell, &[(package, ARCHITECTURE.target())])?)?;
    let symbols = cmd!(shell, "aarch64-linux-gnu-objdump --dynamic-syms {binary}").quiet().read()?;
    let newer = newer_than_lambdas(&symbols);
    ensure!(
        newer.is_empty(),
        "Lambda's C library is 2.{LAMBDAS_LIBC}; the binary wants {}",
        newer.join(", ")
    );
    starts(shell, &binary)?;
    let folder = workspace.root.join(FOLDER);
    shell.create_dir(&folder)?;
    let path = cmd!(shell, "python3 -c {PACK} {binary} {folder} {package}")
        .quiet()
        .read()
        .context("python3 cannot pack it")?;
    println!("package: {path} ({} KiB)", fs::metadata(&path)?.len() >> 10);
    Ok(())
}

/// Without Lambda's variables it says which it lacks: so it is linked, and runs as far as that.
fn starts(shell: &Shell, binary: &Path) -> anyhow::Result<()> {
    let output = ARCHITECTURE.start(shell, binary).quiet().ignore_status().output()?;
    // Lambda's log takes what is written to either.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(!output.status.success() && said.contains("is not set"), "the function does not start: {said}");
    Ok(())
}

/// Versions of symbols in objdump's table, like `GLIBC_2.36`, that Lambda's C library does not have.
fn newer_than_lambdas(symbols: &str) -> Vec<&str> {
    let versions = symbols.split([' ', '(', ')', '\t', '\n']).filter(|word| word.starts_with("GLIBC_"));
    let minor = |word: &str| word.strip_prefix("GLIBC_2.")?.split('.').next()?.parse::<u32>().ok();
    let mut newer: Vec<_> =
        versions.filter(|word| minor(word).is_none_or(|minor| minor > LAMBDAS_LIBC)).collect();
    newer.sort_unstable();
    newer.dedup();
    newer
}

/// Packages and their binaries, which are called `bootstrap` in the archive, as Lambda's custom runtime wants it.
const FUNCTIONS: [(&str, &str); 2] =
    [("fleet-function", "bootstrap"), ("domain-functions", "domain-functions")];
const ARCHITECTURE: Architecture = Architecture::Arm64;
/// Of Amazon Linux 2023, on which `provided.al2023` stands.
const LAMBDAS_LIBC: u32 = 34;
/// The archive is named after the binary, so that a change of it is a change of the stack's parameter.
const PACK: &str = r#"
import hashlib, pathlib, sys, zipfile
binary = pathlib.Path(sys.argv[1]).read_bytes()
path = pathlib.Path(sys.argv[2]) / f"{sys.argv[3]}-{hashlib.sha256(binary).hexdigest()[:16]}.zip"
member = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
member.create_system, member.external_attr = 3, 0o100755 << 16
with zipfile.ZipFile(path, "w") as archive:
    archive.writestr(member, binary, zipfile.ZIP_DEFLATED, 9)
print(path)
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_newer_than_lambdas_is_named() {
        let symbols = "DYNAMIC SYMBOL TABLE:\n\
            0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.17) memcpy\n\
            0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.34) dlsym\n\
            0000000000000000  w   DF *UND*\t0000000000000000 (GCC_3.0)    _Unwind_Resume\n";
        assert_eq!(newer_than_lambdas(symbols), Vec::<&str>::new());
        let newer =
            format!("{symbols}0000  DF *UND* 0 (GLIBC_2.36) arc4random\n0000 DF *UND* 0 GLIBC_PRIVATE a\n");
        assert_eq!(newer_than_lambdas(&newer), ["GLIBC_2.36", "GLIBC_PRIVATE"]);
    }
}
