//! Files that are read whole within a bound, and written whole or not at all.
//! Invariant: a file is never seen with half of its contents, or with wider permissions than it is to have
//! (`a_file_is_written_whole_with_its_mode`).

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// The contents of the file at `path`, which may be a key and are wiped; longer than `most` bytes is an error.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    read_from(&File::open(path)?, most)
}

/// The same of an open file. Waits for nobody: only what lies on a disk is read.
pub(crate) fn read_from(file: &File, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let length = usize::try_from(metadata.len()).ok().filter(|length| *length <= most);
    let length = length.ok_or_else(|| too_long(most))?;
    // Room for all of it at once, so that no part of a key stays behind in memory that was outgrown.
    let mut contents = Zeroizing::new(Vec::with_capacity(length + 1));
    let bound = u64::try_from(length).unwrap_or(u64::MAX);
    file.take(bound).read_to_end(&mut contents)?;
    Ok(contents)
}

/// All that `stream` gives until its end; more than `most` bytes is an error.
pub(crate) fn read_stream(stream: impl io::Read, most: usize) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    // One more tells whether there is more.
    stream.take(u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut contents)?;
    if contents.len() > most { Err(too_long(most)) } else { Ok(contents) }
}

fn too_long(most: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"))
}

/// Why a file that holds a secret is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// As [`read`] fails.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// Others than its owner may use it; its permissions.
    #[error("can be read by others (mode {0:03o})")]
    Exposed(u32),
}

/// As [`read`], for a file that its owner alone may use.
pub(crate) fn read_secret(path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(SecretFileError::Exposed(mode));
    }
    Ok(read_from(&file, most)?)
}

/// Puts `contents` at `path` in the place of what is there, readable as `mode` says.
pub(crate) fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let beside = beside(path);
    // One that a crash has left may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    new.write_all(contents)?;
    new.sync_all()?;
    fs::rename(&beside, path)
}

/// Makes `folder` and those above it that are missing, for their owner alone.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Bits of the group and of others.
const OTHERS: u32 = 0o077;

/// Where [`write`] writes first; a crash leaves it.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_stream_is_read_whole_or_refused_and_never_cut() {
        assert_eq!(read_stream(&b"12345678"[..], 8).unwrap(), b"12345678");
        let refused = read_stream(&b"123456789"[..], 8).unwrap_err();
        assert_eq!(refused.to_string(), "it has more than 8 bytes");
    }

    #[test]
    fn a_file_is_written_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        // Of a crash.
        fs::write(beside(&path), "half").unwrap();
        for (contents, mode) in [("first", 0o600), ("second", 0o640)] {
            write(&path, contents.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_longer_or_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(*read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read(folder.path(), 4).is_err());
        assert_eq!(read(Path::new("/dev/zero"), 4).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
