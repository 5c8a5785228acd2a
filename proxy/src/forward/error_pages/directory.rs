//! The operator's pages as files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{PageKind, template::PageTemplate};
use crate::whole_file;

/// Why the operator's pages cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ErrorPagesError {
    /// Their directory.
    #[error("error_pages.directory: `{path}` cannot be read; have the user of this process read it")]
    Directory {
        /// As configured.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file.
    #[error(
        "error_pages.directory: `{path}` cannot be used; a page is a file of at most {} KiB of UTF-8",
        LONGEST / 1024
    )]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file whose name says nothing.
    #[error(
        "error_pages.directory: `{path}` is for no status; call it like `502.html` (400 to 599), `4xx.html`, `5xx.html` or \
         `maintenance.html`, or give it another ending"
    )]
    Name {
        /// Which one.
        path: PathBuf,
    },
    /// What stands in a file.
    #[error("error_pages.directory: `{path}`, {fault}")]
    Template {
        /// Which one.
        path: PathBuf,
        /// What is wrong, and where.
        fault: String,
    },
}

/// All pages in the directory at `path`; files without `.html` are none.
pub(super) fn read(path: &Path) -> Result<BTreeMap<PageKind, PageTemplate>, ErrorPagesError> {
    let unreadable = |source| ErrorPagesError::Directory { path: path.to_owned(), source };
    let mut pages = BTreeMap::new();
    for file in fs::read_dir(path).map_err(unreadable)? {
        let file = file.map_err(unreadable)?.path();
        if file.extension().is_some_and(|ending| ending == "html") {
            let kind = file.file_stem().and_then(|stem| kind(stem.to_str()?));
            let kind = kind.ok_or_else(|| ErrorPagesError::Name { path: file.clone() })?;
            pages.insert(kind, page(file)?);
        }
    }
    Ok(pages)
}

/// Which page has this name, without its ending.
fn kind(stem: &str) -> Option<PageKind> {
    match stem {
        "maintenance" => Some(PageKind::Maintenance),
        "4xx" => Some(PageKind::Class(4)),
        "5xx" => Some(PageKind::Class(5)),
        _ => stem.parse().ok().filter(|code| (400..600).contains(code)).map(PageKind::Status),
    }
}

fn page(path: PathBuf) -> Result<PageTemplate, ErrorPagesError> {
    let text = whole_file::read(&path, LONGEST).and_then(|bytes| {
        let text =
            str::from_utf8(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(PageTemplate::parse(text))
    });
    match text {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(fault)) => Err(ErrorPagesError::Template { path, fault: fault.to_string() }),
        Err(source) => Err(ErrorPagesError::File { path, source }),
    }
}

/// Bytes of a page: each is copied for each request that it answers.
const LONGEST: usize = 256 * 1024;
