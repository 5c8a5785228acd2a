//! The base disk, kept under a key of all that goes into it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{FOLDER, disk};

/// The base disk; made when none is kept for today's inputs. Debian's own updates do not count as one: they come by
/// provisioning, and to get them here remove the kept tree.
pub(super) fn disk(shell: &Shell) -> anyhow::Result<PathBuf> {
    let tree = tree(shell)?;
    let folder = shell.current_dir().join(FOLDER);
    let inputs =
        [TREE, disk::GRUB_MENU, disk::GRUB_EARLY, "xtask/src/image/disk.rs", "xtask/src/image/boot.rs"];
    let disk = kept(shell, &folder.join("base"), &inputs, |disk| disk::make(shell, &tree, disk))?;
    println!("image: base {} ({} MiB)", disk.display(), fs::metadata(&disk)?.len() >> 20);
    Ok(disk)
}

/// The file tree that the base disk is made of.
pub(super) fn tree(shell: &Shell) -> anyhow::Result<PathBuf> {
    let folder = shell.current_dir().join(FOLDER);
    shell.create_dir(&folder)?;
    kept(shell, &folder.join("tree"), &[TREE], |tree| {
        println!("image: making a Debian of packages (minutes)");
        cmd!(shell, "{TREE} {tree}").quiet().run().context("the base's tree cannot be made")
    })
}

/// `<stem>-<key of inputs>`; if it is not there, made by `make` under another name first, so that a half is never kept.
pub(super) fn kept(
    shell: &Shell,
    stem: &Path,
    inputs: &[&str],
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let sums = cmd!(shell, "sha256sum -- {inputs...}").quiet().read()?;
    let named =
        |end: &str| stem.with_file_name(format!("{}-{end}", stem.file_name().unwrap_or_default().display()));
    let place = named(&key(&sums));
    if !place.exists() {
        let unfinished = named("unfinished");
        shell.remove_path(&unfinished)?;
        make(&unfinished)?;
        fs::rename(&unfinished, &place)?;
    }
    Ok(place)
}

/// Of the inputs' checksums, in hexadecimal at the start of each line: enough of each to tell any two apart.
fn key(sums: &str) -> String {
    sums.lines().map(|line| line.chars().take(PER_INPUT).collect::<String>()).collect()
}

const PER_INPUT: usize = 6;
const TREE: &str = "packer/base/rootfs.sh";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_input_is_another_key() {
        let sums = "0123456789 a\nabcdef0123 b";
        assert_eq!(key(sums), "012345abcdef");
        assert_ne!(key(sums), key("0123456789 a\nabcdee0123 b"));
    }
}
