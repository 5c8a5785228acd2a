//! From Caddy's files into the tables.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{
    Mode, TransferError, decision, each, files,
    report::{Judged, Outcome, Transfer},
};
use crate::{
    certificates::{
        choice::Candidate,
        issue::{record_of, watched},
        listing, wildcard,
    },
    clock,
    config::CertificatesConfig,
    name::Pattern,
    store::{
        Store, StoreError,
        certificate_table::{self, Account, AccountKeyCommit, CaddyFolder, Commit, IssuerKey, Stored},
        instant::Micros,
        state_table::OrderRecord,
    },
};

/// Copies what lies in `root`, Caddy's storage of files, into the tables; `config` says what of it is presented and renewed.
pub async fn import(
    store: &Store,
    config: &CertificatesConfig,
    root: &Path,
    mode: Mode,
) -> Result<Transfer, TransferError> {
    let import = Arc::new(Import {
        store: store.clone(),
        config: config.clone(),
        issuer_keys: listing::issuer_keys(config),
        root: root.to_owned(),
        mode,
    });
    let act = |path: String| {
        let import = Arc::clone(&import);
        async move { import.folder(&path).await.map(|judged| (path, judged)) }
    };
    let mut transfer = Transfer { dry_run: mode == Mode::DryRun, ..Transfer::default() };
    let mut copied = Vec::new();
    for (path, judged) in each(files::folders(root)?, act).await? {
        if matches!(judged.outcome, Outcome::Copied | Outcome::Unchanged) {
            copied.extend(CaddyFolder::parse(&path));
        }
        transfer.add(&path, judged);
    }
    transfer.warnings = unused(&copied, config);
    Ok(transfer)
}

struct Import {
    store: Store,
    config: CertificatesConfig,
    issuer_keys: Vec<IssuerKey>,
    root: PathBuf,
    mode: Mode,
}

impl Import {
    async fn folder(&self, path: &str) -> Result<Judged, TransferError> {
        Ok(match CaddyFolder::parse(path) {
            None => Judged::new(Outcome::Foreign, "it is for no name that can be served"),
            Some(CaddyFolder::Certificate(issuer, _)) if issuer.is_ours() => {
                Judged::new(Outcome::Foreign, "it is not Caddy's")
            }
            Some(CaddyFolder::Certificate(issuer, pattern)) => self.certificate(&issuer, &pattern).await?,
            Some(CaddyFolder::Account(issuer, email)) => self.account(&issuer, &email).await?,
        })
    }

    async fn certificate(&self, issuer: &IssuerKey, pattern: &Pattern) -> Result<Judged, StoreError> {
        let from = match files::read_certificate(&self.root, issuer, pattern) {
            Ok(from) => from,
            Err(judged) => return Ok(judged),
        };
        certificate_table::repeat_on_conflict(|| async {
            let (now, to) = (clock::wall(), certificate_table::read_one(&self.store, issuer, pattern).await?);
            let ours = match decision::certificate(&from, to.as_ref(), now) {
                Ok(ours) => ours,
                Err(judged) => return Ok(judged),
            };
            self.commit(&from, &ours, to.as_ref(), now).await?;
            Ok(Judged::new(Outcome::Copied, format!("ends {}", Micros::of(ours.pair.life.not_after))))
        })
        .await
    }

    async fn commit(
        &self,
        from: &Stored,
        ours: &Candidate,
        to: Option<&Stored>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        // `decision` has found all three.
        let (Some(Ok(chain)), Some(Ok(key)), Some(Ok(metadata))) = (&from.chain, &from.key, &from.metadata)
        else {
            return Ok(());
        };
        if self.mode == Mode::DryRun {
            return Ok(());
        }
        let record = self.record(ours);
        let begun = ours.pair.life.not_before;
        let info = record
            .as_ref()
            .and_then(|record| watched(&record.name, record.directory.as_deref(), &ours.pair, begun));
        let commit = Commit {
            issuer: &from.issuer,
            pattern: &from.pattern,
            chain,
            key,
            metadata,
            replaced: to.and_then(|to| to.seen.as_ref()),
            record: record.as_ref(),
            renewal_info: info.as_ref(),
            event: None,
        };
        certificate_table::commit(&self.store, &commit, now).await
    }

    /// So that it is renewed, although nobody asks for it. Where its issuer is unknown nothing is presented, nor renewed.
    fn record(&self, ours: &Candidate) -> Option<OrderRecord> {
        let name = &ours.pattern;
        let is_renewed = matches!(name, Pattern::Exact(_)) || wildcard::is_listed(&self.config, name);
        let is_presented = is_renewed && self.issuer_keys.contains(&ours.issuer);
        let of_issuer = |directory: &&String| IssuerKey::of_directory(directory) == ours.issuer;
        let directory = self.config.issuers.iter().map(|issuer| &issuer.directory).find(of_issuer).cloned();
        is_presented.then(|| OrderRecord { directory, ..record_of(name, ours.issuer.as_str(), &ours.pair) })
    }

    async fn account(&self, issuer: &IssuerKey, email: &str) -> Result<Judged, StoreError> {
        let from = match files::read_account(&self.root, issuer, email) {
            Ok(from) => from,
            Err(judged) => return Ok(judged),
        };
        certificate_table::repeat_on_conflict(|| async {
            let to = certificate_table::find_account(&self.store, issuer, email).await?;
            if let Err(judged) = decision::account(&from, &to) {
                return Ok(judged);
            }
            let (account, replaced) = (from.account.as_ref(), to.seen.as_ref());
            // `decision` has found a key.
            if let (Some(key), Mode::Write) = (&from.key, self.mode) {
                let commit = AccountKeyCommit { issuer, email, replaced, key, account };
                certificate_table::commit_account_key(&self.store, &commit, clock::wall()).await?;
            }
            let location = account.and_then(Account::location).unwrap_or_default();
            Ok(Judged::new(Outcome::Copied, location))
        })
        .await
    }
}

/// What is in the table by now and not used, or not for long, since the settings do not name its issuer, its wildcard or its address.
fn unused(copied: &[CaddyFolder], config: &CertificatesConfig) -> Vec<String> {
    let (read, ordered_from) = (listing::issuer_keys(config), &config.issuers);
    let used = ordered_from.iter().map(|issuer| {
        let keys = IssuerKey::of_directory(&issuer.directory).account(&issuer.email);
        keys.account
    });
    let used: BTreeSet<_> = used.collect();
    let of_folder = |folder: &CaddyFolder| match folder {
        CaddyFolder::Certificate(issuer, _) if !read.contains(issuer) => Some(format!(
            "certificates of `{}` are not presented: add its directory to `certificates.issuers`, or to `certificates.also_read`",
            issuer.as_str()
        )),
        CaddyFolder::Certificate(_, pattern @ Pattern::Wildcard(_))
            if !wildcard::is_listed(config, pattern) =>
        {
            Some(format!(
                "the certificate of `{pattern}` is presented to its end and not renewed: name it in `certificates.wildcards`; without that, \
                 each name below it gets a certificate of its own then"
            ))
        }
        CaddyFolder::Account(issuer, email) if !used.contains(&issuer.account(email).account) => {
            Some(format!(
                "the account of `{email}` with `{}` is not used: no issuer of `certificates.issuers` has this directory and `email`",
                issuer.as_str()
            ))
        }
        CaddyFolder::Certificate(..) | CaddyFolder::Account(..) => None,
    };
    copied.iter().filter_map(of_folder).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{IssuerConfig, WildcardCertificate};

    #[test]
    fn what_the_settings_do_not_name_is_said_once() {
        let folder = |path: &str| CaddyFolder::parse(path).unwrap();
        let copied = [
            "certificates/ca.example-dir/a.example",
            "certificates/other.example-dir/a.example",
            "certificates/other.example-dir/b.example",
            "certificates/read.example-dir/b.example",
            "certificates/read.example-dir/wildcard_.c.example",
            "certificates/read.example-dir/wildcard_.d.example",
            "acme/ca.example-dir/users/ops@example.com",
            "acme/ca.example-dir/users/default",
        ]
        .map(folder);
        let config = CertificatesConfig {
            issuers: vec![IssuerConfig::of("https://ca.example/dir", "ops@example.com")],
            also_read: vec!["https://read.example/dir".to_owned()],
            wildcards: vec![WildcardCertificate {
                name: Pattern::parse("*.d.example").unwrap(),
                zone: "Z1".to_owned().try_into().unwrap(),
                record: None,
            }],
            ..CertificatesConfig::default()
        };
        let warnings = unused(&copied, &config);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("`other.example-dir` are not presented"), "{warnings:?}");
        assert!(warnings[1].contains("account of `default`"), "{warnings:?}");
        assert!(warnings[2].contains("`*.c.example` is presented to its end"), "{warnings:?}");
    }
}
