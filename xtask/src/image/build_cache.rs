//! What is slow to make, kept under a key of all that goes into it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use xshell::{Shell, cmd};

/// `<stem>-<key of inputs>`; if it is not there, made by `make` under another name first, so that an unfinished one is never kept.
pub(super) fn kept(
    shell: &Shell,
    stem: &Path,
    inputs: &[PathBuf],
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
