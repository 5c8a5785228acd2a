//! A folder in Caddy's form, as its storage of files keeps it: the path of a file below it is the key of an item.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    TransferError,
    report::{Judged, Outcome},
};
use crate::{
    name::Pattern,
    store::certificate_table::{Account, IssuerKey, Stored, StoredAccount},
    whole_file,
};

/// The folders of certificates and accounts below `root`, sorted by their paths; whatever else Caddy keeps is passed over.
pub(super) fn folders(root: &Path) -> Result<Vec<String>, TransferError> {
    let mut found = Vec::new();
    let tops = ["certificates", "acme"].map(|top| root.join(top).is_dir().then_some(top));
    if tops == [None, None] {
        return Err(TransferError::NoStorage(root.to_owned()));
    }
    for top in tops.into_iter().flatten() {
        for issuer in names(&root.join(top))? {
            let parent =
                if top == "acme" { format!("{top}/{issuer}/users") } else { format!("{top}/{issuer}") };
            let below = root.join(&parent);
            if below.is_dir() {
                found.extend(names(&below)?.into_iter().map(|name| format!("{parent}/{name}")));
            }
        }
    }
    Ok(found)
}

/// The folders in `folder`. A name that is no text is none that Caddy writes: it is named with what can be shown of it.
fn names(folder: &Path) -> Result<Vec<String>, TransferError> {
    let refuse = |source| TransferError::Folder { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(refuse)? {
        let entry = entry.map_err(refuse)?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The files of a certificate, as far as they are there.
pub(super) fn read_certificate(root: &Path, issuer: &IssuerKey, pattern: &Pattern) -> Result<Stored, Judged> {
    let keys = issuer.site(pattern);
    let contents = |contents: Zeroizing<Vec<u8>>| Ok(contents.into());
    Ok(Stored {
        issuer: issuer.clone(),
        pattern: pattern.clone(),
        chain: read(root, &keys.chain)?.map(contents),
        key: read(root, &keys.key)?.map(|contents| Ok(contents.into())),
        metadata: read(root, &keys.metadata)?.map(contents),
        seen: None,
    })
}

/// The files of an account, as far as they are there.
pub(super) fn read_account(root: &Path, issuer: &IssuerKey, email: &str) -> Result<StoredAccount, Judged> {
    let keys = issuer.account(email);
    Ok(StoredAccount {
        account: read(root, &keys.account)?.and_then(|text| Account::read(&text)),
        key: read(root, &keys.key)?.map(Into::into),
        seen: None,
    })
}

fn read(root: &Path, key: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Judged> {
    match whole_file::read(&root.join(key), LONGEST) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let file = key.rsplit('/').next().unwrap_or_default();
            Err(Judged::new(Outcome::Damaged, format!("`{file}` cannot be read: {error}")))
        }
    }
}

/// Writes the files of items below `root`, in this order; only their owner can read them, nor list their folders.
pub(super) fn write(root: &Path, files: &[(&str, &[u8])]) -> Result<(), TransferError> {
    for (key, contents) in files {
        let path = root.join(key);
        let written = path.parent().map_or(Ok(()), whole_file::make_folder);
        let written = written.and_then(|()| whole_file::write(&path, contents, OWNER_ALONE));
        written.map_err(|source| TransferError::File { path: PathBuf::from(&path), source })?;
    }
    Ok(())
}

const OWNER_ALONE: u32 = 0o600;
/// No item of the table is longer (`DynamoDB`: 400 KB, of which base64 leaves three quarters).
const LONGEST: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_is_no_storage_is_refused_and_strange_entries_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let error = folders(root.path()).unwrap_err();
        assert!(matches!(error, TransferError::NoStorage(_)), "{error}");
        for folder in [
            "certificates/ca.example-dir/b.example",
            "certificates/ca.example-dir/a.example",
            "acme/ca.example-dir/users/ops@example.com",
            "acme/ca.example-dir/challenge_tokens",
            "acme/other.example-dir",
            "locks",
        ] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("certificates/last_clean.json"), "{}").unwrap();
        assert_eq!(
            folders(root.path()).unwrap(),
            [
                "certificates/ca.example-dir/a.example",
                "certificates/ca.example-dir/b.example",
                "acme/ca.example-dir/users/ops@example.com"
            ]
        );
    }

    #[test]
    fn files_and_folders_are_their_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let key = "certificates/ca.example-dir/a.example/a.example.key";
        write(root.path(), &[(key, b"key")]).unwrap();
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(key), 0o600);
        for folder in ["certificates", "certificates/ca.example-dir", "certificates/ca.example-dir/a.example"]
        {
            assert_eq!(mode(folder), 0o700, "{folder}");
        }
    }
}
