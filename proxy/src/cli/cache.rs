//! `gatehouse cache`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{arguments::Form, error::CommandError, print};
use crate::{config::Config, store::local_copy};

/// What was removed.
#[derive(Serialize)]
struct Cleared {
    directory: PathBuf,
    /// None, there was no copy.
    bytes: Option<u64>,
}

/// Removes the copy in `directory`, or in that of the settings.
pub(super) fn clear(
    directory: Option<&Path>,
    settings: impl FnOnce() -> Result<Config, CommandError>,
    form: Form,
) -> Result<(), CommandError> {
    let directory = match directory {
        Some(directory) => directory.to_owned(),
        None => settings()?.store.local_copy.ok_or(CommandError::NoLocalCopy)?,
    };
    let bytes = local_copy::clear(&directory)
        .map_err(|source| CommandError::LocalCopy { path: directory.clone(), source })?;
    print(form, &Cleared { directory, bytes }, shown)
}

fn shown(cleared: &Cleared) -> String {
    let directory = cleared.directory.display();
    match cleared.bytes {
        Some(bytes) => format!("the local copy in {directory} is removed, {bytes} bytes\n"),
        None => format!("there is no local copy in {directory}\n"),
    }
}
