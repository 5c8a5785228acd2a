//! What the checker does in its time.

use std::time::{Duration, SystemTime};

use aws_policy::Role;
use gatehouse::store::{
    domain_table::{DomainStatus, checks::Outcome as Found},
    state_table::lease::{Holder, Lease},
};
use serde_json::{Value, json};

use crate::{
    dns::{Dns, free},
    function::{Function, Outcome},
    table::Table,
};

/// The checker of an edge that is called `edge.test`, at which nobody listens.
async fn checker(endpoint: &str, dns: &Dns, more: &str) -> Function {
    let settings = format!(
        "[verification]\nrequired = \"dns\"\nedge_names = [\"edge.test\"]\nedge_addresses = [\"127.0.0.1\"]\n\
         resolvers = [\"{}\"]\ninterval = \"24s\"\n{more}\n[listen]\nhttps = [\"{}\"]\n",
        dns.address,
        free().await
    );
    Function::start("checker", endpoint, &[("SETTINGS", &settings)]).await
}

async fn woken(function: &mut Function, time: Duration) -> Value {
    let event = json!({ "source": "aws.events", "detail-type": "Scheduled Event" });
    function.invoke(event, time).await.response()
}

#[tokio::test]
async fn names_that_are_due_are_looked_at_and_their_entries_follow() {
    let (table, dns) = (Table::start().await, Dns::start().await);
    for (name, status) in [
        ("shop.example", DomainStatus::Pending),
        ("moved.example", DomainStatus::Active),
        ("suspended.example", DomainStatus::Suspended),
    ] {
        table.put(name, status).await;
    }
    dns.alias("shop.example", "edge.test").await;
    let mut function = checker(&table.endpoint, &dns, "").await;
    let report = woken(&mut function, MINUTES).await;
    let wanted = json!({
        "lease": "held", "looked_at": 2, "changed": 1, "not_due": 0, "failed": 0, "left": 0, "malformed": 0,
        "is_index_read": true
    });
    assert_eq!(report, wanted);
    let (status, checks) = table.get("shop.example").await;
    assert_eq!((status, checks.unwrap().failures), (DomainStatus::Active, 0));
    let (status, checks) = table.get("moved.example").await;
    let checks = checks.unwrap();
    assert_eq!(
        (status, checks.failures, checks.findings[0].outcome),
        (DomainStatus::Active, 1, Found::Failed)
    );
    assert_eq!(table.get("suspended.example").await, (DomainStatus::Suspended, None));
    table.assert_called_as_granted(Role::Checker);

    // What was found wrong is looked at again soon; what failed three times is so for all.
    let mut passes = 1;
    while table.get("moved.example").await.0 == DomainStatus::Active {
        passes += 1;
        assert!(passes < 12, "{:?}", table.get("moved.example").await);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        woken(&mut function, MINUTES).await;
    }
    assert_eq!(table.get("moved.example").await.0, DomainStatus::Failing);
    let log = function.end().await;
    assert!(
        log.contains("domain changed by its checks")
            && log.contains("leads to an address of a private network"),
        "{log}"
    );
}

#[tokio::test]
async fn while_another_has_the_lease_nothing_is_done() {
    let (table, dns) = (Table::start().await, Dns::start().await);
    table.put("shop.example", DomainStatus::Pending).await;
    let (holder, life) = (Holder::random().unwrap(), Duration::from_mins(1));
    let lease = Lease::take(&table.store, "domain-checks", &holder, life, SystemTime::now()).await;
    let mut function = checker(&table.endpoint, &dns, "").await;
    let report = woken(&mut function, MINUTES).await;
    assert_eq!((&report["lease"], &report["looked_at"]), (&json!("elsewhere"), &json!(0)), "{report}");
    assert_eq!(table.get("shop.example").await, (DomainStatus::Pending, None));

    lease.unwrap().unwrap().release(&table.store).await.unwrap();
    assert_eq!(woken(&mut function, MINUTES).await["looked_at"], 1);
    // It leaves none behind.
    let lease = Lease::take(&table.store, "domain-checks", &holder, life, SystemTime::now()).await;
    assert!(lease.unwrap().is_some());
}

#[tokio::test]
async fn what_there_is_no_time_for_is_done_by_the_next() {
    const NAMES: usize = 40;
    let (table, dns) = (Table::start().await, Dns::start().await);
    let name = |i| format!("site-{i}.example");
    for i in 0..NAMES {
        table.put(&name(i), DomainStatus::Active).await;
        dns.alias(&name(i), "edge.test").await;
    }
    let mut function = checker(&table.endpoint, &dns, "per_second = 10").await;
    // Ten seconds are for its end.
    let begun = SystemTime::now();
    let report = woken(&mut function, Duration::from_millis(11_500)).await;
    assert!(begun.elapsed().unwrap() < Duration::from_secs(5), "it took the time that is for its end");
    let (looked_at, left) = (report["looked_at"].as_u64().unwrap(), report["left"].as_u64().unwrap());
    assert!(looked_at > 0 && left > 0, "{report}");

    let report = woken(&mut function, MINUTES).await;
    assert_eq!(report["left"], 0, "{report}");
    assert!(report["looked_at"].as_u64().unwrap() >= left, "{report}");
    for i in 0..NAMES {
        assert!(table.get(&name(i)).await.1.is_some(), "{}", name(i));
    }
}

#[tokio::test]
async fn a_table_that_does_not_answer_is_an_error_of_the_invocation() {
    let dns = Dns::start().await;
    let nowhere = format!("http://{}", free().await);
    let mut function = checker(&nowhere, &dns, "").await;
    let Outcome::Error(said) = function.invoke(json!({}), MINUTES).await else { panic!("it was done") };
    assert!(said.contains("errorMessage"), "{said}");
}

const MINUTES: Duration = Duration::from_mins(5);
