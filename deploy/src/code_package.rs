//! The package of a function's code: a file here, and an object in a bucket.

use std::path::{Path, PathBuf};

/// A package, named after its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodePackage(PathBuf);

impl CodePackage {
    /// Where it is here.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// As its bucket knows it.
    pub(crate) fn key(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl From<PathBuf> for CodePackage {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}
