//! What goes into the package beside what `packer/package` holds: made from the tree, in the layout of the machine.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

use super::{Product, Workspace, crates::Crate, licences, sbom};

/// Makes them anew in the folder `parts` of the product.
pub(super) fn lay(
    shell: &Shell,
    workspace: &Workspace,
    binary: &Path,
    crates: &BTreeSet<Crate>,
) -> anyhow::Result<()> {
    let (product, folder) = (workspace.product, workspace.product.folder(&workspace.root));
    let parts = folder.join("parts");
    shell.remove_path(&parts)?;
    let documents = parts.join(product.documents());
    let changelog = workspace.root.join("CHANGELOG.md");
    shell.write_file(folder.join("copyright"), copyright(&workspace.root, product)?)?;
    shell.write_file(documents.join("NEWS.md"), fs::read_to_string(changelog)?)?;
    shell.write_file(documents.join("dependencies.txt"), licences::texts(crates, product.linked())?)?;
    shell.write_file(
        documents.join("sbom.cdx.json"),
        sbom::write(workspace, &iso(shell, workspace)?, crates)?,
    )?;
    shell.write_file(documents.join("changelog"), debian_changelog(shell, workspace)?)?;
    let mut compressed: Vec<PathBuf> =
        ["NEWS.md", "dependencies.txt", "sbom.cdx.json", "changelog"].map(|name| documents.join(name)).into();
    compressed.extend(papers(shell, workspace, binary, &parts)?);
    // `-n`: neither name nor time stamp go into the file.
    cmd!(shell, "gzip --best --no-name {compressed...}").quiet().run()?;
    Ok(())
}

/// Manual pages and completions, which the binary writes; the manual pages, to be compressed.
fn papers(shell: &Shell, workspace: &Workspace, binary: &Path, parts: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = shell.create_temp_dir()?;
    let written = folder.path();
    let start = || workspace.architecture.start(shell, binary);
    start().arg("man").arg(written).quiet().run().context("it does not start")?;
    for (kind, name) in completions(workspace.product) {
        let script = start().args(["completion", kind]).quiet().output().context("it does not start")?;
        fs::write(written.join(name), script.stdout)?;
    }
    let mut manuals = Vec::new();
    for file in files_below(written)? {
        let name =
            file.file_name().and_then(|name| name.to_str()).context("the name of a page is not UTF-8")?;
        let Some(place) = place(name) else { bail!("`man` wrote {name}, which is not packaged") };
        let to = parts.join(&place);
        shell.create_dir(to.parent().context("a page lies in no folder")?)?;
        fs::copy(&file, &to)?;
        if place.starts_with("usr/share/man") {
            manuals.push(to);
        }
    }
    Ok(manuals)
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Where Debian's shells and man look for it.
fn place(name: &str) -> Option<PathBuf> {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    Some(
        match end {
            "1" | "5" | "8" => format!("usr/share/man/man{end}/{name}"),
            "bash" => format!("usr/share/bash-completion/completions/{stem}"),
            "fish" => format!("usr/share/fish/vendor_completions.d/{name}"),
            "" if name.starts_with('_') => format!("usr/share/zsh/vendor-completions/{name}"),
            _ => return None,
        }
        .into(),
    )
}

/// Debian's machine-readable format, 1.0.
fn copyright(root: &Path, product: Product) -> anyhow::Result<String> {
    let documents = product.documents();
    let mit = fs::read_to_string(root.join("LICENSE-MIT"))?;
    let holder = mit.lines().find_map(|line| line.strip_prefix("Copyright (c) ")).context("no holder")?;
    let body = mit.lines().skip_while(|line| !line.starts_with("Permission"));
    let indented = body.map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") });
    let terms = indented.collect::<Vec<_>>().join("\n");
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: Gatehouse\n\
         Comment: Libraries are linked in statically. Their licences with all texts stand in\n \
         /{documents}/dependencies.txt.gz, and as an SBOM in sbom.cdx.json.gz beside it.\n\n\
         Files: *\nCopyright: {holder}\nLicense: Expat or Apache-2.0\n\n\
         License: Expat\n{terms}\n\n\
         License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n"
    ))
}

fn debian_changelog(shell: &Shell, workspace: &Workspace) -> anyhow::Result<String> {
    let Workspace { product, version, epoch, .. } = workspace;
    let name = product.name();
    let date = cmd!(shell, "date --utc --rfc-email --date=@{epoch}").quiet().read()?;
    Ok(format!(
        "{name} ({version}) bookworm; urgency=medium\n\n  * What changed stands in NEWS.md.gz.\n\n \
         -- {MAINTAINER}  {date}\n"
    ))
}

fn iso(shell: &Shell, Workspace { epoch, .. }: &Workspace) -> anyhow::Result<String> {
    Ok(cmd!(shell, "date --utc --date=@{epoch} +%Y-%m-%dT%H:%M:%SZ").quiet().read()?)
}

/// Shells, and what the file of each is called.
fn completions(product: Product) -> &'static [(&'static str, &'static str)] {
    match product {
        Product::Gatehouse => {
            &[("bash", "gatehouse.bash"), ("zsh", "_gatehouse"), ("fish", "gatehouse.fish")]
        }
        Product::GatehouseDeploy => &[],
    }
}

/// As in `package.metadata.deb`.
const MAINTAINER: &str = "The Gatehouse contributors <gatehouse@example.com>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn papers_lie_where_debian_looks_for_them() {
        for (name, place_wanted) in [
            ("gatehouse.1", Some("usr/share/man/man1/gatehouse.1")),
            ("gatehouse-domain-add.1", Some("usr/share/man/man1/gatehouse-domain-add.1")),
            ("gatehouse.toml.5", Some("usr/share/man/man5/gatehouse.toml.5")),
            ("gatehouse.bash", Some("usr/share/bash-completion/completions/gatehouse")),
            ("gatehouse.fish", Some("usr/share/fish/vendor_completions.d/gatehouse.fish")),
            ("_gatehouse", Some("usr/share/zsh/vendor-completions/_gatehouse")),
            ("gatehouse.elv", None),
            ("notes", None),
        ] {
            assert_eq!(place(name), place_wanted.map(PathBuf::from), "{name}");
        }
    }

    #[test]
    fn the_maintainer_is_the_same_everywhere() {
        for manifest in
            [include_str!("../../../proxy/Cargo.toml"), include_str!("../../../deploy/Cargo.toml")]
        {
            assert!(manifest.contains(&format!("maintainer = {MAINTAINER:?}")), "{MAINTAINER}");
        }
    }
}
