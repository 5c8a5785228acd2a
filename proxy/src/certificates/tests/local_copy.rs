use super::*;
use crate::store::{
    domain_table::DomainStatus,
    local_copy::{CopiedEntry, CopiedSource},
};

fn entry(name: &str) -> CopiedEntry {
    CopiedEntry {
        domain: pattern(name),
        target: None,
        settings: DomainSettings::default(),
        tenant: "t".to_owned(),
        status: DomainStatus::Active,
        source: CopiedSource::Table,
        version: 1,
        changed_at_micros: 1_700_000_000_000_000,
    }
}

/// A fleet whose instances copy, and read names from a table.
async fn copying() -> Fleet {
    let mut fleet = Fleet::new(Some("")).await;
    fleet.config.domains.table = true;
    fleet.config.domains.poll = Span::millis(50);
    fleet.config.store.local_copy = Some(PathBuf::from("/nowhere"));
    fleet
}

#[tokio::test]
async fn what_was_copied_is_presented_and_copied_again_once_the_table_was_seen_to_hold_it() {
    let fleet = copying().await;
    let first = fleet.instance();
    let presented = leaf(&first.obtain("kept.served.example").await.unwrap());
    let now = SystemTime::now();
    let copied: Vec<_> = first.certificates.held_for_copy(now).iter().map(HeldCertificate::copied).collect();
    assert_eq!(copied.len(), 1);

    let again = fleet.instance();
    assert_eq!(again.certificates.restore(&copied, now), 1);
    let slot = again.certificates.cached(&name("kept.served.example")).unwrap();
    assert_eq!(leaf(&slot), presented);
    assert!(again.certificates.held_for_copy(now).is_empty(), "the table was not asked since");
    follow::round(&again.certificates.inner, now + Duration::from_secs(30)).await;
    assert_eq!(again.certificates.held_for_copy(now).len(), 1);
    assert_eq!(again.orders(), 0);
}

#[tokio::test]
async fn what_a_copy_allows_is_not_ordered() {
    let fleet = copying().await;
    let faults = fleet.faults.clone().unwrap();
    // The domains table cannot be read, and the others can.
    faults.forbid(&["Query"]);
    let instance = fleet.instance();
    let domains = &instance.certificates.inner.domains;
    domains.settled(Duration::from_secs(20)).await;
    assert_eq!(domains.restore(&[entry("copied.example")]), 1);
    assert!(matches!(domains.known(&name("copied.example")), Some(Permission::Allow(_))));
    assert_eq!(instance.obtain("copied.example").await.err(), Some(CertificateRefusal::Unknown));
    let permission = instance.certificates.inner.permission(&pattern("copied.example")).await;
    assert!(matches!(permission, Permission::Unknown(_)), "for renewals as well: {permission:?}");
    assert_eq!(instance.orders(), 0);
    instance.obtain("of.served.example").await.unwrap();
    assert_eq!(instance.orders(), 1, "what the settings allow is ordered");
    faults.forbid(&[]);
    until("the table's answer, which knows no such name", || async {
        let permission = domains.permission(&name("copied.example"), Caller::Client(CLIENT)).await;
        ensure!(matches!(permission, Permission::Deny(_)), "{permission:?}");
        Ok(())
    })
    .await;
    let permission = instance.certificates.inner.permission(&pattern("copied.example")).await;
    assert!(matches!(permission, Permission::Deny(_)), "{permission:?}");
}
