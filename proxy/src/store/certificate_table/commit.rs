//! Committing a new certificate: key, chain, metadata, and our items of the name in one transaction.

use std::time::SystemTime;

use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};

use super::{contents::Version, item, keys::IssuerKey};
use crate::{
    name::Pattern,
    store::{
        Item, PrivateKeyPem, Store, StoreError,
        state_table::{Event, OrderRecord, RenewalInfo},
    },
};

/// A certificate to be stored.
pub struct Commit<'a> {
    /// Who issued it.
    pub issuer: &'a IssuerKey,
    /// What it covers.
    pub pattern: &'a Pattern,
    /// PEM, the leaf first.
    pub chain: &'a [u8],
    /// The chain's.
    pub key: &'a PrivateKeyPem,
    /// Caddy's metadata, as [`CertificateMetadata::write`](super::CertificateMetadata::write) makes it.
    pub metadata: &'a [u8],
    /// The chain's item as read after the lease was taken; `None` when there was none.
    pub replaced: Option<&'a Version>,
    /// Our record of the name, where it is to be written along with the certificate.
    pub record: Option<&'a OrderRecord>,
    /// Where its CA is to be asked when to renew it; it is due from the beginning.
    pub renewal_info: Option<&'a RenewalInfo>,
    /// What programs are told of it.
    pub event: Option<&'a Event>,
}

/// Writes all of it or nothing; [`StoreError::Conflict`] when the chain is no longer what was read.
pub async fn commit(store: &Store, commit: &Commit<'_>, now: SystemTime) -> Result<(), StoreError> {
    let tables = store.tables();
    let keys = commit.issuer.site(commit.pattern);
    let (unchanged, values) = Version::unchanged(commit.replaced);
    let chain = put(&tables.certificates, item::item(&keys.chain, commit.chain, now));
    let encrypted = store.sealer.seal(commit.key.as_bytes(), &keys.key).await?;
    let puts = [
        chain.condition_expression(unchanged).set_expression_attribute_values(values),
        put(&tables.certificates, item::item(&keys.key, encrypted.contents(), now)),
        put(&tables.certificates, item::item(&keys.metadata, commit.metadata, now)),
    ];
    let record = commit.record.map(|record| put(&tables.state, record.write()));
    let info = commit.renewal_info.map(|info| put(&tables.state, info.write(now)));
    let mut transaction = store.client().transact_write_items();
    for put in puts.into_iter().chain(record).chain(info) {
        let put = put.build().map_err(|error| StoreError::Refused(error.into()))?;
        transaction = transaction.transact_items(TransactWriteItem::builder().put(put).build());
    }
    if let Some(event) = commit.event {
        let put = event.put(store).map_err(|error| StoreError::Refused(error.into()))?;
        transaction = transaction.transact_items(TransactWriteItem::builder().put(put).build());
    }
    transaction.send().await?;
    Ok(())
}

/// Removes what `issuer` has issued for `pattern`, all of it or nothing; [`StoreError::Conflict`] when the chain is not `seen` any more, or
/// there is one by now where none was.
pub async fn remove(
    store: &Store,
    issuer: &IssuerKey,
    pattern: &Pattern,
    seen: Option<&Version>,
) -> Result<(), StoreError> {
    let keys = issuer.site(pattern);
    let (unchanged, values) = Version::unchanged(seen);
    let delete = |key: &str| {
        Delete::builder().table_name(&store.tables().certificates).set_key(Some(item::deleted(key)))
    };
    let chain = delete(&keys.chain).condition_expression(unchanged).set_expression_attribute_values(values);
    let mut transaction = store.client().transact_write_items();
    for delete in [chain, delete(&keys.key), delete(&keys.metadata)] {
        let delete = delete.build().map_err(|error| StoreError::Refused(error.into()))?;
        transaction = transaction.transact_items(TransactWriteItem::builder().delete(delete).build());
    }
    transaction.send().await?;
    Ok(())
}

fn put(table: &str, item: Item) -> aws_sdk_dynamodb::types::builders::PutBuilder {
    Put::builder().table_name(table).set_item(Some(item))
}

/// What `write` gives, which reads the items that it replaces; it is called again when somebody else has written in between.
pub async fn repeat_on_conflict<T, F>(write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 1..ATTEMPTS {
        match write().await {
            Err(StoreError::Conflict) => {}
            outcome => return outcome,
        }
    }
    write().await
}

const ATTEMPTS: u32 = 4;
