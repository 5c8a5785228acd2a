//! The instances of a fleet, as each says of itself.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::{
    gatehouse::{Gatehouse, Place},
    wait,
};

use crate::{
    api::client::{ALL, Client, settings, token},
    fixture::{edge, start, table},
};

/// What `gatehouse fleet status --json` says, which ends with 1 where there is a warning.
fn status(gatehouse: &Gatehouse) -> Value {
    serde_json::from_str(&gatehouse.command(&["fleet", "status", "--json"]).unwrap()).unwrap()
}

#[test]
fn every_instance_is_listed_by_every_other_until_it_ends() {
    let edge = edge();
    let mut at_a = settings(&edge, Place::A);
    edge.guard(&mut at_a, "strict").unwrap();
    let (a, mut b) = (start(&edge, at_a), start(&edge, settings(&edge, Place::B)));
    let (_, text) = token(&a, &ALL, None);
    let listed = |place, count: usize| {
        let client = Client::new(&edge, &text).at(place);
        wait::until(&format!("{count} instances at {place:?}"), Duration::from_secs(20), || {
            let list = client.call("GET", "instances", &Value::Null).json()?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            ensure!(items.len() == count, "{list}");
            Ok(items)
        })
        .unwrap()
    };
    for place in [Place::A, Place::B] {
        let items = listed(place, 2);
        let guarded: Vec<_> = items.iter().filter(|item| item["guard"].is_object()).collect();
        let [guarded] = &*guarded else { panic!("{items:?}") };
        assert_eq!(
            (&guarded["guard"]["mode"], &guarded["guard"]["attached"], &guarded["guard"]["names"]),
            (&json!("strict"), &json!(1), &json!(1)),
            "{guarded}"
        );
        for item in &items {
            assert_eq!(
                (&item["version"], &item["phase"]),
                (&json!(env!("CARGO_PKG_VERSION")), &json!("serving"))
            );
            assert_eq!((&item["names"], &item["warnings"]), (&json!(1), &json!([])), "{item}");
        }
    }
    assert_eq!(status(&a)["instances"].as_array().unwrap().len(), 2);
    let ids = |items: &[Value]| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
    let before = ids(&listed(Place::A, 2));

    // One that ends leaves the list; started again it has its place.
    b.stop().unwrap();
    listed(Place::A, 1);
    b.start_again().unwrap();
    assert_eq!(ids(&listed(Place::A, 2)), before);
}

#[test]
fn who_is_silent_or_of_another_release_is_named_and_who_is_forgotten_is_not() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let (_, text) = token(&a, &ALL, None);
    let client = Client::new(&edge, &text);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let said = |id: &str, at: &str, expires: u64, version: &str| {
        let report =
            json!({ "version": version, "phase": "serving", "revision": 1, "of_later_releases": [1] });
        let item = json!({
            "pk": { "S": "instances" }, "sk": { "S": id }, "run": { "S": "1" }, "seen_at": { "S": at },
            "report": { "S": report.to_string() }, "expires_at": { "N": expires.to_string() },
        });
        table(&edge, "PutItem", &json!({ "TableName": "gatehouse-state", "Item": item }));
    };
    let (long_ago, ahead) = ("2026-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.000000Z");
    said("i-silent", long_ago, now + 600, env!("CARGO_PKG_VERSION"));
    said("i-other", ahead, now + 600, "0.0.1");
    said("i-forgotten", long_ago, now - 1, "0.0.1");
    let items = wait::until("three instances", Duration::from_secs(20), || {
        let list = client.call("GET", "instances", &Value::Null).json()?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        ensure!(items.len() == 3, "{list}");
        Ok(items)
    })
    .unwrap();
    let warned = |id: &str| {
        let item = items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("{items:?}"));
        item["warnings"].as_array().unwrap().iter().map(|warning| warning["kind"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (warned("i-silent"), warned("i-other")),
        (vec![json!("silent")], vec![json!("other_version")])
    );
    let refused = a.command(&["fleet", "status"]).unwrap_err().to_string();
    assert!(refused.contains("2 of the instances have warnings"), "{refused}");
}
