//! The machines a package is for, and how it is built for them here.
//! Invariant: what is built here for another machine is started once before it is packed (`staging`, which has it write its
//! own manual pages).

use std::path::{Path, PathBuf};

use xshell::{Cmd, Shell, cmd};

use super::Workspace;
use crate::path_remap::Places;

/// As Debian names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    /// What Gatehouse is developed on.
    Amd64,
    /// Graviton: cross-built by Debian's compiler, which comes with a standard library for it.
    Arm64,
}

impl Architecture {
    /// In names of files, and Packer's variable.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As rustc names it.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Where cargo builds. Two compilers in one folder would rebuild each other's output.
    pub(super) fn folder(self, workspace: &Workspace) -> PathBuf {
        let target = workspace.root.join("target");
        match self {
            Self::Amd64 => target,
            Self::Arm64 => target.join("arm64"),
        }
    }

    /// What cargo has to be told in its environment.
    pub(super) fn environment(self, places: &Places) -> Vec<(&'static str, String)> {
        let flags = places.c_flags();
        match self {
            Self::Amd64 => vec![("CFLAGS_x86_64_unknown_linux_gnu", flags)],
            Self::Arm64 => vec![
                ("RUSTC", self.compiler().to_owned()),
                ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", format!("{ARM64_TOOLS}gcc")),
                ("CC_aarch64_unknown_linux_gnu", format!("{ARM64_TOOLS}gcc")),
                ("AR_aarch64_unknown_linux_gnu", format!("{ARM64_TOOLS}ar")),
                ("CFLAGS_aarch64_unknown_linux_gnu", flags),
            ],
        }
    }

    /// The Rust compiler for it.
    pub(super) fn compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "rustc",
            Self::Arm64 => "/usr/bin/rustc",
        }
    }

    /// `binary`, to be run on this machine.
    pub(super) fn start<'a>(self, shell: &'a Shell, binary: &Path) -> Cmd<'a> {
        match self {
            Self::Amd64 => cmd!(shell, "{binary}"),
            Self::Arm64 => cmd!(shell, "qemu-aarch64 {binary}"),
        }
    }
}

const ARM64_TOOLS: &str = "aarch64-linux-gnu-";
