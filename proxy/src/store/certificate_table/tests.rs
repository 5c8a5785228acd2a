mod corpus;
mod encryption;
mod open_orders;

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;
use proptest::prelude::*;

use super::{document::Document, *};
use crate::{
    name::Pattern,
    store::{
        Consistency, Item, PrivateKeyPem, Store, StoreError,
        fixture::faulty_with_tables,
        instant::Micros,
        state_table::{self, Event, EventId, LogDay, OrderRecord, RenewalInfo},
    },
};

const LIFE: Duration = Duration::from_mins(1);

async fn store() -> Store {
    faulty_with_tables("seed=7,stale=2s,throttle=50,conflict=50,unprocessed=50").await
}

fn name(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn issuer() -> IssuerKey {
    IssuerKey::of_directory("https://localhost:14100/dir")
}

fn caddys_items() -> Vec<Item> {
    let items: Vec<std::collections::HashMap<String, std::collections::HashMap<String, String>>> =
        serde_json::from_str(include_str!("caddy_items.json")).unwrap();
    let value = |value: std::collections::HashMap<String, String>| AttributeValue::S(value["S"].clone());
    items.into_iter().map(|item| item.into_iter().map(|(k, v)| (k, value(v))).collect()).collect()
}

fn primary(item: &Item) -> &str {
    item[item::PRIMARY].as_s().unwrap()
}

#[test]
fn caddys_own_items_are_rewritten_byte_for_byte() {
    let mut seen = 0;
    for item in caddys_items() {
        let key = primary(&item).to_owned();
        let Ok(text) = ItemContents::of(&item) else { continue };
        let at = item::parse_instant(item["LastUpdated"].as_s().unwrap()).unwrap();
        let rewritten = if key.contains("/challenge_tokens/") {
            Challenge::read(&text).unwrap().write()
        } else if key.contains("/users/") {
            Account::read(&text).unwrap().write()
        } else if key.starts_with("certificates/") && key.contains(".json") {
            CertificateMetadata::read(&text).write()
        } else if key.starts_with("LOCK-") {
            item::instant(item::parse_instant(std::str::from_utf8(&text).unwrap()).unwrap()).into_bytes()
        } else {
            text.to_vec()
        };
        assert_eq!(item::item(&key, &rewritten, at), item, "{key}");
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn what_we_write_anew_is_what_caddy_wrote() {
    let (site, issuer) = (name("ok.example.com"), issuer());
    let items = caddys_items();
    let text = |key: &str| {
        let item = items.iter().find(|item| primary(item) == key).unwrap_or_else(|| panic!("{key}"));
        ItemContents::of(item).unwrap().to_vec()
    };
    let keys = issuer.site(&site.clone());
    let url = Some("https://localhost:14100/certZ/5d3a9da794ca295d");
    assert_eq!(
        CertificateMetadata::default().renewed(&[site.to_string()], url).write(),
        text(&keys.metadata)
    );
    let account = text(&issuer.account("ops@example.com").account);
    let mut ours = Account::read(&account).unwrap();
    let fresh = Account::new("ops@example.com", &ours.location().unwrap());
    for member in ["status", "location"] {
        assert_eq!(
            Document::read(&fresh.write()).unwrap().text(member),
            Document::read(&account).unwrap().text(member)
        );
    }
    ours = Account::read(&fresh.write()).unwrap();
    assert!(ours.location().is_some());
}

#[tokio::test]
async fn a_certificate_of_caddys_is_found_under_its_keys() {
    let store = store().await;
    for item in caddys_items() {
        let put = store.client().put_item().table_name(&store.tables().certificates);
        put.set_item(Some(item)).send().await.unwrap();
    }
    let stored_certificates =
        read(&store, &[IssuerKey::internal(), issuer()], &name("ok.example.com")).await.unwrap();
    let [stored] = &stored_certificates.stored[..] else { panic!("{stored_certificates:?}") };
    assert_eq!((&stored.issuer, stored.pattern.to_string().as_str()), (&issuer(), "ok.example.com"));
    assert!(stored.chain.as_ref().unwrap().as_ref().unwrap().starts_with(b"-----BEGIN CERTIFICATE-----\n"));
    assert!(stored_certificates.record.is_none());
    let challenges = find_challenges(&store, &[issuer()], name("ok3.example.com").name()).await.unwrap();
    assert_eq!(challenges[0].kind, "tls-alpn-01");
}

fn record(site: &Pattern, seconds: u64) -> OrderRecord {
    let at = |n: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(n));
    OrderRecord {
        serial: Some("01".into()),
        not_after: at(seconds * 3),
        renew_at: at(seconds * 2),
        ..OrderRecord::new(site)
    }
}

async fn commit_chain(
    store: &Store,
    site: &Pattern,
    chain: &str,
    replaced: Option<&Version>,
) -> Result<(), StoreError> {
    let (issuer, pattern, record) = (issuer(), site.clone(), record(site, 1_000_000_000));
    let (chain, key) = (chain.as_bytes(), format!("key of {chain}"));
    let pending = Commit {
        issuer: &issuer,
        pattern: &pattern,
        chain,
        key: &key.into_bytes().into(),
        metadata: b"{}",
        replaced,
        record: Some(&record),
        renewal_info: None,
        event: None,
    };
    commit(store, &pending, SystemTime::now()).await
}

#[tokio::test]
async fn a_late_holder_cannot_overwrite() {
    let (store, site) = (store().await, name("late.example"));
    let seen = |stored_certificates: StoredCertificates| {
        stored_certificates.stored.first().and_then(|stored| stored.seen.clone())
    };
    let before = seen(read(&store, &[issuer()], &site).await.unwrap());
    commit_chain(&store, &site, "present", before.as_ref()).await.unwrap();
    let late = commit_chain(&store, &site, "late", before.as_ref()).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    let stored_certificates = read(&store, &[issuer()], &site).await.unwrap();
    let contents = |part: &StoredItem| part.as_ref().unwrap().as_ref().unwrap().to_vec();
    assert_eq!(contents(&stored_certificates.stored[0].chain), b"present");
    let Some(Ok(key)) = &stored_certificates.stored[0].key else { panic!("{stored_certificates:?}") };
    assert_eq!(key.as_bytes(), b"key of present");
    assert_eq!(stored_certificates.record, Some(record(&site, 1_000_000_000)));
    let now = seen(stored_certificates);
    commit_chain(&store, &site, "renewed", now.as_ref()).await.unwrap();
    assert!(matches!(commit_chain(&store, &site, "late", now.as_ref()).await, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn what_becomes_true_with_a_certificate_is_written_with_it_or_not_at_all() {
    let (store, site) = (store().await, name("whole.example"));
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let (issuer, key, record) = (issuer(), b"key".to_vec().into(), record(&site, 1_000_000_000));
    let info = RenewalInfo {
        name: site.clone(),
        directory: "https://localhost:14100/dir".to_owned(),
        certificate: "a.b".to_owned(),
        serial: "01".to_owned(),
        not_after: now + LIFE * 3,
        renew_from: now + LIFE,
        renew_until: now + LIFE * 2,
        window: None,
    };
    let at = Micros::of(now);
    let event = Event {
        id: EventId::before(at),
        kind: "certificate.issued".to_owned(),
        domain: site.clone(),
        tenant: None,
        detail: serde_json::Map::new(),
    };
    let late = Version::of(&item::item("any", b"another chain", now));
    for replaced in [Some(&late), None] {
        let whole = Commit {
            issuer: &issuer,
            pattern: &site,
            chain: b"chain",
            key: &key,
            metadata: b"{}",
            replaced,
            record: Some(&record),
            renewal_info: Some(&info),
            event: Some(&event),
        };
        let is_written = match commit(&store, &whole, now).await {
            Ok(()) => true,
            Err(StoreError::Conflict) => false,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(is_written, replaced.is_none());
        let there = read(&store, std::slice::from_ref(&issuer), &site).await.unwrap();
        let items = there
            .stored
            .first()
            .map(|stored| [stored.chain.is_some(), stored.key.is_some(), stored.metadata.is_some()]);
        assert_eq!(items, is_written.then_some([true; 3]));
        assert_eq!(there.record, is_written.then(|| record.clone()));
        let known = state_table::find_renewal_info(&store, &site).await.unwrap();
        assert_eq!(known, is_written.then(|| info.clone()));
        let events = state_table::events(&store, &LogDay::of(at), None, 9, Consistency::Strong).await;
        assert_eq!(events.unwrap().events, Vec::from_iter(is_written.then(|| event.clone())));
    }
}

#[tokio::test]
async fn a_certificate_is_removed_whole_and_only_as_it_was_seen() {
    let (store, site) = (store().await, name("removed.example"));
    let stored = async || {
        let there = read(&store, &[issuer()], &site).await.unwrap();
        there.stored.into_iter().next().map(|stored| (stored.seen.unwrap(), stored.key.is_some()))
    };
    commit_chain(&store, &site, "first", None).await.unwrap();
    let (first, _) = stored().await.unwrap();
    commit_chain(&store, &site, "second", Some(&first)).await.unwrap();
    let late = remove(&store, &issuer(), &site, Some(&first)).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    let (second, has_key) = stored().await.unwrap();
    assert!(has_key);
    let without_chain = remove(&store, &issuer(), &site, None).await;
    assert!(matches!(without_chain, Err(StoreError::Conflict)), "{without_chain:?}");
    remove(&store, &issuer(), &site, Some(&second)).await.unwrap();
    let keys = issuer().site(&site);
    let found = item::find(&store, [keys.chain, keys.key, keys.metadata], None).await.unwrap();
    assert!(found.items.is_empty(), "{:?}", found.items.keys());
}

#[tokio::test]
async fn of_many_takers_one_gets_the_lock_and_only_it_gives_it_up() {
    let (store, site, now) = (store().await, name("locked.example"), SystemTime::now());
    let mut held = Vec::new();
    let takers = (0..8).map(|_| {
        let (store, site) = (store.clone(), site.clone());
        tokio::spawn(async move { Lock::take(&store, &site, LIFE, now).await.unwrap() })
    });
    for taker in takers.collect::<Vec<_>>() {
        if let LockOutcome::Hold(lock) = taker.await.unwrap() {
            held.push(lock);
        }
    }
    assert_eq!(held.len(), 1);
    let late = held.remove(0);
    assert!(late.renew(&store, LIFE, now).await.unwrap());
    let LockOutcome::Hold(present) = Lock::take(&store, &site, LIFE, now + LIFE * 2).await.unwrap() else {
        panic!("an expired lock is free")
    };
    assert!(!late.renew(&store, LIFE, now + LIFE * 2).await.unwrap());
    late.release(&store).await.unwrap();
    let busy = Lock::take(&store, &site, LIFE, now + LIFE * 2).await.unwrap();
    assert!(matches!(busy, LockOutcome::Busy));
    present.release(&store).await.unwrap();
    let free = Lock::take(&store, &site, LIFE, now + LIFE * 2).await.unwrap();
    assert!(matches!(free, LockOutcome::Hold(_)));
}

/// As text, as base64 in the table, and as a list of bytes.
fn shows(shown: &str, secret: &[u8]) -> bool {
    let bytes: Vec<_> = secret.iter().take(6).map(u8::to_string).collect();
    let list = |separator: &str| shown.contains(&bytes.join(separator));
    let is_text = shown.contains(&*String::from_utf8_lossy(secret)) || shown.contains(&item::encode(secret));
    is_text || list(", ") || list(",\n        ") || list(",\n            ")
}

#[tokio::test]
async fn no_key_is_shown() {
    let (store, site) = (store().await, name("secret.example"));
    commit_chain(&store, &site, "chain", None).await.unwrap();
    let stored_certificates = read(&store, &[issuer()], &site).await.unwrap();
    let account_key = b"account key".to_vec().into();
    commit_first_key(&store, &account_key).await.unwrap();
    let account = find_account(&store, &issuer(), "a@example.com").await.unwrap();
    for shown in
        [format!("{stored_certificates:?} {account:?}"), format!("{stored_certificates:#?} {account:#?}")]
    {
        assert!(
            shown.contains("PrivateKeyPem(12 bytes)") && shown.contains("PrivateKeyPem(11 bytes)"),
            "{shown}"
        );
        for secret in [&b"key of chain"[..], b"account key"] {
            assert!(!shows(&shown, secret), "{shown}");
        }
    }
    assert!(
        shows(&format!("{:?}", b"account key".to_vec()), b"account key"),
        "the test sees what it looks for"
    );
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_is_taken_whatever_its_shape() {
    let (store, site, now) = (store().await, name("locked.example"), SystemTime::now());
    let binary = AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new("x"));
    for contents in
        [None, Some(binary), Some(AttributeValue::Bool(true)), Some(AttributeValue::S("soon".into()))]
    {
        let mut item = item::key(&keys::lock(&site));
        item.extend(contents.clone().map(|contents| (item::CONTENTS.to_owned(), contents)));
        let put = store.client().put_item().table_name(&store.tables().certificates);
        put.set_item(Some(item)).send().await.unwrap();
        let taken = Lock::take(&store, &site, LIFE, now).await.unwrap();
        assert!(matches!(taken, LockOutcome::Hold(_)), "{contents:?}");
    }
}

/// Two spellings of a directory have the same keys, and DynamoDB refuses a batch that names a key twice.
#[tokio::test]
async fn two_spellings_of_a_directory_are_read_at_once() {
    let (store, site) = (store().await, name("twice.example"));
    let both = ["https://ca.example/dir", "https://ca.example/dir/"].map(IssuerKey::of_directory);
    let found = find_challenges(&store, &both, site.name()).await;
    assert!(found.is_ok(), "{found:?}");
    let read = read(&store, &both, &site).await;
    assert!(read.is_ok(), "{read:?}");
}

#[tokio::test]
async fn the_first_account_key_is_the_fleets() {
    let store = store().await;
    let share = async |pem: &str| commit_first_key(&store, &pem.as_bytes().to_vec().into()).await;
    share("first").await.unwrap();
    assert!(matches!(share("second").await, Err(StoreError::Conflict)));
    let found = find_account(&store, &issuer(), "a@example.com").await.unwrap();
    assert!(found.account.is_none());
    assert_eq!(found.key.unwrap().as_bytes(), b"first");
}

async fn commit_first_key(store: &Store, key: &PrivateKeyPem) -> Result<(), StoreError> {
    let issuer = issuer();
    let commit =
        AccountKeyCommit { issuer: &issuer, email: "a@example.com", replaced: None, key, account: None };
    commit_account_key(store, &commit, SystemTime::now()).await
}

/// An account that its CA has deactivated gets another key: of two instances that replace it, one does.
#[tokio::test]
async fn an_account_key_is_replaced_once_and_takes_what_was_said_of_it_along() {
    let (store, issuer, email) = (store().await, issuer(), "a@example.com");
    let (old, new, late): (PrivateKeyPem, PrivateKeyPem, PrivateKeyPem) =
        (b"old".to_vec().into(), b"new".to_vec().into(), b"late".to_vec().into());
    let account = Account::new(email, "https://ca.example/account/1");
    let commit =
        AccountKeyCommit { issuer: &issuer, email, replaced: None, key: &old, account: Some(&account) };
    commit_account_key(&store, &commit, SystemTime::now()).await.unwrap();
    let found = find_account(&store, &issuer, email).await.unwrap();
    assert_eq!(found.account.unwrap().location().as_deref(), Some("https://ca.example/account/1"));
    let replace = async |key| {
        let replaced = found.seen.as_ref();
        let commit = AccountKeyCommit { issuer: &issuer, email, replaced, key, account: None };
        commit_account_key(&store, &commit, SystemTime::now()).await
    };
    replace(&new).await.unwrap();
    assert!(matches!(replace(&late).await, Err(StoreError::Conflict)));
    let found = find_account(&store, &issuer, email).await.unwrap();
    assert!(found.account.is_none(), "it was the other key's");
    assert_eq!(found.key.unwrap().as_bytes(), b"new");
}

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn no_item_panics(text in "\\PC{0,200}", base64: bool) {
            let mut item = item::item("x", text.as_bytes(), SystemTime::now());
            if !base64 {
                item.insert(item::CONTENTS.to_owned(), AttributeValue::S(text));
            }
            if let Ok(contents) = ItemContents::of(&item) {
                let _ = (Challenge::read(&contents), Account::read(&contents), CertificateMetadata::read(&contents).write());
            }
        }

        #[test]
        fn what_is_left_of_an_item_of_caddys_is_read_or_counts_as_none(
            which in any::<proptest::sample::Index>(),
            cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
        ) {
            let texts: Vec<_> = caddys_items().iter().filter_map(|item| ItemContents::of(item).ok()).collect();
            let mut text = which.get(&texts).to_vec();
            for (at, byte, cut) in cuts {
                let at = at.index(text.len().max(1));
                if cut { text.truncate(at) } else if let Some(there) = text.get_mut(at) { *there = byte }
            }
            let renewed = CertificateMetadata::read(&text).renewed(&["a.example".to_owned()], None).write();
            prop_assert!(Document::read(&renewed).is_some(), "what Caddy is to read is JSON");
            if let Some(account) = Account::read(&text) {
                prop_assert!(Account::read(&account.write()).is_some());
            }
            let _ = (Challenge::read(&text).map(|challenge| challenge.write()), item::parse_instant(&String::from_utf8_lossy(&text)));
        }
    }
}

#[tokio::test]
async fn a_write_is_repeated_on_a_conflict_alone_and_not_for_ever() {
    for (conflicts, other, calls, expected) in
        [(0, false, 1, "written"), (3, false, 4, "written"), (9, false, 4, "conflict"), (1, true, 2, "other")]
    {
        let called = std::cell::Cell::new(0);
        let outcome = repeat_on_conflict(|| async {
            called.set(called.get() + 1);
            match (called.get() <= conflicts, other) {
                (true, _) => Err(StoreError::Conflict),
                (false, true) => Err(StoreError::Refused("other".into())),
                (false, false) => Ok(()),
            }
        });
        let told = match outcome.await {
            Ok(()) => "written",
            Err(StoreError::Conflict) => "conflict",
            Err(_) => "other",
        };
        assert_eq!((called.get(), told), (calls, expected), "{conflicts} conflicts");
    }
}
