//! Reading all that the table holds for a name, in one call.

use super::{
    contents::{ContentsError, ItemContents, Version},
    item::{self, FoundItems},
    keys::{IssuerKey, SiteKeys},
};
use crate::{
    config::MAX_ISSUERS,
    name::Pattern,
    store::{
        PrivateKeyPem, Store, StoreError,
        batch::{self, Consistency},
        key_sealer::{KeySealer, SealedKey},
        state_table::{self, OpenOrders, OrderRecord},
    },
};

/// What the table holds for a name.
#[derive(Debug, Default)]
pub struct StoredCertificates {
    /// An entry per issuer and pattern that has items.
    pub stored: Vec<Stored>,
    /// Our record of the name; a broken one counts as none.
    pub record: Option<OrderRecord>,
    /// Orders of the name that have no certificate yet.
    pub open_orders: OpenOrders,
}

/// The items of one certificate, as far as they are there.
#[derive(Debug)]
pub struct Stored {
    /// Who issued it.
    pub issuer: IssuerKey,
    /// What it covers.
    pub pattern: Pattern,
    /// PEM, the leaf first.
    pub chain: StoredItem,
    /// The chain's.
    pub key: StoredKey,
    /// Caddy's metadata.
    pub metadata: StoredItem,
    /// The chain's item as it stands in the table, usable or not: what a commit replaces.
    pub seen: Option<Version>,
}

/// The items of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// The chain.
    Chain,
    /// The private key.
    Key,
    /// Caddy's metadata.
    Metadata,
}

impl Stored {
    /// The `PrimaryKey` of one of its items.
    #[must_use]
    pub fn item(&self, kind: ItemKind) -> String {
        let keys = self.issuer.site(&self.pattern);
        match kind {
            ItemKind::Chain => keys.chain,
            ItemKind::Key => keys.key,
            ItemKind::Metadata => keys.metadata,
        }
    }
}

/// One item of a certificate; none when it is not there.
pub type StoredItem = Option<Result<ItemContents, ContentsError>>;

/// The private key of a certificate; none when it is not there.
pub type StoredKey = Option<Result<PrivateKeyPem, ContentsError>>;

/// Reads what `issuers` have issued for `name` and, if it is no wildcard, for the one that covers it, and our record of `name`. Consistent.
pub async fn read(
    store: &Store,
    issuers: &[IssuerKey],
    name: &Pattern,
) -> Result<StoredCertificates, StoreError> {
    let patterns: Vec<_> = name.patterns().collect();
    let places: Vec<_> = issuers
        .iter()
        .take(MAX_ISSUERS + OURS)
        .flat_map(|issuer| patterns.iter().map(move |pattern| (issuer, pattern, issuer.site(pattern))))
        .collect();
    let keys = places.iter().flat_map(|(_, _, keys)| [&keys.chain, &keys.key, &keys.metadata]).cloned();
    let found = item::find(store, keys, Some(state_table::key(name))).await?;
    let record = found.record.as_ref().and_then(|item| OrderRecord::read(name, item));
    let mut stored = Vec::new();
    for (issuer, pattern, keys) in places {
        stored.extend(among(&found, &store.sealer, issuer, pattern, &keys).await?);
    }
    let open_orders = match &found.record {
        Some(item) => OpenOrders::read(name, item, &store.sealer).await?,
        None => OpenOrders::default(),
    };
    Ok(StoredCertificates { stored, record, open_orders })
}

/// Reads what `issuer` has issued for exactly `pattern`. Consistent.
pub async fn read_one(
    store: &Store,
    issuer: &IssuerKey,
    pattern: &Pattern,
) -> Result<Option<Stored>, StoreError> {
    let keys = issuer.site(pattern);
    let wanted = [&keys.chain, &keys.key, &keys.metadata].map(String::clone);
    let found = item::find(store, wanted, None).await?;
    among(&found, &store.sealer, issuer, pattern, &keys).await
}

async fn among(
    found: &FoundItems,
    sealer: &KeySealer,
    issuer: &IssuerKey,
    pattern: &Pattern,
    keys: &SiteKeys,
) -> Result<Option<Stored>, StoreError> {
    let stored = Stored {
        issuer: issuer.clone(),
        pattern: pattern.clone(),
        chain: part(found, &keys.chain),
        key: open(found, sealer, &keys.key).await?,
        metadata: part(found, &keys.metadata),
        seen: found.items.get(&keys.chain).map(Version::of),
    };
    let is_there = stored.chain.is_some() || stored.key.is_some() || stored.metadata.is_some();
    Ok(is_there.then_some(stored))
}

/// The private key at `key`. One that cannot be opened now is an error: taken for unusable, another certificate would be ordered.
pub(super) async fn open(found: &FoundItems, sealer: &KeySealer, key: &str) -> Result<StoredKey, StoreError> {
    let contents = match part(found, key) {
        None => return Ok(None),
        Some(Err(error)) => return Ok(Some(Err(error))),
        Some(Ok(contents)) => contents,
    };
    let opened = sealer.open(SealedKey::read(contents.into_bytes()), key).await?;
    Ok(Some(opened.map(PrivateKeyPem::from).map_err(ContentsError::Tampered)))
}

/// The chains that lie at `places`, at most [`CHAINS`] of them, in their order: the cheapest way to see that nothing has changed.
/// Not consistent; who finds something else reads it by [`read`].
pub async fn read_chains(
    store: &Store,
    places: &[(IssuerKey, Pattern)],
) -> Result<Vec<StoredItem>, StoreError> {
    let keys: Vec<_> =
        places.iter().take(CHAINS).map(|(issuer, pattern)| issuer.site(pattern).chain).collect();
    let found = item::find_with(store, keys.iter().cloned(), None, Consistency::Eventual).await?;
    Ok(keys.iter().map(|key| part(&found, key)).collect())
}

/// Beside those of the settings: the operator's own. A call has a hundred keys, six an issuer and the record's.
const OURS: usize = 1;
const _: () = assert!((MAX_ISSUERS + OURS) * 6 < batch::KEYS);
/// Chains of one call.
pub const CHAINS: usize = batch::KEYS;

fn part(found: &FoundItems, key: &str) -> StoredItem {
    found.items.get(key).map(ItemContents::of)
}
