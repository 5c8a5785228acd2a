mod corpus;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{DomainSettings, Maintenance, SiteRedirect, TlsVersion, UpstreamHost, WwwPair};
use crate::store::{Engine, FaultPlan, Faults, state_table::LogDay, tables};

async fn store() -> Store {
    let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
    tables::create(&store).await.unwrap();
    store
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

pub(super) fn record(name: &str, version: u64, changed_at: u64) -> DomainRecord {
    let at = Some(Micros::from_epoch(changed_at));
    DomainRecord {
        pattern: pattern(name),
        target: None,
        settings: DomainSettings::default(),
        settings_map: SettingsMap::Absent,
        status: DomainStatus::Active,
        tenant: "default".into(),
        version,
        created_at: at,
        changed_at: at,
        expires_at: None,
        is_unproven: false,
    }
}

pub(super) fn audit() -> Audit {
    let record = AuditRecord {
        at: Micros::from_epoch(1),
        by: "uid 0".to_owned(),
        domain: pattern("b.example"),
        tenant: "default".to_owned(),
        action: "replace".to_owned(),
        changes: Vec::new(),
    };
    Audit { record, kept: KEPT, event: None }
}

/// Beyond today, counted from 1970: the engine removes what has ended, sooner or later.
const KEPT: Duration = Duration::from_hours(200 * 365 * 24);

/// Both tables are written or neither.
#[tokio::test]
async fn a_change_and_who_made_it_are_kept_together() {
    let store = store().await;
    let day = LogDay::of(Micros::from_epoch(1));
    let told = async |tenant: &str, limit| {
        crate::store::state_table::audit(&store, &tenant.parse().unwrap(), &day, None, limit).await.unwrap()
    };
    replace(&store, &record("b.example", 1, 1), None, &audit(), &[]).await.unwrap();
    let lost = replace(&store, &record("b.example", 1, 2), None, &audit(), &[]).await;
    assert!(matches!(lost, Err(StoreError::Conflict)), "{lost:?}");
    assert_eq!(told("default", 10).await.records, [audit().record]);
    // Who loses an entry to another tenant finds it, too.
    let old = get(&store, &pattern("b.example")).await.unwrap();
    let moved = AuditRecord { tenant: "acme".to_owned(), ..audit().record };
    let new = DomainRecord { tenant: "acme".to_owned(), ..record("b.example", 2, 2) };
    let audit = Audit { record: moved.clone(), kept: KEPT, event: None };
    replace(&store, &new, old.as_ref(), &audit, &[]).await.unwrap();
    assert_eq!(told("acme", 10).await.records, [moved]);
    let first = told("default", 1).await;
    assert_eq!((first.records.len(), first.next.is_some()), (1, true));
    let tenant = "default".parse().unwrap();
    let rest = crate::store::state_table::audit(&store, &tenant, &day, first.next.as_deref(), 10).await;
    assert_eq!(rest.unwrap().records.len(), 1);
}

fn least(version: TlsVersion) -> DomainSettings {
    DomainSettings { minimum_tls: Some(version), ..DomainSettings::default() }
}

#[tokio::test]
async fn settings_are_set_beside_what_others_keep() {
    let store = store().await;
    let raised = |version| DomainRecord {
        settings: least(TlsVersion::Tls13),
        ..record("a.example", version, version)
    };
    replace(&store, &raised(1), None, &audit(), &[]).await.unwrap();
    let first = get(&store, &pattern("a.example")).await.unwrap().unwrap();
    assert_eq!((first.settings, first.settings_map), (least(TlsVersion::Tls13), SettingsMap::Present));

    let put = store.client().put_item().table_name(&store.tables().domains);
    let theirs = AttributeValue::M([("theirs".to_owned(), AttributeValue::Bool(true))].into());
    let put = put.item("domain", AttributeValue::S("b.example".to_owned())).item("settings", theirs);
    put.send().await.unwrap();
    let old = get(&store, &pattern("b.example")).await.unwrap().unwrap();
    assert_eq!((old.settings, old.settings_map), (DomainSettings::default(), SettingsMap::Present));
    for (version, minimum) in [(1, TlsVersion::Tls13), (2, TlsVersion::Tls12), (3, TlsVersion::Tls12)] {
        let old = get(&store, &pattern("b.example")).await.unwrap();
        let new = DomainRecord { settings: least(minimum), ..record("b.example", version, version) };
        replace(&store, &new, old.as_ref(), &audit(), &[]).await.unwrap();
        let read = get(&store, &pattern("b.example")).await.unwrap().unwrap();
        assert_eq!((read.version, read.settings), (version, least(minimum)));
    }
    let item = store.client().get_item().table_name(&store.tables().domains).consistent_read(true);
    let item = item.set_key(Some(key(&pattern("b.example")))).send().await.unwrap().item.unwrap();
    assert_eq!(item["settings"].as_m().unwrap()["theirs"], AttributeValue::Bool(true));
    // Another one beside it.
    let old = get(&store, &pattern("b.example")).await.unwrap();
    let both = DomainSettings {
        host: Some(UpstreamHost::Client),
        maintenance: Some(Maintenance::On),
        redirect: Some(SiteRedirect::Apex),
        www: Some(WwwPair::Serve),
        request_rate: Some("100/s burst 500".parse().unwrap()),
        client_request_rate: Some("off".parse().unwrap()),
        ..least(TlsVersion::Tls13)
    };
    let new = DomainRecord { settings: both, ..record("b.example", 4, 4) };
    replace(&store, &new, old.as_ref(), &audit(), &[]).await.unwrap();
    assert_eq!(get(&store, &pattern("b.example")).await.unwrap().unwrap().settings, both);
    // Added again after a removal, it has none of the settings that it had before.
    let old = get(&store, &pattern("b.example")).await.unwrap();
    replace(&store, &record("b.example", 5, 5), old.as_ref(), &audit(), &[]).await.unwrap();
    let read = get(&store, &pattern("b.example")).await.unwrap().unwrap();
    assert_eq!((read.settings, read.settings_map), (DomainSettings::default(), SettingsMap::Present));
}

#[test]
fn settings_of_a_wrong_form_are_named() {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let with = |value| AttributeValue::M([("minimum_tls".to_owned(), value)].into());
    let host = |value| AttributeValue::M([("host".to_owned(), value)].into());
    let redirect = |value| AttributeValue::M([("redirect".to_owned(), value)].into());
    let www = |value| AttributeValue::M([("www".to_owned(), value)].into());
    let maintenance = |value| AttributeValue::M([("maintenance".to_owned(), value)].into());
    for (settings, fault) in [
        (text("1.3"), "must be of type M"),
        (
            with(text("1.1")),
            "minimum_tls: `1.1` is not a version of TLS that is served; write `1.2` or `1.3`",
        ),
        (
            host(text("origin.example")),
            "host: `origin.example` is none of the two; write `target` or `client`",
        ),
        (maintenance(text("on")), "maintenance must be of type BOOL"),
        (redirect(text("there")), "redirect: `there` is none of the three; write `www`, `apex` or `off`"),
        (www(text("on")), "www: `on` is none of the three; write `redirect`, `serve` or `off`"),
        (with(AttributeValue::N("1.3".to_owned())), "minimum_tls must be of type S"),
    ] {
        let item = Item::from([("domain".to_owned(), text("a.example")), ("settings".to_owned(), settings)]);
        let error = DomainRecord::read(&item).unwrap_err().to_string();
        assert!(error.contains("settings") && error.contains(fault), "{error}");
    }
}

async fn put_by_hand(store: &Store, name: &str) {
    let put = store.client().put_item().table_name(&store.tables().domains);
    put.item("domain", AttributeValue::S(name.to_owned())).send().await.unwrap();
}

async fn feed(store: &Store, after: u64) -> Vec<String> {
    let mut found = Vec::new();
    for shard in SHARDS {
        let mut place = None;
        loop {
            let page = feed_page(store, shard, Micros::from_epoch(after), place, 2).await.unwrap();
            assert!(page.faults.is_empty(), "{:?}", page.faults);
            found.extend(page.records.iter().map(|record| record.pattern.to_string()));
            place = page.next;
            if place.is_none() {
                break;
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_item_with_nothing_but_its_domain_is_an_active_entry() {
    let store = store().await;
    put_by_hand(&store, "hand.example").await;
    let found = get(&store, &pattern("hand.example")).await.unwrap().unwrap();
    assert_eq!((found.status, found.tenant.as_str(), found.version), (DomainStatus::Active, "default", 0));
    assert_eq!((found.target, found.changed_at), (None, None));
}

#[tokio::test]
async fn reindex_puts_items_made_by_hand_into_feed_and_listing() {
    let store = store().await;
    put_by_hand(&store, "hand.example").await;
    put_by_hand(&store, "UPPER.example").await;
    assert_eq!(feed(&store, 0).await, Vec::<String>::new());
    let report = reindex(&store, Micros::from_epoch(7), None).await.unwrap();
    assert_eq!(report.repaired, 1);
    let faults: Vec<_> = report.malformed.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["item `UPPER.example`: domain must be written `upper.example` to be found"]);
    assert_eq!(feed(&store, 0).await, ["hand.example"]);
    let listed = list(&store, Whose::Tenant("default"), None, 10).await.unwrap();
    assert_eq!(listed.records.len(), 1);
    assert_eq!(
        reindex(&store, Micros::from_epoch(8), None).await.unwrap().repaired,
        0,
        "a second time nothing is left"
    );
}

#[tokio::test]
async fn a_write_replaces_exactly_the_version_it_was_decided_on() {
    let store = store().await;
    put(&store, &record("a.example", 1, 1), 0).await.unwrap();
    for (version, replaced) in [(1, 0), (3, 2)] {
        let written = put(&store, &record("a.example", version, 2), replaced).await;
        assert!(matches!(written, Err(StoreError::Conflict)), "{version} for {replaced}: {written:?}");
    }
    put(&store, &record("a.example", 2, 2), 1).await.unwrap();
    assert_eq!(get(&store, &pattern("a.example")).await.unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn a_write_leaves_what_it_does_not_know() {
    let store = store().await;
    let item = store.client().put_item().table_name(&store.tables().domains);
    let item = item.item("domain", AttributeValue::S("a.example".into()));
    item.item("checks", AttributeValue::M([("dns".to_owned(), AttributeValue::Bool(true))].into()))
        .send()
        .await
        .unwrap();
    put(&store, &record("a.example", 1, 1), 0).await.unwrap();
    let get = store.client().get_item().table_name(&store.tables().domains);
    let item = get.set_key(Some(key(&pattern("a.example")))).send().await.unwrap().item.unwrap();
    assert!(item.get("checks").unwrap().is_m());
}

#[tokio::test]
async fn the_feed_gives_what_changed_after_the_cursor_and_pages_are_followed() {
    let store = store().await;
    for n in 1..=40 {
        put(&store, &record(&format!("n{n:02}.example"), 1, n), 0).await.unwrap();
    }
    assert_eq!(feed(&store, 38).await, ["n39.example", "n40.example"]);
}

#[tokio::test]
async fn lists_are_read_in_parts_and_a_broken_item_hides_no_other() {
    let store = store().await;
    for n in 0..40 {
        let tenant = if n % 4 == 0 { "acme" } else { "default" };
        let record = DomainRecord { tenant: tenant.into(), ..record(&format!("n{n:02}.example"), 1, n + 1) };
        put(&store, &record, 0).await.unwrap();
    }
    put(&store, &DomainRecord { status: DomainStatus::Removed, ..record("n99.example", 1, 1) }, 0)
        .await
        .unwrap();
    put_by_hand(&store, "hand.example").await;
    put_by_hand(&store, "UPPER.example").await;
    for (whose, wanted, malformed) in
        [(Whose::Everybody, 41, 1), (Whose::Tenant("acme"), 10, 0), (Whose::Tenant("nobody"), 0, 0)]
    {
        for limit in [1, 7, 10, 41, 1000] {
            let (mut after, mut found, mut faults) = (None, std::collections::HashSet::new(), 0);
            loop {
                let part = list(&store, whose, after.as_ref(), limit).await.unwrap();
                assert!(part.records.len() <= usize::from(limit));
                found.extend(part.records.into_iter().map(|record| record.pattern));
                faults += part.malformed.len();
                after = part.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found.len(), wanted, "{whose:?} by {limit}");
            assert!(faults >= malformed, "{whose:?} by {limit}");
        }
    }
}

#[tokio::test]
async fn an_item_whose_version_a_hand_left_at_nothing_can_be_changed_and_repaired() {
    let store = store().await;
    for (name, version) in [
        ("zero.example", AttributeValue::N("0".into())),
        ("null.example", AttributeValue::Null(true)),
        ("most.example", AttributeValue::N(u64::MAX.to_string())),
    ] {
        let item = store.client().put_item().table_name(&store.tables().domains);
        let item = item.item("domain", AttributeValue::S(name.to_owned())).item("version", version);
        item.item("feed", AttributeValue::S("9".into())).send().await.unwrap();
        let old = get(&store, &pattern(name)).await.unwrap().unwrap();
        assert_eq!(reindex(&store, Micros::from_epoch(7), None).await.unwrap().repaired, 1, "{name}");
        let new = get(&store, &pattern(name)).await.unwrap().unwrap();
        assert_eq!(new.version, old.version.saturating_add(1), "{name}");
        assert!(feed(&store, 0).await.contains(&name.to_owned()), "{name}: its shard was none of ours");
    }
}

#[tokio::test]
async fn entries_are_found_past_throttles_and_unprocessed_keys() {
    let engine = Engine::in_memory().unwrap();
    let config = crate::config::StoreConfig::default();
    let plan = FaultPlan {
        seed: 11,
        stale: Duration::from_secs(2),
        throttle: 10,
        unprocessed: 500,
        ..FaultPlan::default()
    };
    let store = Store::on_faulty(engine, &config, Faults::new(plan));
    tables::create(&store).await.unwrap();
    for n in 0..20 {
        let names = [format!("n{n}.example"), format!("*.n{n}.example")];
        for name in &names {
            put(&store, &record(name, 1, 1), 0).await.unwrap();
        }
        let wanted: Vec<_> = names.iter().map(|name| pattern(name)).collect();
        assert_eq!(find(&store, &wanted).await.unwrap().records.len(), 2, "{names:?}");
    }
}

fn hostile_value() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        "\\PC{0,300}".prop_map(AttributeValue::S),
        "[a-z]{1,9}".prop_map(AttributeValue::S),
        "[0-9.eE+-]{0,50}".prop_map(AttributeValue::N),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<bool>().prop_map(AttributeValue::Null),
        Just(AttributeValue::L(vec![])),
    ]
}

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn hostile_items_never_panic(
            values in proptest::collection::vec((
                proptest::sample::select(vec![
                    "domain", "target", "status", "tenant", "version", "created_at", "changed_at", "expires_at",
                ]),
                hostile_value(),
            ), 0..12)
        ) {
            let item: Item = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let _ = DomainRecord::read(&item);
            // With a key that is one, so that the rest is read too.
            let named: Item = item.into_iter().chain(key(&pattern("a.example"))).collect();
            match DomainRecord::read(&named) {
                Ok(record) => prop_assert_eq!(record.pattern, pattern("a.example")),
                Err(fault) => prop_assert!(fault.to_string().starts_with("item `a.example`: "), "{}", fault),
            }
        }

        #[test]
        fn a_record_is_read_as_it_was_written(
            label in "[a-z][a-z0-9]{0,20}", wildcard: bool, version in 1..u64::MAX, at in 0..253_402_300_799_999_999_u64,
            status in proptest::sample::select(vec![
                DomainStatus::Pending, DomainStatus::Active, DomainStatus::Failing, DomainStatus::Suspended, DomainStatus::Removed,
            ]),
            port in proptest::option::of(1..u16::MAX), expires_at in proptest::option::of(any::<u64>()),
            is_unproven: bool,
        ) {
            let name = format!("{}{label}.example", if wildcard { "*." } else { "" });
            let target = port.map(|port| crate::target::Target::parse(&format!("http://10.0.0.1:{port}")).unwrap());
            let record = DomainRecord { target, status, expires_at, is_unproven, ..record(&name, version, at) };
            let attributes = record.attributes().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let mut item: Item = attributes.collect();
            item.extend(key(&record.pattern));
            prop_assert_eq!(DomainRecord::read(&item).unwrap(), record);
        }
    }
}
