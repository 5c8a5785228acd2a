//! The base disk: the Debian that an appliance is made of, where AWS's image is not available.

use std::{fs, path::PathBuf};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{FOLDER, build_cache::kept, disk};

/// The base disk; made when none is kept for today's inputs. Debian's own updates do not count as one: they come by
/// provisioning, and to get them here remove the kept tree.
pub(super) fn disk(shell: &Shell) -> anyhow::Result<PathBuf> {
    let tree = tree(shell)?;
    let folder = shell.current_dir().join(FOLDER);
    let inputs =
        [TREE, disk::GRUB_MENU, disk::GRUB_EARLY, "xtask/src/image/disk.rs", "xtask/src/image/boot.rs"];
    let disk =
        kept(shell, &folder.join("base"), &inputs.map(PathBuf::from), |disk| disk::make(shell, &tree, disk))?;
    println!("image: base {} ({} MiB)", disk.display(), fs::metadata(&disk)?.len() >> 20);
    Ok(disk)
}

/// The file tree that the base disk is made of.
fn tree(shell: &Shell) -> anyhow::Result<PathBuf> {
    let folder = shell.current_dir().join(FOLDER);
    shell.create_dir(&folder)?;
    kept(shell, &folder.join("tree"), &[TREE.into()], |tree| {
        println!("image: making a Debian of packages (minutes)");
        let make = || cmd!(shell, "{TREE} {tree}").quiet().run();
        // Debian's archive may change between the reading of its index and of a package that the index names.
        let again = |_| {
            println!("image: once more, from the archive's present index");
            shell.remove_path(tree)?;
            make()
        };
        make().or_else(again).context("the base's tree cannot be made")
    })
}

const TREE: &str = "packer/base/rootfs.sh";
