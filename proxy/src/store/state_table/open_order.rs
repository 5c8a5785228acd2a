//! An order that a CA has and whose certificate is in no table yet: `open_order#<issuer>` of a name's record. Who orders for the name next
//! goes on with it, whatever became of the process that placed it.
//! Not here: when it is gone on with (`certificates::acme`). Invariants: it is there before the CA is asked for anything that counts
//! against a limit, and goes with the commit of a certificate, which replaces the record (`a_commit_ends_the_open_order`); neither another
//! issuer's order nor a late holder's takes its place (`each_issuers_order_stays_beside_the_others`,
//! `a_late_holder_replaces_no_order_that_it_has_not_read`).

use std::{
    collections::{BTreeSet, HashMap},
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

/// The orders of a name that are open, one an issuer.
#[derive(Debug, Default)]
pub struct OpenOrders(Vec<Found>);

/// What an item holds as the order of one issuer.
#[derive(Debug)]
struct Found {
    issuer: String,
    /// Of the one in the issuer's own attribute.
    url: Option<String>,
    /// None where it is too old, or its key cannot be opened.
    order: Option<OpenOrder>,
}

impl OpenOrders {
    /// Reads the record of `name`. One that is malformed or too old, or whose key cannot be opened, is not gone on with: the name may have a
    /// certificate all the same.
    pub(in crate::store) async fn read(
        name: &Pattern,
        item: &Item,
        sealer: &KeySealer,
    ) -> Result<Self, StoreError> {
        let mut found: Vec<Found> = Vec::new();
        for (attribute, value) in item.iter().filter(|(attribute, _)| is_ours(attribute)).take(MOST) {
            let Some((read, key)) = OpenOrder::read_sealed(value) else { continue };
            // One that an older release has written may lie beside ours: the later one counts.
            let age = |order: &OpenOrder| clock::wall().duration_since(order.placed_at).unwrap_or_default();
            let is_recent = age(&read) < GONE_ON_WITH;
            let order = if is_recent { open(name, attribute, &read, key, sealer).await? } else { None };
            let url = Some(read.url).filter(|_| attribute != OF_ONE_ISSUER);
            let entry = Found { issuer: read.issuer, url, order };
            match found.iter_mut().find(|other| other.issuer == entry.issuer) {
                Some(other) => other.join(entry),
                None => found.push(entry),
            }
        }
        Ok(Self(found))
    }

    /// The one of `issuer`, as keys name it, that can be gone on with.
    #[must_use]
    pub fn of(&self, issuer: &str) -> Option<&OpenOrder> {
        self.find(issuer)?.order.as_ref()
    }

    /// The URL of what is there of `issuer`, whether or not it can be gone on with, and would be replaced by another.
    #[must_use]
    pub fn url(&self, issuer: &str) -> Option<&str> {
        self.find(issuer)?.url.as_deref()
    }

    /// Whose orders are there.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|found| &*found.issuer)
    }

    fn find(&self, issuer: &str) -> Option<&Found> {
        self.0.iter().find(|found| found.issuer == issuer)
    }
}

impl Found {
    fn join(&mut self, other: Self) {
        if self.placed_at() < other.placed_at() {
            self.order = other.order;
        }
        self.url = self.url.take().or(other.url);
    }

    fn placed_at(&self) -> Option<SystemTime> {
        self.order.as_ref().map(|order| order.placed_at)
    }
}

/// `order` with its key; none when that cannot be opened.
async fn open(
    name: &Pattern,
    attribute: &str,
    order: &OpenOrder,
    key: SealedKey,
    sealer: &KeySealer,
) -> Result<Option<OpenOrder>, StoreError> {
    match sealer.open(key, &context(name, attribute)).await.map_err(StoreError::from) {
        Ok(key) => Ok(key.ok().map(|key| OpenOrder { key: key.into(), ..order.clone() })),
        Err(StoreError::Sealing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl OpenOrder {
    /// With its key as the attribute holds it.
    fn read_sealed(value: &AttributeValue) -> Option<(Self, SealedKey)> {
        let order = value.as_m().ok()?;
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

/// Remembers `order` of `name` beside those of other issuers, in an item that is kept for as long as it may be gone on with; in the place of
/// `replaced`, the URL of what was read there of the same issuer. Whether it was still so: otherwise a later holder of the lease has placed
/// another, which stays.
pub async fn put_open_order(
    store: &Store,
    name: &Pattern,
    order: &OpenOrder,
    replaced: Option<&str>,
) -> Result<bool, StoreError> {
    let (expires, attribute) = (epoch_millis(order.placed_at + KEPT) / 1000, attribute(&order.issuer));
    let key_of_certificate = store.sealer.seal(order.key.as_bytes(), &context(name, &attribute)).await?;
    // What the call before has written, if its answer was lost.
    let ours = AttributeValue::S(order.url.clone());
    let unchanged = format!(
        "(attribute_not_exists(#order.#url) OR #order.#url = :ours{})",
        match replaced {
            Some(_) => " OR #order.#url = :replaced",
            None => "",
        }
    );
    for (set, condition) in [
        // The record of a certificate is kept for longer, and renewals are the most.
        ("SET #order = :order", "expires_at >= :expires"),
        // A record whose date is near or past may be removed at any time.
        (
            "SET #order = :order, expires_at = :expires",
            "(attribute_not_exists(expires_at) OR expires_at < :expires OR NOT attribute_type(expires_at, :number))",
        ),
    ] {
        let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
        let update = update
            .update_expression(set)
            .condition_expression(format!("{condition} AND {unchanged}"))
            .expression_attribute_names("#order", &attribute)
            .expression_attribute_names("#url", "url")
            .expression_attribute_values(":ours", ours.clone())
            .expression_attribute_values(":order", order.write(&key_of_certificate))
            .expression_attribute_values(":expires", AttributeValue::N(expires.to_string()));
        let update = if set.contains("expires_at") {
            update.expression_attribute_values(":number", AttributeValue::S("N".to_owned()))
        } else {
            update
        };
        let update = match replaced {
            Some(url) => update.expression_attribute_values(":replaced", AttributeValue::S(url.to_owned())),
            None => update,
        };
        if if_held(update.send().await)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets the open order of `name` and `issuer` at `url`, which nothing can be made of; one that a later holder of the lease has placed
/// stays.
pub async fn remove_open_order(
    store: &Store,
    name: &Pattern,
    issuer: &str,
    url: &str,
) -> Result<(), StoreError> {
    for attribute in [attribute(issuer), OF_ONE_ISSUER.to_owned()] {
        let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
        let update = update
            .update_expression("REMOVE #order")
            .condition_expression("#order.#url = :url")
            .expression_attribute_names("#order", attribute)
            .expression_attribute_names("#url", "url")
            .expression_attribute_values(":url", AttributeValue::S(url.to_owned()));
        if if_held(update.send().await)?.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// Forgets whichever orders of `name` are open with `issuers`.
pub async fn remove_open_orders(
    store: &Store,
    name: &Pattern,
    issuers: impl Iterator<Item = &str>,
) -> Result<(), StoreError> {
    // DynamoDB refuses an expression that names an attribute twice.
    let attributes: BTreeSet<_> = issuers.map(attribute).chain([OF_ONE_ISSUER.to_owned()]).collect();
    let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
    // Without a record there is nothing to forget, and none is made.
    let mut update = update.condition_expression("attribute_exists(pk)");
    let mut removed = Vec::new();
    for (n, attribute) in attributes.into_iter().enumerate() {
        removed.push(format!("#o{n}"));
        update = update.expression_attribute_names(format!("#o{n}"), attribute);
    }
    if_held(update.update_expression(format!("REMOVE {}", removed.join(", "))).send().await).map(drop)
}

/// What its key is sealed for.
fn context(name: &Pattern, attribute: &str) -> String {
    format!("name#{name}/{attribute}")
}

/// Where the order of `issuer` lies.
fn attribute(issuer: &str) -> String {
    format!("{OF_ONE_ISSUER}#{issuer}")
}

fn is_ours(attribute: &str) -> bool {
    attribute.strip_prefix(OF_ONE_ISSUER).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
}

/// Where older releases put the order of whichever issuer was asked last; read, and no longer written.
const OF_ONE_ISSUER: &str = "open_order";
/// Of a record; more than settings may name issuers.
const MOST: usize = 16;
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
        let read = |order: AttributeValue| OpenOrder::read_sealed(&order).map(|(order, _)| order);
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
