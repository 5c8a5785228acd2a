//! moto, started as the account and the regions of AWS that the rehearsal needs.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use xshell::{PushEnv, Shell};

use super::process::Process;

/// An AWS on this machine, with Debian's images in every region and no other.
pub(super) struct Cloud {
    url: String,
    calls: PathBuf,
    _process: Process,
}

impl Cloud {
    /// Listens once it returns; `python` has moto.
    pub(super) fn start(shell: &Shell, folder: &Path, python: &Path) -> anyhow::Result<Self> {
        let python = python.to_str().context("the workspace's path is not UTF-8")?;
        let calls = folder.join("calls");
        let root = shell.current_dir();
        let mut process = Process::start(python, &folder.join("moto.log"), |command| {
            command.arg(root.join(SERVER)).arg(&calls).env("MOTO_AMIS_PATH", root.join(IMAGES))
        })?;
        let url = process.hear()?;
        println!("rehearsal: moto answers for AWS at {url}");
        Ok(Self { url, calls, _process: process })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The file with every call.
    pub(super) fn calls(&self) -> &Path {
        &self.calls
    }
}

/// Credentials that are worth nothing at AWS, should a call ever go astray; nothing of the user's own settings.
pub(super) fn strangers_account<'a>(shell: &'a Shell, folder: &Path) -> anyhow::Result<Vec<PushEnv<'a>>> {
    let settings = folder.join("settings");
    fs::write(&settings, "[default]\n")?;
    let settings = settings.as_os_str();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "rehearsal".as_ref()),
        ("AWS_SECRET_ACCESS_KEY", "rehearsal".as_ref()),
        ("AWS_SESSION_TOKEN", "rehearsal".as_ref()),
        ("AWS_PROFILE", "default".as_ref()),
        ("AWS_EC2_METADATA_DISABLED", "true".as_ref()),
        ("AWS_CONFIG_FILE", settings),
        ("AWS_SHARED_CREDENTIALS_FILE", settings),
    ];
    Ok(variables.into_iter().map(|(name, value): (_, &OsStr)| shell.push_env(name, value)).collect())
}

const SERVER: &str = "packer/rehearsal/aws.py";
const IMAGES: &str = "packer/rehearsal/images.json";
