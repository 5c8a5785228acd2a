//! Where links and maps are pinned, and how one folder of maps replaces another.
//!
//! `link-<ifindex>` is an interface's link (`link-<ifindex>-generic` when attached so: a link cannot change its mode), and
//! `maps-v<ABI>/` holds the maps and the program that uses them. New maps are made in `maps-v<ABI>-next/`, which is renamed to the other
//! once a program that uses them is attached. The kernel reserves dots in names on a bpffs.
//! Invariant: at each moment the maps of the attached program are pinned, so that a start after a crash finds them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use proxy_common::maps::ABI;
use tracing::info;

use super::error::GuardError;
use crate::config::Attach;

/// The folder of pins.
#[derive(Debug, Clone)]
pub(super) struct Pins(PathBuf);

impl Pins {
    /// Creates the folder and mounts a bpffs there unless it is in one.
    pub(super) fn prepare(root: &Path) -> Result<Self, GuardError> {
        let failed = |source| GuardError::PinPath { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        if !in_bpffs(root).map_err(|errno| failed(errno.into()))? {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            match mount(Some(SOURCE), root, Some("bpf"), flags, Some("mode=0700")) {
                Ok(()) => info!(path = %root.display(), "mounted a bpffs for pins"),
                Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
                    return Err(GuardError::Privilege { action: "mount a bpffs", source: errno.into() });
                }
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        Ok(Self(root.to_owned()))
    }

    /// The folder, if there is one with pins to remove.
    pub(super) fn existing(root: &Path) -> Option<Self> {
        in_bpffs(root).is_ok_and(|is| is).then(|| Self(root.to_owned()))
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.0.join(format!("maps-v{ABI}"))
    }

    pub(super) fn next_maps(&self) -> PathBuf {
        self.0.join(format!("maps-v{ABI}-next"))
    }

    pub(super) fn link(&self, index: u32, mode: Attach) -> PathBuf {
        self.0.join(match mode {
            Attach::Native => format!("link-{index}"),
            Attach::Generic => format!("link-{index}-generic"),
        })
    }

    /// Every pinned link.
    pub(super) fn links(&self) -> Result<Vec<PathBuf>, GuardError> {
        self.entries(is_link)
    }

    /// Folders of maps of any version.
    pub(super) fn map_folders(&self) -> Result<Vec<PathBuf>, GuardError> {
        self.entries(is_maps)
    }

    /// Puts the new maps in place of the old, and removes those of every other version.
    pub(super) fn promote(&self) -> Result<(), GuardError> {
        let next = self.next_maps();
        for folder in self.map_folders()?.into_iter().filter(|folder| *folder != next) {
            remove_folder(&folder)?;
        }
        fs::rename(&next, self.maps()).map_err(|source| GuardError::PinPath { path: next, source })
    }

    /// Removes the maps of every version but this one.
    pub(super) fn retire_other_versions(&self) -> Result<(), GuardError> {
        let current = self.maps();
        self.map_folders()?.iter().filter(|folder| **folder != current).try_for_each(|f| remove_folder(f))
    }

    /// Removes every pin, and the bpffs if [`Pins::prepare`] mounted it; returns what was removed.
    pub(super) fn remove_all(self) -> Result<Vec<PathBuf>, GuardError> {
        let links = self.links()?;
        links.iter().try_for_each(|link| remove_pin(link).map(drop))?;
        let folders = self.map_folders()?;
        folders.iter().try_for_each(|folder| remove_folder(folder))?;
        if mounted_by_us(&self.0) {
            umount2(&self.0, MntFlags::MNT_DETACH)
                .map_err(|errno| GuardError::PinPath { path: self.0, source: errno.into() })?;
        }
        Ok(links.into_iter().chain(folders).collect())
    }

    fn entries(&self, is_ours: fn(&str) -> bool) -> Result<Vec<PathBuf>, GuardError> {
        let failed = |source| GuardError::PinPath { path: self.0.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if is_ours(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Whether a pin has the name of one of our links: others may pin things in the same bpffs.
fn is_link(name: &str) -> bool {
    name.strip_prefix("link-").is_some_and(|index| is_number(index.strip_suffix("-generic").unwrap_or(index)))
}

/// Whether a folder has the name of one of our maps.
fn is_maps(name: &str) -> bool {
    name.strip_prefix("maps-v").is_some_and(|abi| is_number(abi.strip_suffix("-next").unwrap_or(abi)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// In a folder of maps, the program that uses them.
pub(super) fn program(folder: &Path) -> PathBuf {
    folder.join("program")
}

/// Removes a folder of pinned maps; one that is not there is removed already.
pub(super) fn remove_folder(folder: &Path) -> Result<(), GuardError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(GuardError::PinPath { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Removes a pin, whether there was one; a link's interface the kernel detaches from a work queue, within milliseconds.
pub(super) fn remove_pin(path: &Path) -> Result<Removal, GuardError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Removal::Underway),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Removal::Needless),
        Err(source) => Err(GuardError::PinPath { path: path.to_owned(), source }),
    }
}

/// The outcome of removing a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// The interface is about to be free.
    Underway,
    /// There was no such link.
    Needless,
}

fn in_bpffs(path: &Path) -> nix::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

/// Whether a bpffs of ours is mounted at exactly `path` (`proc_pid_mountinfo(5)`: mount point, ` - `, type, source).
fn mounted_by_us(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line_is_ours(line, path))
}

fn line_is_ours(line: &str, path: &Path) -> bool {
    let Some((mount, filesystem)) = line.split_once(" - ") else { return false };
    let mut filesystem = filesystem.split(' ');
    mount.split(' ').nth(4).is_some_and(|point| Path::new(point) == path)
        && filesystem.next() == Some("bpf")
        && filesystem.next() == Some(SOURCE)
}

/// The source name that distinguishes our bpffs from the system's.
const SOURCE: &str = "gatehouse";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_others_in_the_same_folder_are_not_ours() {
        for (name, link, maps) in [
            ("link-2", true, false),
            ("link-12-generic", true, false),
            ("link-eth0", false, false),
            ("link-", false, false),
            ("link-2-other", false, false),
            ("maps-v7", false, true),
            ("maps-v7-next", false, true),
            ("maps-vpn", false, false),
        ] {
            assert_eq!((is_link(name), is_maps(name)), (link, maps), "{name}");
        }
    }

    #[test]
    fn only_a_bpffs_of_ours_is_unmounted() {
        let path = Path::new("/run/gatehouse/bpf");
        for (line, ours) in [
            ("40 25 0:35 / /run/gatehouse/bpf rw,nosuid - bpf gatehouse rw,mode=700", true),
            ("40 25 0:35 / /run/gatehouse/bpf rw,nosuid shared:7 - bpf gatehouse rw", true),
            ("40 25 0:35 / /run/gatehouse/bpf rw,nosuid - bpf bpf rw,mode=700", false),
            ("40 25 0:35 / /sys/fs/bpf rw - bpf gatehouse rw", false),
            ("40 25 0:35 / /run/gatehouse/bpf rw - tmpfs gatehouse rw", false),
            ("", false),
        ] {
            assert_eq!(line_is_ours(line, path), ours, "{line}");
        }
    }
}
