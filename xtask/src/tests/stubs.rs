//! A folder with programs in the place of the machine's, for scripts that would change it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::workspace;

/// Gone with the value. Programs find it as `$STUBS`, and write to the file `calls` what they were called with.
pub(super) struct Stubs {
    folder: PathBuf,
}

impl Stubs {
    /// `test` tells it from those of other tests.
    pub(super) fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("xtask-{test}-{}", std::process::id()));
        let stubs = Self { folder };
        stubs.write("calls", "");
        stubs
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A shell script of this name.
    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Programs that write down how they are called, and end with `code`.
    pub(super) fn programs(&self, names: &[&str], code: u8) {
        for name in names {
            self.program(name, &format!("echo \"{name} $*\" >>\"$STUBS/calls\"; exit {code}"));
        }
    }

    /// Runs a script of the workspace by what its first line says.
    pub(super) fn run(&self, script: &str, arguments: &[&str], variables: &[(&str, &Path)]) -> Output {
        Command::new(workspace().join(script))
            .args(arguments)
            .env("STUBS", &self.folder)
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    pub(super) fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
