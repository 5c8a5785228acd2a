//! The package itself, its checksums, and the proof that a second build gives the same.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use super::{ARCHITECTURE, FOLDER, TARGET, Workspace};

/// A package on disk.
pub(crate) struct Archive {
    /// Its file.
    pub(crate) path: PathBuf,
}

/// Packs what has been built and laid; writes the parts list and SHA256SUMS beside it.
pub(super) fn pack(shell: &Shell, workspace: &Workspace) -> anyhow::Result<Archive> {
    let folder = workspace.root.join(FOLDER);
    let stem = format!("gatehouse_{}_{ARCHITECTURE}", workspace.version);
    let path = folder.join(format!("{stem}.deb"));
    cmd!(
        shell,
        "cargo deb --quiet --no-build --no-strip --package gatehouse --target {TARGET} --output {path}"
    )
    .env("SOURCE_DATE_EPOCH", &workspace.epoch)
    .quiet()
    .run()
    .context("cargo-deb refuses")?;
    let parts = folder.join("parts/usr/share/doc/gatehouse/sbom.cdx.json.gz");
    let sbom = folder.join(format!("{stem}.cdx.json"));
    fs::write(&sbom, cmd!(shell, "gzip --decompress --stdout {parts}").quiet().output()?.stdout)?;
    write_sums(shell, &folder, &[&path, &sbom])?;
    println!("package: {} ({} KiB)", path.display(), fs::metadata(&path)?.len() >> 10);
    Ok(Archive { path })
}

fn write_sums(shell: &Shell, folder: &Path, files: &[&Path]) -> anyhow::Result<()> {
    let _inside = shell.push_dir(folder);
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = cmd!(shell, "sha256sum --").args(names).quiet().read()?;
    fs::write(folder.join("SHA256SUMS"), format!("{sums}\n"))?;
    Ok(())
}

/// Clones the last commit into another folder, builds the package there, and compares.
pub(super) fn reproduce(shell: &Shell, archive: &Archive) -> anyhow::Result<()> {
    let changes = cmd!(shell, "git status --porcelain").quiet().read()?;
    ensure!(
        changes.is_empty(),
        "the tree differs from its last commit, which is what is built again; commit first:\n{changes}"
    );
    let (root, again) = (shell.current_dir(), shell.current_dir().join(FOLDER).join("again"));
    shell.remove_path(&again)?;
    cmd!(shell, "git clone --quiet {root} {again}").quiet().run()?;
    println!("package: building once more in {}", again.display());
    let inside = shell.push_dir(&again);
    cmd!(shell, "cargo xtask package").quiet().run()?;
    drop(inside);
    let name = archive.path.file_name().context("the package has no name")?;
    let (first, second) = (&archive.path, again.join(FOLDER).join(name));
    cmd!(shell, "cmp {first} {second}").quiet().run().context("the second build differs from the first")?;
    println!("package: built twice, same bytes: {}", cmd!(shell, "sha256sum {second}").quiet().read()?);
    shell.remove_path(&again)?;
    Ok(())
}
