//! An order that a CA has and whose certificate is in no table yet: `open_order` of a name's record. Who orders for the name next goes on
//! with it, whatever became of the process that placed it.
//! Not here: when it is gone on with (`certificates::acme`). Invariants: it is there before the CA is asked for anything that counts
//! against a limit, and goes with the commit of a certificate, which replaces the record (`a_commit_ends_the_open_order`).

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue;

use super::order_record::key;
use crate::{
    clock,
    name::Pattern,
    store::{
        Item, PrivateKeyPem, Store, StoreError, if_held,
        instant::{Micros, epoch_millis},
        key_sealer::{KeySealer, SealedKey},
    },
};

/// A placed order (RFC 8555 §7.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// The issuer, as keys name it.
    pub issuer: String,
    /// The URL of the account that placed it.
    pub account: String,
    /// Its own URL.
    pub url: String,
    /// The profile that it asks for (draft-ietf-acme-profiles).
    pub profile: Option<String>,
    /// Of the certificate: whoever finalizes it asks for the same one.
    pub key: PrivateKeyPem,
    /// When it was placed.
    pub placed_at: SystemTime,
}

impl OpenOrder {
    /// Reads the record of `name`. One that is malformed or too old, or whose key cannot be opened, is none: the name may have a
    /// certificate all the same.
    pub(in crate::store) async fn read(
        name: &Pattern,
        item: &Item,
        sealer: &KeySealer,
    ) -> Result<Option<Self>, StoreError> {
        let is_recent =
            |order: &Self| clock::wall().duration_since(order.placed_at).unwrap_or_default() < GONE_ON_WITH;
        let read = Self::read_sealed(item).filter(|(order, _)| is_recent(order));
        let Some((order, key)) = read else { return Ok(None) };
        match sealer.open(key, &context(name)).await.map_err(StoreError::from) {
            Ok(key) => Ok(key.ok().map(|key| Self { key: key.into(), ..order })),
            Err(StoreError::Sealing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// With its key as the item holds it.
    fn read_sealed(item: &Item) -> Option<(Self, SealedKey)> {
        let order = item.get(OPEN_ORDER)?.as_m().ok()?;
        let text = |attribute: &str| order.get(attribute)?.as_s().ok().filter(|text| !text.is_empty());
        let placed_at = Micros::parse(text("placed_at")?)?.at();
        let key = SealedKey::read(order.get("key")?.as_b().ok()?.as_ref().to_vec());
        let order = Self {
            issuer: text("issuer")?.clone(),
            account: text("account")?.clone(),
            url: text("url")?.clone(),
            profile: text("profile").cloned(),
            key: Vec::new().into(),
            placed_at,
        };
        Some((order, key))
    }

    fn write(&self, key: &SealedKey) -> AttributeValue {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut order = HashMap::from([
            ("issuer".to_owned(), text(&self.issuer)),
            ("account".to_owned(), text(&self.account)),
            ("url".to_owned(), text(&self.url)),
            ("key".to_owned(), AttributeValue::B(key.contents().to_vec().into())),
            ("placed_at".to_owned(), text(&Micros::of(self.placed_at).to_string())),
        ]);
        order.extend(self.profile.as_ref().map(|profile| ("profile".to_owned(), text(profile))));
        AttributeValue::M(order)
    }
}

/// Remembers `order` of `name` in the place of any other, in an item that is kept for as long as it may be gone on with.
pub async fn put_open_order(store: &Store, name: &Pattern, order: &OpenOrder) -> Result<(), StoreError> {
    let expires = epoch_millis(order.placed_at + KEPT) / 1000;
    let key_of_certificate = store.sealer.seal(order.key.as_bytes(), &context(name)).await?;
    for (set, condition) in [
        // The record of a certificate is kept for longer, and renewals are the most.
        ("SET open_order = :order", "expires_at >= :expires"),
        // A record whose date is near or past may be removed at any time.
        (
            "SET open_order = :order, expires_at = :expires",
            "attribute_not_exists(expires_at) OR expires_at < :expires OR NOT attribute_type(expires_at, :number)",
        ),
    ] {
        let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
        let update = update
            .update_expression(set)
            .condition_expression(condition)
            .expression_attribute_values(":order", order.write(&key_of_certificate))
            .expression_attribute_values(":expires", AttributeValue::N(expires.to_string()));
        let update = if set.contains("expires_at") {
            update.expression_attribute_values(":number", AttributeValue::S("N".to_owned()))
        } else {
            update
        };
        if if_held(update.send().await)?.is_some() {
            return Ok(());
        }
    }
    // A certificate was committed in between: the order has come to nothing.
    Ok(())
}

/// Forgets the open order of `name`, which nothing can be made of: the one at `url`, since a later holder of the lease may have placed
/// another; without it, whichever there is.
pub async fn remove_open_order(store: &Store, name: &Pattern, url: Option<&str>) -> Result<(), StoreError> {
    let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
    let update = update.update_expression("REMOVE open_order");
    let update = match url {
        None => update.condition_expression("attribute_exists(open_order)"),
        Some(url) => update
            .condition_expression("open_order.#url = :url")
            .expression_attribute_names("#url", "url")
            .expression_attribute_values(":url", AttributeValue::S(url.to_owned())),
    };
    if_held(update.send().await).map(drop)
}

/// What its key is sealed for.
fn context(name: &Pattern) -> String {
    format!("name#{name}/open_order")
}

const OPEN_ORDER: &str = "open_order";
/// How long an order is gone on with: longer than an outage, less than a certificate lasts (CAs end orders after a week).
const GONE_ON_WITH: Duration = Duration::from_hours(24);
const KEPT: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
pub(in crate::store) fn open_order_for_tests(url: &str) -> OpenOrder {
    OpenOrder {
        issuer: "ca".to_owned(),
        account: "https://ca.example/account/1".to_owned(),
        url: url.to_owned(),
        profile: None,
        key: b"a key".to_vec().into(),
        placed_at: Micros::of(clock::wall()).at(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_item_panics() {
        let key = SealedKey::read(b"key".to_vec());
        let written = open_order_for_tests("https://ca.example/order/1").write(&key);
        let AttributeValue::M(good) = written else { panic!("no map") };
        let read = |order: AttributeValue| {
            let read = OpenOrder::read_sealed(&Item::from([(OPEN_ORDER.to_owned(), order)]));
            read.map(|(order, _)| order)
        };
        assert!(read(AttributeValue::M(good.clone())).is_some());
        for attribute in good.keys() {
            for wrong in [None, Some(AttributeValue::S(String::new())), Some(AttributeValue::Null(true))] {
                let mut order = good.clone();
                order.remove(attribute);
                order.extend(wrong.map(|wrong| (attribute.clone(), wrong)));
                assert_eq!(read(AttributeValue::M(order)), None, "{attribute}");
            }
        }
        assert_eq!(read(AttributeValue::Bool(true)), None);
    }
}
