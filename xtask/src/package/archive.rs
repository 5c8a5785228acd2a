//! The package itself, its checksums, and the proof that a second build gives the same.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use super::{FOLDER, Product, Workspace};

/// A package on disk.
pub(crate) struct Archive {
    /// Its file.
    pub(crate) path: PathBuf,
}

/// Packs what has been built and staged; writes the SBOM and SHA256SUMS beside it.
pub(super) fn pack(shell: &Shell, workspace: &Workspace) -> anyhow::Result<Archive> {
    let folder = workspace.root.join(FOLDER);
    let (architecture, product) = (workspace.architecture, workspace.product);
    let (target, build) = (architecture.target(), architecture.folder(workspace));
    let stem = format!("{}_{}_{}", product.name(), workspace.version, architecture.name());
    let package = product.cargo_package();
    let path = folder.join(format!("{stem}.deb"));
    cmd!(
        shell,
        "cargo deb --quiet --no-build --no-strip --package {package} --target {target} --output {path}"
    )
    .env("CARGO_TARGET_DIR", build)
    .env("SOURCE_DATE_EPOCH", &workspace.epoch)
    .quiet()
    .run()
    .context("cargo-deb refuses")?;
    let parts = product.folder(&workspace.root).join("parts").join(product.documents());
    let parts = parts.join("sbom.cdx.json.gz");
    let sbom = folder.join(format!("{stem}.cdx.json"));
    fs::write(&sbom, cmd!(shell, "gzip --decompress --stdout {parts}").quiet().output()?.stdout)?;
    write_sums(shell, &folder)?;
    println!("package: {} ({} KiB)", path.display(), fs::metadata(&path)?.len() >> 10);
    Ok(Archive { path })
}

/// Of every package that lies there, and of its SBOM.
fn write_sums(shell: &Shell, folder: &Path) -> anyhow::Result<()> {
    let _inside = shell.push_dir(folder);
    let mut files = shell.read_dir(".")?;
    files.retain(|file| file.extension().is_some_and(|end| end == "deb" || end == "json"));
    files.sort();
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = cmd!(shell, "sha256sum --").args(names).quiet().read()?;
    fs::write(folder.join("SHA256SUMS"), format!("{sums}\n"))?;
    Ok(())
}

/// Packs the same under a later version into `to`, to try an upgrade with; returns that version.
pub(crate) fn later(shell: &Shell, archive: &Path, to: &Path) -> anyhow::Result<String> {
    let folder = shell.create_temp_dir()?;
    let tree = folder.path().join("tree");
    cmd!(shell, "dpkg-deb --raw-extract {archive} {tree}").quiet().run()?;
    let file = tree.join("DEBIAN/control");
    let control = fs::read_to_string(&file)?;
    let now = control.lines().find_map(|line| line.strip_prefix("Version: ")).context("no version")?;
    let version = format!("{now}+next1");
    let raised = control.replace(&format!("Version: {now}\n"), &format!("Version: {version}\n"));
    ensure!(raised != control, "the version in {} was not found", file.display());
    fs::write(&file, raised)?;
    // Little compression: emulated machines unpack it, too.
    cmd!(shell, "dpkg-deb --root-owner-group -Zgzip -z1 --build {tree} {to}")
        .quiet()
        .ignore_stdout()
        .run()?;
    Ok(version)
}

/// Clones the last commit into another folder, builds the package there, and compares.
pub(super) fn reproduce(shell: &Shell, archive: &Archive, product: Product) -> anyhow::Result<()> {
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
    let product = product.name();
    cmd!(shell, "cargo xtask package --product {product}").quiet().run()?;
    drop(inside);
    let name = archive.path.file_name().context("the package has no name")?;
    let (first, second) = (&archive.path, again.join(FOLDER).join(name));
    cmd!(shell, "cmp {first} {second}").quiet().run().context("the second build differs from the first")?;
    println!("package: built twice, same bytes: {}", cmd!(shell, "sha256sum {second}").quiet().read()?);
    shell.remove_path(&again)?;
    Ok(())
}
