//! All that the table holds of certificates and accounts, found by a Scan: for an operator's command, never part of serving.

use std::collections::HashSet;

use super::{item::PRIMARY, keys::CaddyFolder};
use crate::store::{Store, StoreError};

/// The folders of Caddy's key space that the table has items in, sorted by their paths; whatever else the table holds is passed over.
pub async fn folders(store: &Store) -> Result<Vec<CaddyFolder>, StoreError> {
    let (mut found, mut start) = (HashSet::new(), None);
    loop {
        let scan = store.client().scan().table_name(&store.tables().certificates).consistent_read(true);
        let page = scan.projection_expression(PRIMARY).set_exclusive_start_key(start).send().await?;
        let items = page.items.unwrap_or_default();
        let keys = items.iter().filter_map(|item| item.get(PRIMARY)?.as_s().ok());
        found.extend(keys.filter_map(|key| Some(key.rsplit_once('/')?.0.to_owned())));
        start = page.last_evaluated_key.filter(|key| !key.is_empty());
        if start.is_none() {
            break;
        }
    }
    let mut paths: Vec<_> = found.into_iter().collect();
    paths.sort();
    Ok(paths.iter().filter_map(|path| CaddyFolder::parse(path)).collect())
}
