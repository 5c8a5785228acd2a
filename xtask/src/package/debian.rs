//! A Debian in a folder, with nothing running in it: the effect of a package or a script can be examined.
//! Not here: how it was made, and what is expected of it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::bail;
use xshell::{Shell, TempDir, cmd};

/// A copy that ends with this value.
pub(super) struct Debian<'a> {
    /// Works outside.
    pub(super) shell: &'a Shell,
    root: PathBuf,
    _folder: TempDir,
}

impl<'a> Debian<'a> {
    /// Of the tree `kept`, which stays as it is.
    pub(super) fn copy_of(shell: &'a Shell, kept: &Path) -> anyhow::Result<Self> {
        let folder = shell.create_temp_dir()?;
        let root = folder.path().join("root");
        cmd!(shell, "cp --archive --reflink=auto {kept} {root}").quiet().run()?;
        Ok(Self { shell, root, _folder: folder })
    }

    /// Runs a command, words divided by spaces, with a process table of its own; what it printed, or an error with what
    /// it said.
    pub(super) fn inside(&self, command: &str) -> anyhow::Result<String> {
        let (shell, root) = (self.shell, &self.root);
        let words = command.split(' ');
        let output = cmd!(shell, "unshare --mount --pid --fork --kill-child --root={root} --mount-proc --")
            .args(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            // systemd colours and links what it says, also into a pipe.
            .env("SYSTEMD_COLORS", "0")
            .env("SYSTEMD_URLIFY", "0")
            .quiet()
            .ignore_status()
            .output()?;
        if !output.status.success() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            bail!("`{command}`: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The path outside of a path inside.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Every path inside.
    pub(super) fn files(&self) -> anyhow::Result<BTreeSet<String>> {
        let (shell, root) = (self.shell, &self.root);
        let found = cmd!(shell, "find {root} -xdev -printf /%P\\n").quiet().read()?;
        Ok(found.lines().map(str::to_owned).collect())
    }
}
