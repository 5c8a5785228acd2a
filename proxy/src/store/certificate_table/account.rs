//! The ACME account of the fleet, in Caddy's form: one key, which the first instance chooses for all.

use std::time::SystemTime;

use super::{
    contents::ItemContents,
    document::{Document, list, quoted},
    item::{self, PRIMARY},
    keys::IssuerKey,
    private_key::PrivateKeyPem,
};
use crate::store::{Store, StoreError, key_sealer::SealedKey};

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

    pub(super) fn read(text: &[u8]) -> Option<Self> {
        Document::read(text).map(Self)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        self.0.write()
    }
}

/// The account and its key, as far as they are there.
pub async fn find_account(
    store: &Store,
    issuer: &IssuerKey,
    email: &str,
) -> Result<(Option<Account>, Option<PrivateKeyPem>), StoreError> {
    let keys = issuer.account(email);
    let found = item::find(store, [keys.account.clone(), keys.key.clone()], None).await?;
    let contents = |key: &str| found.items.get(key).and_then(|item| ItemContents::of(item).ok());
    let key =
        contents(&keys.key).map(|contents| store.sealer.open(SealedKey::read(contents.into_bytes())).into());
    Ok((contents(&keys.account).and_then(|text| Account::read(&text)), key))
}

/// Stores `key` as the fleet's account key unless there is one; [`StoreError::Conflict`] when there is.
pub async fn share_account_key(
    store: &Store,
    issuer: &IssuerKey,
    email: &str,
    key: &PrivateKeyPem,
    now: SystemTime,
) -> Result<(), StoreError> {
    let put = store.client().put_item().table_name(&store.tables().certificates);
    let put = put.set_item(Some(item::item(
        &issuer.account(email).key,
        store.sealer.seal(key.as_bytes()).contents(),
        now,
    )));
    let absent = format!("attribute_not_exists({PRIMARY})");
    put.condition_expression(absent).send().await?;
    Ok(())
}

/// Stores the CA's answer about the account.
pub async fn put_account(
    store: &Store,
    issuer: &IssuerKey,
    email: &str,
    account: &Account,
    now: SystemTime,
) -> Result<(), StoreError> {
    let put = store.client().put_item().table_name(&store.tables().certificates);
    put.set_item(Some(item::item(&issuer.account(email).account, &account.write(), now))).send().await?;
    Ok(())
}
