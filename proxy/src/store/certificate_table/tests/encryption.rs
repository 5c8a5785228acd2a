//! Private keys that are encrypted in the table.

use std::path::Path;

use super::*;
use crate::setup_link::LinkKey;
use crate::store::{
    SealError,
    instant::Micros,
    key_sealer::{
        KeySealer,
        tests::{FIRST, SECOND, by_file},
    },
    state_table::{self, OpenOrder, open_order_for_tests, put_open_order},
};

const PEM: &[u8] = b"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n";

/// The same tables, with keys by the file that holds `keys`; without, in clear.
async fn keyed(store: &Store, folder: &Path, keys: Option<&str>) -> Store {
    let sealer = match keys {
        Some(keys) => by_file(folder, keys).await,
        None => KeySealer::Clear,
    };
    Store { sealer, ..store.clone() }
}

async fn put_certificate(store: &Store, name: &Pattern) {
    let (issuer, pattern) = (issuer(), name.clone());
    let stored = read(store, std::slice::from_ref(&issuer), name).await.unwrap().stored;
    let committed = Commit {
        issuer: &issuer,
        pattern: &pattern,
        chain: b"chain",
        key: &PEM.to_vec().into(),
        metadata: b"{}",
        replaced: stored.first().and_then(|stored| stored.seen.as_ref()),
        record: None,
        renewal_info: None,
        event: None,
    };
    commit(store, &committed, SystemTime::now()).await.unwrap();
}

async fn key_of(store: &Store, name: &Pattern) -> Result<StoredKey, StoreError> {
    let read = read_one(store, &issuer(), &name.clone()).await?;
    Ok(read.unwrap().key)
}

async fn item_of(store: &Store, key: &str) -> Item {
    item::find(store, [key.to_owned()], None).await.unwrap().items.remove(key).unwrap()
}

fn is_in_clear(item: &Item) -> bool {
    *ItemContents::of(item).unwrap() == *PEM
}

#[tokio::test]
async fn a_key_is_in_the_table_encrypted_and_is_read_as_it_was() {
    let (folder, name) = (tempfile::tempdir().unwrap(), name("shop.example"));
    let clear = store().await;
    let sealed = keyed(&clear, folder.path(), Some(FIRST)).await;
    put_certificate(&sealed, &name).await;
    let key = issuer().site(&name.clone()).key;
    assert!(!is_in_clear(&item_of(&clear, &key).await));
    assert_eq!(key_of(&sealed, &name).await.unwrap(), Some(Ok(PEM.to_vec().into())));
    let other = keyed(&clear, folder.path(), Some(SECOND)).await;
    for without in [&clear, &other] {
        // Not taken for damaged: then another certificate would be ordered.
        let error = key_of(without, &name).await.unwrap_err();
        assert!(matches!(error, StoreError::Sealing(SealError::UnknownKey { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn a_key_that_was_moved_or_changed_is_refused_with_its_reason() {
    let (folder, here, there) = (tempfile::tempdir().unwrap(), name("a.example"), name("b.example"));
    let store = keyed(&store().await, folder.path(), Some(FIRST)).await;
    for name in [&here, &there] {
        put_certificate(&store, name).await;
    }
    let [from, to] = [&here, &there].map(|name| issuer().site(&name.clone()).key);
    let mut moved = item_of(&store, &from).await;
    moved.extend(item::key(&to));
    let put = store.client().put_item().table_name(&store.tables().certificates);
    put.set_item(Some(moved)).send().await.unwrap();
    let Some(Err(refused)) = key_of(&store, &there).await.unwrap() else { panic!("it is taken") };
    assert!(refused.to_string().contains("changed since it was encrypted"), "{refused}");
    assert_eq!(key_of(&store, &here).await.unwrap(), Some(Ok(PEM.to_vec().into())));
}

#[tokio::test]
async fn keys_in_clear_are_encrypted_on_request_and_back_and_what_is_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let clear = store().await;
    let names = ["a.example", "b.example", "c.example"].map(name);
    for name in &names {
        put_certificate(&clear, name).await;
    }
    let account_key: PrivateKeyPem = PEM.to_vec().into();
    commit_first_key(&clear, &account_key).await.unwrap();
    let damaged = issuer().site(&name("d.example")).key;
    let put = clear.client().put_item().table_name(&clear.tables().certificates);
    let put = put.set_item(Some(item::key(&damaged)));
    put.item(item::CONTENTS, AttributeValue::Bool(true)).send().await.unwrap();

    let link_key = LinkKey::generate().unwrap();
    state_table::ensure_link_key(&clear, &link_key, Micros::from_epoch(1)).await.unwrap();

    let sealed = keyed(&clear, folder.path(), Some(FIRST)).await;
    let done = rewrap(&sealed, RewrapTo::Settings).await.unwrap();
    assert_eq!((done.rewrapped, done.unchanged), (5, 0));
    let kept = state_table::find_sealed_link_key(&clear).await.unwrap().unwrap();
    assert!(!kept.windows(32).any(|part| part == link_key.secret()), "it is in clear");
    assert_eq!(done.unusable, [format!("`{damaged}` has `Contents` of type BOOL, not of type S")]);
    for name in &names {
        let key = issuer().site(&name.clone()).key;
        assert!(!is_in_clear(&item_of(&clear, &key).await));
        assert_eq!(key_of(&sealed, name).await.unwrap(), Some(Ok(PEM.to_vec().into())));
    }
    let account = find_account(&sealed, &issuer(), "a@example.com").await.unwrap();
    assert_eq!(account.key, Some(account_key));
    assert_eq!(rewrap(&sealed, RewrapTo::Settings).await.unwrap().unchanged, 5, "once is enough");

    // The key is replaced: the new one first, the old one behind it until all is written anew.
    let both = keyed(&clear, folder.path(), Some(&format!("{SECOND}\n{FIRST}"))).await;
    assert_eq!(rewrap(&both, RewrapTo::Settings).await.unwrap().rewrapped, 5);
    let new = keyed(&clear, folder.path(), Some(SECOND)).await;
    let links = state_table::find_link_key(&new).await.unwrap().unwrap();
    assert_eq!(links.secret(), link_key.secret(), "links are those that were made before");
    assert_eq!(key_of(&new, &names[0]).await.unwrap(), Some(Ok(PEM.to_vec().into())));

    assert_eq!(rewrap(&new, RewrapTo::Clear).await.unwrap().rewrapped, 5);
    assert_eq!(key_of(&clear, &names[0]).await.unwrap(), Some(Ok(PEM.to_vec().into())));
}

#[tokio::test]
async fn an_item_under_a_lost_key_keeps_no_other_from_being_encrypted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let clear = store().await;
    let (lost, found) = (name("lost.example"), name("found.example"));
    put_certificate(&keyed(&clear, folder.path(), Some(FIRST)).await, &lost).await;
    put_certificate(&clear, &found).await;
    let sealed = keyed(&clear, folder.path(), Some(SECOND)).await;
    let done = rewrap(&sealed, RewrapTo::Settings).await.unwrap();
    assert_eq!((done.rewrapped, done.unchanged, done.unusable.len()), (1, 0, 1), "{done:?}");
    assert!(done.unusable[0].contains("lost.example") && done.unusable[0].contains("encrypted by `file:"));
    assert_eq!(key_of(&sealed, &found).await.unwrap(), Some(Ok(PEM.to_vec().into())));
}

#[tokio::test]
async fn the_key_of_an_open_order_is_encrypted_too() {
    let (folder, name) = (tempfile::tempdir().unwrap(), name("shop.example"));
    let clear = store().await;
    let sealed = keyed(&clear, folder.path(), Some(FIRST)).await;
    let profile = Some("shortlived".to_owned());
    let order = OpenOrder { profile, ..open_order_for_tests("https://ca.example/order/1") };
    assert!(put_open_order(&sealed, &name, &order, None).await.unwrap());
    let open = async |store: &Store| read(store, &[], &name).await.unwrap().open_orders;
    assert_eq!(open(&sealed).await.of("ca"), Some(&order));
    let locked = open(&clear).await;
    assert_eq!(
        (locked.of("ca"), locked.url("ca")),
        (None, Some(&*order.url)),
        "without the key it is not gone on with"
    );
    let day = Duration::from_hours(24);
    let old = OpenOrder {
        placed_at: SystemTime::now() - day,
        ..open_order_for_tests("https://ca.example/order/2")
    };
    assert!(put_open_order(&sealed, &name, &old, Some(&order.url)).await.unwrap());
    assert_eq!(open(&sealed).await.of("ca"), None, "it is too old");
    let next = open_order_for_tests("https://ca.example/order/3");
    assert!(put_open_order(&sealed, &name, &next, open(&sealed).await.url("ca")).await.unwrap());
    assert_eq!(open(&sealed).await.of("ca"), Some(&next), "another takes its place");
}
