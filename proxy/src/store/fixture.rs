//! What tests of this module have in common: a store with faults, and items of a corpus.

use aws_sdk_dynamodb::types::AttributeValue;
use proxy_common::fixture::fuzz;

use super::{Engine, FaultPlan, Faults, Item, Store, tables};
use crate::config::StoreConfig;

/// An engine of its own, with the faults of `plan` and without tables.
pub(super) fn faulty(plan: &str) -> Store {
    let faults = Faults::new(FaultPlan::parse(plan).unwrap());
    Store::on_faulty(Engine::in_memory().unwrap(), &StoreConfig::default(), faults)
}

/// The same with all tables.
pub(super) async fn faulty_with_tables(plan: &str) -> Store {
    let store = faulty(plan);
    tables::create(&store).await.unwrap();
    store
}

/// An engine with all tables, without faults and with those of `plan`.
pub(super) async fn lossy_with_tables(plan: &str) -> (Store, Store) {
    let (engine, config) = (Engine::in_memory().unwrap(), StoreConfig::default());
    let store = Store::on(engine.clone(), &config);
    tables::create(&store).await.unwrap();
    (store, Store::on_faulty(engine, &config, Faults::new(FaultPlan::parse(plan).unwrap())))
}

/// An input of a corpus, as the SDK would give it.
pub(super) fn item(input: &[u8]) -> Item {
    let attributes = fuzz::attributes(input).into_iter().map(|[name, kind, value]| {
        let value = match kind.as_str() {
            "N" => AttributeValue::N(value),
            "B" => AttributeValue::B(value.into_bytes().into()),
            "BOOL" => AttributeValue::Bool(value == "true"),
            "NULL" => AttributeValue::Null(true),
            "L" => AttributeValue::L(vec![AttributeValue::S(value)]),
            // A backslash stands for the end of a line.
            _ => AttributeValue::S(value.replace('\\', "\n")),
        };
        (name, value)
    });
    attributes.collect()
}
