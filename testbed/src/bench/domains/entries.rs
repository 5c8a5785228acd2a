//! Many entries of the domains table: one that the product has written, with names, owners and dates of their own.

use anyhow::Context;
use dynoxide::{
    Database, ImportOptions,
    actions::get_item::GetItemRequest,
    types::{AttributeValue, Item},
};

/// Puts `count` entries beside [`MODEL`], which has to be there, straight into the engine.
pub(super) fn fill(database: &Database, count: u32) -> anyhow::Result<()> {
    let key = [("domain".to_owned(), AttributeValue::S(MODEL.to_owned()))].into();
    let request = GetItemRequest { table_name: TABLE.to_owned(), key, ..GetItemRequest::default() };
    let model = database.get_item(request)?.item.with_context(|| format!("no entry {MODEL}"))?;
    database.enable_bulk_loading()?;
    let mut first = 0;
    while first < count {
        let behind = count.min(first + BATCH);
        let items = (first..behind).map(|number| entry(&model, number)).collect();
        database.import_items(TABLE, items, ImportOptions::default())?;
        first = behind;
    }
    Ok(database.disable_bulk_loading()?)
}

/// The name of entry `number`: such as customers have, and in no order.
pub(super) fn name(number: u32) -> String {
    format!("{:08x}.shop.example", number.wrapping_mul(ODD))
}

/// What the names of a few entries in 100,000 begin with, that of `number` among them.
pub(super) fn prefix(number: u32) -> String {
    name(number).chars().take(5).collect()
}

/// Whose entry `number` is: one of a hundred.
pub(super) fn tenant(number: u32) -> String {
    format!("tenant-{:02}", number % 100)
}

/// Whether entry `number` is served; the others are suspended.
pub(super) fn is_served(number: u32) -> bool {
    number % SUSPENDED != SUSPENDED - 1
}

fn entry(model: &Item, number: u32) -> Item {
    let at = format!("2026-01-01T00:00:{:02}.{:06}Z", number / MICROS, number % MICROS);
    let status = if is_served(number) { "active" } else { "suspended" };
    let own = [
        ("domain", name(number)),
        ("tenant", tenant(number)),
        // Who reads the feed reads all of its partitions; each has as many.
        ("feed", (number % 4).to_string()),
        ("status", status.to_owned()),
        ("created_at", at.clone()),
        ("changed_at", at),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
    model.clone().into_iter().chain(own).collect()
}

/// The entry that the others are made of.
pub(super) const MODEL: &str = "model.customer.test";
/// One in so many is suspended.
const SUSPENDED: u32 = 9_999;
/// By its default name.
const TABLE: &str = "gatehouse-domains";
/// Times it, no two numbers are the same: it is odd.
const ODD: u32 = 0x9e37_79b1;
const MICROS: u32 = 1_000_000;
const BATCH: u32 = 20_000;
