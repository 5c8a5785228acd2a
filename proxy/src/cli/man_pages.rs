//! `gatehouse papers`: manual pages and completions for a package, from the command line's own declaration.

use std::{fs, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{arguments::Arguments, error::CommandError};

/// Writes them into `directory`, which is made.
pub(super) fn papers(directory: &Path) -> Result<(), CommandError> {
    let unwritten = |source| CommandError::Papers { directory: directory.to_path_buf(), source };
    fs::create_dir_all(directory).map_err(unwritten)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(unwritten)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let written = clap_complete::generate_to(shell, &mut Arguments::command(), NAME, directory);
        written.map_err(unwritten)?;
    }
    Ok(())
}

const NAME: &str = "gatehouse";
