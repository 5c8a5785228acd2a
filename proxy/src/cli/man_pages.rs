//! `gatehouse man` and `gatehouse completion`: from the command line's own declaration.

use std::{fs, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{arguments::Arguments, error::CommandError, write};

/// Writes a page for each command into `directory`, which is made; without one, the page of `gatehouse` to stdout.
pub(super) fn man(directory: Option<&Path>) -> Result<(), CommandError> {
    // `help` needs no page of its own: it shows the others' text.
    let command = Arguments::command().disable_help_subcommand(true);
    let Some(directory) = directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(CommandError::Output)?;
        return write(&String::from_utf8_lossy(&page));
    };
    let unwritten = |source| CommandError::Papers { directory: directory.to_path_buf(), source };
    fs::create_dir_all(directory).map_err(unwritten)?;
    clap_mangen::generate_to(command, directory).map_err(unwritten)
}

/// Writes the completions for `shell` to stdout.
pub(super) fn completion(shell: Shell) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    write(&String::from_utf8_lossy(&script))
}

const NAME: &str = "gatehouse";
