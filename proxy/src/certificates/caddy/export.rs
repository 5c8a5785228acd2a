//! From the table into files that Caddy serves from.

use std::path::Path;

use super::{
    Mode, TransferError, decision, each, files,
    report::{Judged, Outcome, Transfer},
};
use crate::{
    clock,
    store::{
        Store,
        certificate_table::{self, CaddyFolder, IssuerKey, Stored, StoredAccount},
        instant::Micros,
    },
};

/// Copies the certificates and accounts of the table into `root`, a folder in the form of Caddy's storage of files.
pub async fn export(store: &Store, root: &Path, mode: Mode) -> Result<Transfer, TransferError> {
    let act = |folder: CaddyFolder| {
        let (store, root) = (store.clone(), root.to_owned());
        async move { one(&store, &folder, &root, mode).await.map(|judged| (folder, judged)) }
    };
    let mut transfer = Transfer { dry_run: mode == Mode::DryRun, ..Transfer::default() };
    for (folder, judged) in each(certificate_table::folders(store).await?, act).await? {
        transfer.add(&folder, judged);
    }
    Ok(transfer)
}

async fn one(store: &Store, folder: &CaddyFolder, root: &Path, mode: Mode) -> Result<Judged, TransferError> {
    match folder {
        CaddyFolder::Certificate(issuer, _) if issuer.is_ours() => {
            let detail = "Caddy orders from no such issuer, and so does not look for it";
            Ok(Judged::new(Outcome::Foreign, detail))
        }
        CaddyFolder::Certificate(issuer, pattern) => {
            let to = files::read_certificate(root, issuer, pattern);
            certificate(certificate_table::read_one(store, issuer, pattern).await?, to, root, mode)
        }
        CaddyFolder::Account(issuer, email) => {
            let from = certificate_table::find_account(store, issuer, email).await?;
            account(&from, (issuer, email), root, mode)
        }
    }
}

fn certificate(
    from: Option<Stored>,
    to: Result<Stored, Judged>,
    root: &Path,
    mode: Mode,
) -> Result<Judged, TransferError> {
    // Deleted since it was listed.
    let Some(from) = from else { return Ok(Judged::new(Outcome::Damaged, "it is there no longer")) };
    // What cannot be read is not known to be older.
    let to = match to {
        Ok(to) => to,
        Err(judged) => return Ok(judged),
    };
    let ours = match decision::certificate(&from, Some(&to), clock::wall()) {
        Ok(ours) => ours,
        Err(judged) => return Ok(judged),
    };
    if let (Some(Ok(chain)), Some(Ok(key)), Some(Ok(metadata)), Mode::Write) =
        (&from.chain, &from.key, &from.metadata, mode)
    {
        let keys = from.issuer.site(&from.pattern);
        let files: [(&str, &[u8]); 3] =
            [(&keys.key, key.as_bytes()), (&keys.chain, chain), (&keys.metadata, metadata)];
        files::write(root, &files)?;
    }
    Ok(Judged::new(Outcome::Copied, format!("ends {}", Micros::of(ours.pair.life.not_after))))
}

fn account(
    from: &StoredAccount,
    (issuer, email): (&IssuerKey, &str),
    root: &Path,
    mode: Mode,
) -> Result<Judged, TransferError> {
    let to = match files::read_account(root, issuer, email) {
        Ok(to) => to,
        Err(judged) => return Ok(judged),
    };
    if let Err(judged) = decision::account(from, &to) {
        return Ok(judged);
    }
    let (Some(key), Some(account)) = (&from.key, &from.account) else {
        return Ok(Judged::new(Outcome::Damaged, "it is not complete"));
    };
    if mode == Mode::Write {
        let keys = issuer.account(email);
        files::write(root, &[(&keys.key, key.as_bytes()), (&keys.account, &account.write())])?;
    }
    Ok(Judged::new(Outcome::Copied, account.location().unwrap_or_default()))
}
