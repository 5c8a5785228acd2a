//! Our records of many names: for lists that operators read, never part of serving.

use std::collections::HashMap;

use super::order_record::{self, OrderRecord};
use crate::{
    name::Pattern,
    store::{
        Item, Store, StoreError,
        batch::{self, BatchGet, Consistency},
    },
};

/// The records of `names` that are there. Not consistent, as the index that `names` come from.
pub async fn read_records(
    store: &Store,
    names: &[Pattern],
) -> Result<HashMap<Pattern, OrderRecord>, StoreError> {
    let mut found = HashMap::new();
    for names in names.chunks(batch::KEYS) {
        let keys: Vec<Item> = names.iter().map(order_record::key).collect();
        let table = &store.tables().state;
        let batch = BatchGet::default().with(table, keys, Consistency::Eventual)?;
        for item in batch.read(store).await?.remove(table).unwrap_or_default() {
            let name = item.get("pk").and_then(|pk| pk.as_s().ok()?.strip_prefix("name#"));
            let name = name.and_then(|name| Pattern::parse(name).ok());
            if let Some(record) = name.and_then(|name| OrderRecord::read(&name, &item)) {
                found.insert(record.name.clone(), record);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock,
        store::{Engine, state_table::put_record, tables},
    };

    #[tokio::test]
    async fn more_records_than_one_call_takes_are_read() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let names: Vec<_> = (0..130).map(|n| Pattern::parse(&format!("n{n}.example.com")).unwrap()).collect();
        // What has expired the table may delete at any moment.
        let not_after = Some(clock::wall() + Duration::from_hours(1));
        for name in &names[1..] {
            let record = OrderRecord { not_after, ..OrderRecord::new(name) };
            put_record(&store, &record, None).await.unwrap();
        }
        let found = read_records(&store, &names).await.unwrap();
        assert!(names[1..].iter().all(|name| found[name].name == *name));
        assert_eq!((found.len(), found.get(&names[0])), (129, None), "one was never written");
    }
}
