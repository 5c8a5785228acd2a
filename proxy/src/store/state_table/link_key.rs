//! The key by which instances sign setup links: the item `links`/`key`. Without the item no link is one.
//! Invariants: of instances that make it at once one does, and all have that one (`instances_that_make_the_key_at_once_have_the_same`); its
//! secret is encrypted as private keys are.

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{find, text};
use crate::{
    setup_link::LinkKey,
    store::{Store, StoreError, if_held, instant::Micros, key_sealer::SealedKey},
};

/// The fleet's key; absent, none was made yet, or what is there is none.
pub async fn find_link_key(store: &Store) -> Result<Option<LinkKey>, StoreError> {
    let Some(secret) = find_sealed_link_key(store).await? else { return Ok(None) };
    let secret = store.sealer.open(SealedKey::read(secret), LINK_KEY_CONTEXT).await?;
    Ok(secret.ok().and_then(|secret| LinkKey::read(&secret)))
}

/// The secret as the table has it.
pub(in crate::store) async fn find_sealed_link_key(store: &Store) -> Result<Option<Vec<u8>>, StoreError> {
    let item = find(store, PARTITION, SORT).await?.unwrap_or_default();
    Ok(item.get("secret").and_then(|secret| secret.as_b().ok()).map(|secret| secret.as_ref().to_vec()))
}

/// Writes the same secret as it is kept from now on. [`StoreError::Conflict`] when `there` is no longer what the table has.
pub(in crate::store) async fn replace_link_key(
    store: &Store,
    there: Vec<u8>,
    anew: &[u8],
) -> Result<(), StoreError> {
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update.key("pk", text(PARTITION)).key("sk", text(SORT));
    let update = update.update_expression("SET secret = :secret").condition_expression("secret = :there");
    let update = update.expression_attribute_values(":secret", AttributeValue::B(anew.to_vec().into()));
    update.expression_attribute_values(":there", AttributeValue::B(there.into())).send().await?;
    Ok(())
}

/// The fleet's key; where there is none, `new` becomes it.
pub async fn ensure_link_key(store: &Store, new: &LinkKey, now: Micros) -> Result<LinkKey, StoreError> {
    if let Some(key) = find_link_key(store).await? {
        return Ok(key);
    }
    put_new(store, new, now).await?;
    let fault = "is no key; delete the item, and all setup links end".to_owned();
    let unfit = || StoreError::Misshapen { key: format!("{PARTITION}/{SORT}"), attribute: "secret", fault };
    // Whose was written first says the table.
    find_link_key(store).await?.ok_or_else(unfit)
}

/// Writes `new` where nothing is.
async fn put_new(store: &Store, new: &LinkKey, now: Micros) -> Result<(), StoreError> {
    let encrypted = store.sealer.seal(new.secret(), LINK_KEY_CONTEXT).await?;
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update
        .key("pk", text(PARTITION))
        .key("sk", text(SORT))
        .update_expression("SET secret = :secret, made_at = :now")
        .condition_expression("attribute_not_exists(secret)")
        .expression_attribute_values(":secret", AttributeValue::B(encrypted.contents().to_vec().into()))
        .expression_attribute_values(":now", text(&now.to_string()));
    if_held(update.send().await).map(drop)
}

const PARTITION: &str = "links";
const SORT: &str = "key";
/// What the secret is encrypted for.
pub(in crate::store) const LINK_KEY_CONTEXT: &str = "links/key";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::faulty_with_tables;

    async fn store() -> Store {
        faulty_with_tables("seed=3,stale=2s,throttle=10,conflict=10").await
    }

    fn now() -> Micros {
        Micros::from_epoch(1_000_000)
    }

    #[tokio::test]
    async fn instances_that_make_the_key_at_once_have_the_same() {
        let store = store().await;
        assert!(find_link_key(&store).await.unwrap().is_none());
        let (first, second) = (LinkKey::generate().unwrap(), LinkKey::generate().unwrap());
        for key in [&first, &second] {
            put_new(&store, key, now()).await.unwrap();
        }
        let kept = find_link_key(&store).await.unwrap().unwrap();
        assert_eq!(kept.secret(), first.secret(), "the second write has replaced the first");
        let make = || async { ensure_link_key(&store, &LinkKey::generate().unwrap(), now()).await.unwrap() };
        let (one, other, third) = tokio::join!(make(), make(), make());
        for key in [one, other, third, make().await] {
            assert_eq!(key.secret(), kept.secret());
        }
    }

    #[tokio::test]
    async fn what_is_no_key_signs_nothing_and_is_named() {
        let store = store().await;
        for secret in [AttributeValue::B(vec![7; 31].into()), text("a secret"), AttributeValue::Null(true)] {
            let put = store.client().put_item().table_name(&store.tables().state);
            put.item("pk", text(PARTITION))
                .item("sk", text(SORT))
                .item("secret", secret)
                .send()
                .await
                .unwrap();
            assert!(find_link_key(&store).await.unwrap().is_none());
            let error = ensure_link_key(&store, &LinkKey::generate().unwrap(), now()).await.unwrap_err();
            assert!(error.to_string().contains("links/key"), "{error}");
        }
    }
}
