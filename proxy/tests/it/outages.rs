//! The CA down, the store down.

use std::time::Duration;

use testbed::{gatehouse::Place, relay::Traffic, wait};

use crate::fixture::{SHOP, assert_served, edge, get, start};

#[test]
fn while_the_ca_is_down_known_names_are_served_and_a_new_one_backs_off() {
    let edge = edge();
    let new = "new.customer.test";
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain(SHOP).domain(new);
    let gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);

    edge.ca.relay.set(Traffic::Cut);
    assert_served(&edge, SHOP);
    let refused = get(&edge, new);
    assert_eq!((refused.exit, refused.status), (35, 0), "a TLS alert, not a time-out: {refused:?}");
    wait::until("log lines about the failed order and its back-off", Duration::from_secs(5), || {
        let log = gatehouse.process.output();
        let told = |words: &[&str]| {
            log.lines().any(|line| line.contains(new) && words.iter().all(|word| line.contains(word)))
        };
        anyhow::ensure!(told(&["order failed", "ca.test-14000-dir"]) && told(&["retry_in"]), "{log}");
        Ok(())
    })
    .unwrap();

    let attempts = || edge.ca.relay.counts().values().sum::<u64>();
    let before = attempts();
    // A refusal is remembered for a moment; what is refused after it is refused by what the table remembers.
    wait::until("a refusal by the back-off", Duration::from_secs(10), || {
        assert_eq!(get(&edge, new).status, 0);
        let metrics = gatehouse.metrics()?;
        let backed_off = metrics.sum("gatehouse_certificates_obtained_total", &["outcome=\"backing_off\""]);
        anyhow::ensure!(backed_off > 0.5, "{metrics}");
        Ok(())
    })
    .unwrap();
    assert_eq!(attempts(), before, "while it backs off the CA is left alone");
    let shown = gatehouse.command(&["certificate", "show", new]).unwrap();
    assert!(shown.contains("problem     the CA does not answer") && shown.contains("retry at"), "{shown}");
    assert!(!shown.contains("failures"), "an outage of the CA is not the name's failure: {shown}");
    let retried = gatehouse.command(&["certificate", "retry", new]).unwrap();
    assert!(retried.contains("its failures are forgotten"), "{retried}");
    assert_served(&edge, SHOP);

    edge.ca.relay.set(Traffic::Pass);
    wait::until("the new name once the CA answers again", Duration::from_secs(40), || {
        let reply = get(&edge, new);
        anyhow::ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn while_the_store_is_down_cached_names_are_served() {
    let edge = edge();
    let (cached, unread) = ("cached.customer.test", "unread.customer.test");
    let mut gatehouse = start(&edge, edge.shared_settings(Place::A, "auto"));
    for name in [cached, unread] {
        gatehouse.command(&["domain", "add", name]).unwrap();
    }
    assert_served(&edge, cached);

    edge.table.relay.set(Traffic::Cut);
    for _ in 0..3 {
        assert_served(&edge, cached);
    }
    assert_eq!(get(&edge, unread).status, 0, "whether it has a certificate cannot be known");
    assert_eq!(get(&edge, "never.heard.test").status, 0);
    gatehouse.process.ensure_alive().unwrap();

    edge.table.relay.set(Traffic::Pass);
    wait::until("the store's return to be noticed", Duration::from_secs(90), || {
        let reply = edge.curl(&format!("https://{unread}/")).run()?;
        anyhow::ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
}
