//! Private keys encrypted anew, as the settings say now: for an operator's command, never part of serving.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{
    commit::repeat_on_conflict,
    contents::{ItemContents, Version},
    folders::folders,
    item::{self, CONTENTS},
    keys::CaddyFolder,
};
use crate::store::{
    Store, StoreError,
    key_sealer::{KeySealer, SealedKey},
};

/// How keys are to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewrapTo {
    /// As `store.key_encryption` says.
    Settings,
    /// In clear, before `store.key_encryption` is turned off.
    Clear,
}

/// What became of the private keys of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrapped {
    /// So many were written anew.
    pub rewrapped: usize,
    /// So many were as they are to be.
    pub unchanged: usize,
    /// Those that cannot be used, each with its item and what is wrong.
    pub unusable: Vec<String>,
}

enum Outcome {
    Rewrapped,
    Unchanged,
    Unusable(String),
}

/// Has every private key of certificates and accounts kept as `to` says. Whoever reads or writes meanwhile is not disturbed, and the
/// call may be repeated. Keys of session tickets and of orders follow by themselves within days.
pub async fn rewrap(store: &Store, to: RewrapTo) -> Result<Rewrapped, StoreError> {
    let sealer = match to {
        RewrapTo::Settings => store.sealer.clone(),
        RewrapTo::Clear => KeySealer::Clear,
    };
    let keys: Vec<_> = folders(store).await?.iter().map(key_of).collect();
    let mut done = Rewrapped::default();
    for some in keys.chunks(AT_ONCE) {
        let mut running = JoinSet::new();
        for key in some {
            let (store, sealer, key) = (store.clone(), sealer.clone(), key.clone());
            running.spawn(async move { repeat_on_conflict(|| one(&store, &sealer, &key)).await });
        }
        for outcome in running.join_all().await {
            match outcome? {
                Outcome::Rewrapped => done.rewrapped += 1,
                Outcome::Unchanged => done.unchanged += 1,
                Outcome::Unusable(problem) => done.unusable.push(problem),
            }
        }
    }
    done.unusable.sort();
    Ok(done)
}

fn key_of(folder: &CaddyFolder) -> String {
    match folder {
        CaddyFolder::Certificate(issuer, pattern) => issuer.site(pattern).key,
        CaddyFolder::Account(issuer, email) => issuer.account(email).key,
    }
}

async fn one(store: &Store, sealer: &KeySealer, key: &str) -> Result<Outcome, StoreError> {
    let found = item::find(store, [key.to_owned()], None).await?;
    // Deleted since it was listed, or a certificate that has no key.
    let Some(there) = found.items.get(key) else { return Ok(Outcome::Unchanged) };
    let contents = match ItemContents::of(there) {
        Ok(contents) => contents,
        Err(error) => return Ok(Outcome::Unusable(format!("`{key}` {error}"))),
    };
    let encrypted = SealedKey::read(contents.into_bytes());
    if sealer.is_current(&encrypted).await? {
        return Ok(Outcome::Unchanged);
    }
    let secret = match store.sealer.open(encrypted, key).await.map_err(StoreError::from) {
        Ok(Ok(secret)) => secret,
        Ok(Err(error)) => return Ok(Outcome::Unusable(format!("`{key}` {error}"))),
        // Of this item; the others may be of a key that is there.
        Err(StoreError::Sealing(error)) => return Ok(Outcome::Unusable(format!("`{key}`: {error}"))),
        Err(error) => return Err(error),
    };
    let encrypted = sealer.seal(&secret, key).await?;
    let (unchanged, values) = Version::unchanged(Some(&Version::of(there)));
    // Its date stays: it is the same key.
    let mut anew = there.clone();
    anew.insert(CONTENTS.to_owned(), AttributeValue::S(item::encode(encrypted.contents())));
    let put = store.client().put_item().table_name(&store.tables().certificates).set_item(Some(anew));
    put.condition_expression(unchanged).set_expression_attribute_values(values).send().await?;
    Ok(Outcome::Rewrapped)
}

/// Keys that are written at once.
const AT_ONCE: usize = 8;
