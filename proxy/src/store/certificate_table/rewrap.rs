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
    state_table::{LINK_KEY_CONTEXT, find_sealed_link_key, replace_link_key},
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

/// Has every private key of certificates and accounts, and the key of setup links, kept as `to` says. Whoever reads or writes meanwhile is
/// not disturbed, and the call may be repeated. Keys of session tickets and of orders follow by themselves within days.
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
            done.count(outcome?);
        }
    }
    if let Some(outcome) = repeat_on_conflict(|| link_key(store, &sealer)).await? {
        done.count(outcome);
    }
    done.unusable.sort();
    Ok(done)
}

impl Rewrapped {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Rewrapped => self.rewrapped += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Unusable(problem) => self.unusable.push(problem),
        }
    }
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
    let encrypted = match encrypted_anew(store, sealer, SealedKey::read(contents.into_bytes()), key).await? {
        Anew::Encrypted(encrypted) => encrypted,
        Anew::Not(outcome) => return Ok(outcome),
    };
    let (unchanged, values) = Version::unchanged(Some(&Version::of(there)));
    // Its date stays: it is the same key.
    let mut anew = there.clone();
    anew.insert(CONTENTS.to_owned(), AttributeValue::S(item::encode(encrypted.contents())));
    let put = store.client().put_item().table_name(&store.tables().certificates).set_item(Some(anew));
    put.condition_expression(unchanged).set_expression_attribute_values(values).send().await?;
    Ok(Outcome::Rewrapped)
}

/// None, where there is no such key.
async fn link_key(store: &Store, sealer: &KeySealer) -> Result<Option<Outcome>, StoreError> {
    let Some(there) = find_sealed_link_key(store).await? else { return Ok(None) };
    Ok(Some(match encrypted_anew(store, sealer, SealedKey::read(there.clone()), LINK_KEY_CONTEXT).await? {
        Anew::Encrypted(encrypted) => {
            replace_link_key(store, there, encrypted.contents()).await?;
            Outcome::Rewrapped
        }
        Anew::Not(outcome) => outcome,
    }))
}

/// A key as it is to be kept, or why it stays as it is.
enum Anew {
    Encrypted(SealedKey),
    Not(Outcome),
}

async fn encrypted_anew(
    store: &Store,
    sealer: &KeySealer,
    encrypted: SealedKey,
    context: &str,
) -> Result<Anew, StoreError> {
    if sealer.is_current(&encrypted).await? {
        return Ok(Anew::Not(Outcome::Unchanged));
    }
    let unusable = |problem| Ok(Anew::Not(Outcome::Unusable(problem)));
    match store.sealer.open(encrypted, context).await.map_err(StoreError::from) {
        Ok(Ok(secret)) => Ok(Anew::Encrypted(sealer.seal(&secret, context).await?)),
        Ok(Err(error)) => unusable(format!("`{context}` {error}")),
        // Of this item; the others may be of a key that is there.
        Err(StoreError::Sealing(error)) => unusable(format!("`{context}`: {error}")),
        Err(error) => Err(error),
    }
}

/// Keys that are written at once.
const AT_ONCE: usize = 8;
