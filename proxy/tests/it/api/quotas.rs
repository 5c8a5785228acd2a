//! How many entries a tenant may have.

use std::{thread, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::{gatehouse::Place, wait};

use super::client::{ALL, Client, settings, token};
use crate::fixture::{edge, start};

#[test]
fn two_instances_together_pass_no_quota_and_a_count_is_mended() {
    let edge = edge();
    let bounded = |place| {
        let mut settings = settings(&edge, place);
        settings.raw("domains", "entries_per_tenant", "5");
        settings.raw("domains", "quotas", "[{ tenant = \"zeta\", entries = 1 }]");
        settings
    };
    let (a, _b) = (start(&edge, bounded(Place::A)), start(&edge, bounded(Place::B)));
    let (acme, zeta) = (token(&a, &ALL, Some("acme")).1, token(&a, &ALL, Some("zeta")).1);
    let new = |name: &str| json!({ "domain": format!("{name}.customer.test") });
    let statuses: Vec<u16> = thread::scope(|scope| {
        let adding = |n: usize| {
            let (edge, acme, place) = (&edge, &acme, if n.is_multiple_of(2) { Place::A } else { Place::B });
            let add = move || {
                Client::new(edge, acme).at(place).call("POST", "domains", &new(&format!("n{n}"))).status
            };
            scope.spawn(add)
        };
        let running: Vec<_> = (0..8).map(adding).collect();
        running.into_iter().map(|adding| adding.join().unwrap()).collect()
    });
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(201), count(409)), (5, 3), "{statuses:?}");
    let [acme, zeta] = [&acme, &zeta].map(|text| Client::new(&edge, text));
    // The list is read from an index, which follows.
    let entries = wait::until("five entries", Duration::from_secs(20), || {
        let list = acme.call("GET", "domains", &Value::Null).json()?;
        let entries = list["items"].as_array().cloned().unwrap_or_default();
        ensure!(entries.len() == 5, "{list}");
        Ok(entries)
    })
    .unwrap();

    let refused = acme.expect(409, "POST", "domains", &new("more"));
    assert_eq!((&refused["field"], &refused["value"]), (&json!("tenant"), &json!("acme")));
    assert!(refused["detail"].as_str().unwrap().contains("5 entries"), "{refused}");
    acme.expect(409, "POST", "domains?dry_run=true", &new("more"));
    let told =
        a.command(&["domain", "add", "more.customer.test", "--tenant", "acme"]).unwrap_err().to_string();
    assert!(told.contains("domains.entries_per_tenant"), "{told}");
    let imported =
        zeta.expect(200, "POST", "imports", &json!({ "domains": [new("z0"), new("z1"), new("z2")] }));
    assert_eq!((&imported["added"], &imported["refused"]), (&json!(1), &json!(2)), "{imported}");
    let rows = json!({ "domains": [new("z3"), new("z4")] });
    let would = zeta.expect(200, "POST", "imports?dry_run=true", &rows);
    assert_eq!((&would["added"], &would["refused"]), (&json!(0), &json!(2)), "{would}");

    // Whoever removes one may have another, at either instance.
    let first = entries[0]["domain"].as_str().unwrap();
    acme.expect(200, "DELETE", &format!("domains/{first}"), &Value::Null);
    let at_b = acme.at(Place::B);
    at_b.expect(201, "POST", "domains", &new("more"));
    at_b.expect(409, "POST", "domains", &new("most"));
    let counted = |tenant| -> Value {
        serde_json::from_str(&a.command(&["domain", "count", "--tenant", tenant, "--json"]).unwrap()).unwrap()
    };
    assert_eq!(counted("acme"), json!({ "tenant": "acme", "entries": 5, "before": 5 }));
    assert_eq!(counted("default"), json!({ "tenant": "default", "entries": 0, "before": null }));
}
