//! Requests that are sent again because their answer was lost.

use serde_json::{Value, json};
use testbed::{curl::Reply, gatehouse::Place};

use super::client::{ALL, Client, settings, token};
use crate::fixture::{SHOP, edge, start, table};

fn post(client: &Client<'_>, key: &str, path: &str, body: &Value) -> Reply {
    client.call_with(&[("Idempotency-Key", key)], "POST", path, body)
}

#[test]
fn a_request_that_is_sent_again_is_answered_as_it_was_at_any_instance() {
    let edge = edge();
    let (a, _b) = (start(&edge, settings(&edge, Place::A)), start(&edge, settings(&edge, Place::B)));
    let (_, text) = token(&a, &ALL, None);
    let [at_a, at_b] = [Place::A, Place::B].map(|place| Client::new(&edge, &text).at(place));
    let (key, new) = ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", json!({ "domain": SHOP }));
    let first = post(&at_a, key, "domains", &new);
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None), "{first:?}");
    // Without quotes it is the same key. The entry is gone meanwhile, and is not added a second time.
    at_b.expect(200, "DELETE", &format!("domains/{SHOP}"), &Value::Null);
    for client in [&at_a, &at_b] {
        let again = post(client, key.trim_matches('"'), "domains", &new);
        assert_eq!((again.status, &again.body), (201, &first.body), "{again:?}");
        for field in ["etag", "location", "content-type"] {
            assert_eq!(again.header(field), first.header(field), "{again:?}");
        }
        assert_eq!(again.header("idempotency-replayed").as_deref(), Some("true"));
    }
    at_a.expect(404, "GET", &format!("domains/{SHOP}"), &Value::Null);

    // Another body, another path, another version: another request.
    for (path, body) in [
        ("domains", json!({ "domain": SHOP, "target": "http://192.0.2.77" })),
        ("domains?dry_run=true", new.clone()),
        ("imports", json!({ "domains": [new.clone()] })),
    ] {
        let other = post(&at_b, key, path, &body);
        assert_eq!(
            (other.status, &other.json().unwrap()["field"]),
            (422, &json!("Idempotency-Key")),
            "{other:?}"
        );
    }
    at_a.expect(404, "GET", &format!("domains/{SHOP}"), &Value::Null);
    // curl sends no field without a value.
    for wrong in ["", "a b", "\"a", &"k".repeat(129)] {
        assert_eq!(
            post(&at_a, wrong, "domains", &new).status,
            if wrong.is_empty() { 201 } else { 400 },
            "{wrong:?}"
        );
    }
    // What is no POST has no use for one.
    let read = at_a.call_with(&[("Idempotency-Key", key)], "GET", &format!("domains/{SHOP}"), &Value::Null);
    assert_eq!(read.status, 200, "{read:?}");

    // One that somebody carries out, or died of, is waited for and then carried out.
    let item = |until: &str| {
        let scanned =
            table(&edge, "Scan", &json!({ "TableName": "gatehouse-state", "ConsistentRead": true }));
        let items = scanned["Items"].as_array().unwrap().clone();
        let mut item = items.into_iter().find(|item| item["sk"]["S"] == "once").unwrap();
        let item = item.as_object_mut().unwrap();
        item.retain(|name, _| !name.starts_with("answer_"));
        item.insert("held_until".to_owned(), json!({ "N": until }));
        table(&edge, "PutItem", &json!({ "TableName": "gatehouse-state", "Item": item }));
    };
    let suspend = format!("domains/{SHOP}/suspend");
    assert_eq!(post(&at_a, "once", &suspend, &Value::Null).status, 200);
    item("99999999999999");
    assert_eq!(post(&at_b, "once", &suspend, &Value::Null).status, 409);
    item("1");
    let done = post(&at_b, "once", &suspend, &Value::Null);
    assert_eq!((done.status, done.json().unwrap()["action"].as_str()), (200, Some("keep")));
}

#[test]
fn a_key_is_its_tokens_alone() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let tokens = [Some("acme"), Some("zeta")].map(|tenant| token(&a, &ALL, tenant).1);
    let [acme, zeta] = [&tokens[0], &tokens[1]].map(|text| Client::new(&edge, text));
    let new = json!({ "domain": SHOP });
    assert_eq!(post(&acme, "k", "domains", &new).status, 201);
    // Not the other's answer: the name is taken.
    assert_eq!(post(&zeta, "k", "domains", &new).status, 409);
    acme.expect(200, "DELETE", &format!("domains/{SHOP}"), &Value::Null);
    // What was refused for what others had is tried anew.
    assert_eq!(post(&zeta, "k", "domains", &new).status, 201);

    let reader = token(&a, &["domains:read"], Some("acme")).1;
    assert_eq!(post(&Client::new(&edge, &reader), "r", "domains", &new).status, 403);
    let nobody = Client { edge: &edge, place: Place::A, authorization: None };
    assert_eq!(post(&nobody, "r", "domains", &new).status, 401);
    let scanned =
        table(&edge, "Scan", &json!({ "TableName": "gatehouse-state", "ConsistentRead": true })).to_string();
    assert!(
        scanned.contains("\"sk\":{\"S\":\"k\"}") && !scanned.contains("\"sk\":{\"S\":\"r\"}"),
        "{scanned}"
    );
    assert!(tokens.iter().all(|text| !scanned.contains(&**text)));
}
