//! Which crates are linked into what is shipped: the binary, the XDP program inside it, the functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Context;
use serde_json::Value;
use xshell::{Shell, cmd};

/// A crate of somebody else's, or of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    /// As its manifest says, an SPDX expression or nearly one.
    pub(super) licence: Option<String>,
    pub(super) repository: Option<String>,
    /// Where its sources lie.
    pub(super) folder: PathBuf,
    pub(super) origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Ours,
    Registry,
}

/// All of them, by name and version, of packages and the targets they are built for. Features are resolved as for the binary, so what
/// only tests use is not among them;
/// macros run in the compiler and are not linked.
pub(super) fn linked(shell: &Shell, of: &[(&str, &str)]) -> anyhow::Result<BTreeSet<Crate>> {
    let known = known(shell)?;
    let mut linked = BTreeSet::new();
    for (package, target) in of {
        let tree = cmd!(shell, "cargo tree --quiet --locked --package {package} --target {target}")
            .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
            .quiet()
            .read()?;
        for line in tree.lines() {
            let key = name_and_version(line).with_context(|| format!("cargo tree says `{line}`"))?;
            linked.insert(known.get(&key).with_context(|| format!("cargo metadata lacks {key:?}"))?.clone());
        }
    }
    Ok(linked)
}

type Key = (String, String);

fn known(shell: &Shell) -> anyhow::Result<BTreeMap<Key, Crate>> {
    let metadata = cmd!(shell, "cargo metadata --quiet --locked --format-version 1").quiet().read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let crates = packages.iter().map(|package| read(package).context("cargo metadata is not as expected"));
    crates.map(|found| found.map(|found| ((found.name.clone(), found.version.clone()), found))).collect()
}

fn read(package: &Value) -> Option<Crate> {
    let text = |field: &str| package.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut folder = PathBuf::from(text("manifest_path")?);
    folder.pop();
    Some(Crate {
        name: text("name")?,
        version: text("version")?,
        licence: text("license"),
        repository: text("repository"),
        folder,
        origin: if package.get("source")?.is_null() { Origin::Ours } else { Origin::Registry },
    })
}

/// A line is like `aya v0.14.0`, with the folder behind it for our own and `(*)` where the tree repeats itself.
fn name_and_version(line: &str) -> Option<Key> {
    let mut words = line.split(' ');
    Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tree_are_read() {
        for (line, name, version) in [
            ("aya v0.14.0", "aya", "0.14.0"),
            ("gatehouse v0.1.0 (/src/proxy)", "gatehouse", "0.1.0"),
            ("bytes v1.11.1 (*)", "bytes", "1.11.1"),
        ] {
            assert_eq!(name_and_version(line), Some((name.to_owned(), version.to_owned())), "{line}");
        }
        assert_eq!(name_and_version("bytes"), None);
    }

    #[test]
    fn a_package_without_a_source_is_ours() {
        let json = r#"{"name": "a", "version": "1.0.0", "license": "MIT", "repository": null,
            "manifest_path": "/src/a/Cargo.toml", "source": null}"#;
        let found = read(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!((found.origin, found.folder), (Origin::Ours, PathBuf::from("/src/a")));
    }
}
