//! The ACME account of the fleet, in Caddy's form: one key, which the first instance chooses for all.

use std::time::SystemTime;

use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};

use super::{
    contents::{ItemContents, Version},
    document::{Document, list, quoted},
    item,
    keys::IssuerKey,
    read,
};
use crate::store::{PrivateKeyPem, Store, StoreError};

/// What Caddy stores of an account: RFC 8555 §7.1.2 with the account's URL as `location`.
#[derive(Debug, Clone, Default)]
pub struct Account(Document);

impl Account {
    /// Of the account that the CA gave `location`.
    #[must_use]
    pub fn new(email: &str, location: &str) -> Self {
        let mut document = Document::default();
        document.set("status", &quoted("valid"));
        if !email.is_empty() {
            document.set("contact", &list(&[format!("mailto:{email}")], 1));
        }
        document.set("termsOfServiceAgreed", "true");
        document.set("location", &quoted(location));
        Self(document)
    }

    /// Its URL, which every request names as `kid` (RFC 8555 §6.2).
    #[must_use]
    pub fn location(&self) -> Option<String> {
        self.0.text("location").filter(|location| !location.is_empty())
    }

    /// Reads an item; `None` when it is no JSON object.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        Document::read(text).map(Self)
    }

    /// As Go's `MarshalIndent(_, "", "\t")` writes it.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        self.0.write()
    }
}

/// The account and its key, as far as they are there.
#[derive(Debug, Default)]
pub struct StoredAccount {
    /// What the CA answered when it was registered.
    pub account: Option<Account>,
    /// Its key.
    pub key: Option<PrivateKeyPem>,
    /// The key's item, however it looks; `None` when there is none.
    pub seen: Option<Version>,
}

/// Reads the account of `email`.
pub async fn find_account(
    store: &Store,
    issuer: &IssuerKey,
    email: &str,
) -> Result<StoredAccount, StoreError> {
    let keys = issuer.account(email);
    let found = item::find(store, [keys.account.clone(), keys.key.clone()], None).await?;
    let contents = |key: &str| found.items.get(key).and_then(|item| ItemContents::of(item).ok());
    let key = read::open(&found, &store.sealer, &keys.key).await?.and_then(Result::ok);
    let account = contents(&keys.account).and_then(|text| Account::read(&text));
    Ok(StoredAccount { account, key, seen: found.items.get(&keys.key).map(Version::of) })
}

/// A key for the fleet's account, to be stored.
#[derive(Debug)]
pub struct AccountKeyCommit<'a> {
    /// The CA.
    pub issuer: &'a IssuerKey,
    /// Whose account it is.
    pub email: &'a str,
    /// The key's item as it was read; `None` when there was none.
    pub replaced: Option<&'a Version>,
    /// The key.
    pub key: &'a PrivateKeyPem,
    /// What the CA has answered about it; absent, it is not registered yet.
    pub account: Option<&'a Account>,
}

/// Stores the key and what the CA said of it, both or neither; [`StoreError::Conflict`] when the key is no longer what was read.
pub async fn commit_account_key(
    store: &Store,
    commit: &AccountKeyCommit<'_>,
    now: SystemTime,
) -> Result<(), StoreError> {
    let (table, keys) = (&store.tables().certificates, commit.issuer.account(commit.email));
    let refused = |error: aws_sdk_dynamodb::error::BuildError| StoreError::Refused(error.into());
    let (unchanged, values) = Version::unchanged(commit.replaced);
    let encrypted = store.sealer.seal(commit.key.as_bytes(), &keys.key).await?;
    let key =
        Put::builder().table_name(table).set_item(Some(item::item(&keys.key, encrypted.contents(), now)));
    let key = key.condition_expression(unchanged).set_expression_attribute_values(values);
    let account = if let Some(account) = commit.account {
        let put = item::item(&keys.account, &account.write(), now);
        let put = Put::builder().table_name(table).set_item(Some(put));
        TransactWriteItem::builder().put(put.build().map_err(refused)?)
    } else {
        // What is there is another key's.
        let delete = Delete::builder().table_name(table).set_key(Some(item::deleted(&keys.account)));
        TransactWriteItem::builder().delete(delete.build().map_err(refused)?)
    };
    let key = TransactWriteItem::builder().put(key.build().map_err(refused)?);
    let transaction = store.client().transact_write_items();
    transaction.transact_items(key.build()).transact_items(account.build()).send().await?;
    Ok(())
}
