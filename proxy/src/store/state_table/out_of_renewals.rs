//! Taking a name out of the renewals: nothing is ordered for it when its certificate's date comes, and its CA is not asked for the date.
//! Not here: which names these are (`certificates`).
//! Invariant: about what is out of the renewals no CA is asked (`what_is_out_of_the_renewals_is_asked_about_no_more`).

use super::{order_record::key, renewal_info::stop_renewal_info};
use crate::{
    name::Pattern,
    store::{Store, StoreError, if_held},
};

/// Takes `name` out of the renewals, until a ClientHello brings it back.
pub async fn forget(store: &Store, name: &Pattern) -> Result<(), StoreError> {
    // First, so that a name whose CA would be asked is found again when this fails.
    stop_renewal_info(store, name).await?;
    let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
    let update =
        update.update_expression("REMOVE due, due_at, renew_at").condition_expression("attribute_exists(pk)");
    if_held(update.send().await).map(drop)
}
