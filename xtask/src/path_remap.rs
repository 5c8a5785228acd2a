//! Folders of this machine, which would otherwise stand in what is built: in panics, in debug information, in C's
//! `__FILE__`. With them replaced the same sources give the same bytes wherever they lie.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// What is replaced by what.
pub(crate) struct Places([(String, &'static str); 2]);

impl Places {
    /// Cargo's home and the workspace at `root`.
    pub(crate) fn of(root: &Path) -> anyhow::Result<Self> {
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
        let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
        let cargo = cargo.context("neither CARGO_HOME nor HOME is set")?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        Ok(Self([(text(&cargo)?, "/cargo"), (text(root)?, "/gatehouse")]))
    }

    /// For rustc, one per flag.
    pub(crate) fn rust_flags(&self) -> Vec<String> {
        self.0.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")).collect()
    }

    /// For the C compiler, as `CFLAGS` has them.
    pub(crate) fn c_flags(&self) -> String {
        let flags = self.0.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}"));
        flags.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_of_this_machine_is_left_as_it_is() {
        let places = Places([("/home/a/.cargo".to_owned(), "/cargo"), ("/src".to_owned(), "/gatehouse")]);
        let rust = ["--remap-path-prefix=/home/a/.cargo=/cargo", "--remap-path-prefix=/src=/gatehouse"];
        assert_eq!(places.rust_flags(), rust);
        let c = "-ffile-prefix-map=/home/a/.cargo=/cargo -ffile-prefix-map=/src=/gatehouse";
        assert_eq!(places.c_flags(), c);
    }
}
