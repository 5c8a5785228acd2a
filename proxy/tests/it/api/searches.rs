//! A few entries among many, looked for by name and by status.

use std::{path::Path, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::{gatehouse::Place, wait};

use super::client::{ALL, Client, settings, token};
use crate::fixture::{BINARY, edge, scrape_until, start, table};

/// More than a part of a list looks at of an index, all of them changed before those that are looked for.
const OTHERS: u32 = 2_500;

fn entry(name: &str, status: &str, at: u32) -> Value {
    let at = format!("2026-01-01T00:00:00.{at:06}Z");
    let text = |text: &str| json!({ "S": text });
    json!({ "PutRequest": { "Item": {
        "domain": text(name), "tenant": text("acme"), "status": text(status), "feed": text("0"),
        "version": { "N": "1" }, "created_at": text(&at), "changed_at": text(&at),
    } } })
}

#[test]
fn a_search_finds_in_its_first_part_whatever_was_changed_before() {
    let edge = edge();
    let settings = settings(&edge, Place::A);
    settings.command(&edge.network.edge, Path::new(BINARY), &["tables", "create"]).unwrap();
    let others = (0..OTHERS).map(|number| entry(&format!("n{number}.customer.test"), "active", number));
    let sought =
        ["needle-a.customer.test", "needle-b.customer.test"].map(|name| entry(name, "suspended", OTHERS));
    let all: Vec<_> = others.chain(sought).collect();
    for batch in all.chunks(25) {
        table(&edge, "BatchWriteItem", &json!({ "RequestItems": { "gatehouse-domains": batch } }));
    }
    // A start reads the index, which follows.
    let latest = json!({
        "TableName": "gatehouse-domains", "IndexName": "feed", "ScanIndexForward": false, "Limit": 2,
        "KeyConditionExpression": "feed = :feed", "ExpressionAttributeValues": { ":feed": { "S": "0" } },
    });
    wait::until("the index", Duration::from_secs(20), || {
        let seen = table(&edge, "Query", &latest);
        ensure!(seen["Items"].to_string().matches("needle-").count() == 2, "{seen}");
        Ok(())
    })
    .unwrap();
    let a = start(&edge, settings);
    scrape_until(&a, "the lists", Duration::from_secs(20), |metrics| {
        metrics.sum("gatehouse_domains_known", &[]) > f64::from(OTHERS)
    });
    let [operator, acme, zeta] =
        [None, Some("acme"), Some("zeta")].map(|tenant| Client::new(&edge, &token(&a, &ALL, tenant).1));
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["domain"].as_str().unwrap().to_owned()).collect()
    };
    for (client, query) in [
        (&operator, "prefix=needle"),
        (&operator, "status=suspended"),
        (&operator, "prefix=needle&status=suspended"),
        (&operator, "status=suspended&tenant=acme"),
        (&acme, "status=suspended"),
        (&acme, "prefix=needle"),
        (&acme, "prefix=needle&status=suspended"),
    ] {
        let list = client.expect(200, "GET", &format!("domains?{query}"), &Value::Null);
        assert_eq!(names(&list), ["needle-a.customer.test", "needle-b.customer.test"], "{query}: {list}");
        assert!(list["next"].is_null(), "{query}: {list}");
        let first = client.expect(200, "GET", &format!("domains?{query}&limit=1"), &Value::Null);
        let cursor = first["next"].as_str().unwrap();
        let second =
            client.expect(200, "GET", &format!("domains?{query}&limit=1&cursor={cursor}"), &Value::Null);
        assert_eq!((names(&first), names(&second)), (names(&list)[..1].to_vec(), names(&list)[1..].to_vec()));
    }
    let nothing = zeta.expect(200, "GET", "domains?status=suspended", &Value::Null);
    assert_eq!((&nothing["items"], &nothing["next"]), (&json!([]), &Value::Null), "another tenant's");
    // What is not there is not found, and that at once.
    let nothing = operator.expect(200, "GET", "domains?prefix=noodle", &Value::Null);
    assert_eq!((&nothing["items"], &nothing["next"]), (&json!([]), &Value::Null));
}
