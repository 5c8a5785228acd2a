//! Who may read and change what.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::{
    gatehouse::{Gatehouse, Place},
    wait,
};

use super::client::{ALL, Client, settings, token};
use crate::fixture::{SHOP, edge, report, start};

/// Each verb, with the status that a token of another tenant gets.
fn verbs() -> Vec<(&'static str, String, Value, u16)> {
    let entry = format!("domains/{SHOP}");
    vec![
        ("GET", entry.clone(), Value::Null, 404),
        ("PATCH", entry.clone(), json!({ "target": "http://192.0.2.66" }), 404),
        ("DELETE", entry.clone(), Value::Null, 404),
        ("POST", format!("{entry}/suspend"), Value::Null, 404),
        ("POST", format!("{entry}/resume"), Value::Null, 404),
        ("POST", format!("{entry}/retry"), Value::Null, 404),
        ("POST", format!("{entry}/link"), json!({}), 404),
        ("PUT", format!("{entry}/maintenance"), Value::Null, 404),
        ("DELETE", format!("{entry}/maintenance"), Value::Null, 404),
        ("POST", "domains".to_owned(), json!({ "domain": SHOP, "target": "http://192.0.2.66" }), 409),
        ("POST", "domains".to_owned(), json!({ "domain": "b.customer.test", "tenant": "acme" }), 403),
        ("POST", "domains".to_owned(), json!({ "domain": "*.customer.test" }), 409),
        ("POST", "imports".to_owned(), json!({ "domains": [{ "domain": "192.0.2.1" }] }), 422),
        ("GET", "domains?tenant=acme".to_owned(), Value::Null, 403),
        ("GET", format!("{entry}/records?tenant=acme"), Value::Null, 403),
        ("GET", "audit?tenant=acme".to_owned(), Value::Null, 403),
        ("GET", "events?tenant=acme".to_owned(), Value::Null, 403),
        ("GET", "instances".to_owned(), Value::Null, 403),
    ]
}

/// All that is kept of entries and their changes.
fn state(gatehouse: &Gatehouse, operator: &Client<'_>) -> (String, Value, Value) {
    let listed = gatehouse.command(&["domain", "list", "--json"]).unwrap();
    let audit = |tenant: &str| operator.expect(200, "GET", &format!("audit?tenant={tenant}"), &Value::Null);
    (listed, audit("acme"), audit("zeta"))
}

#[test]
fn no_verb_reads_or_changes_anything_without_its_scope_or_of_another_tenant() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let (_, operator) = token(&a, &ALL, None);
    let operator = Client::new(&edge, &operator);
    let target = "http://192.0.2.77";
    operator.expect(201, "POST", "domains", &json!({ "domain": SHOP, "tenant": "acme", "target": target }));
    let before = state(&a, &operator);
    let refuse = |client: &Client<'_>, (method, path, body, _): &(&str, String, Value, u16), status: u16| {
        let reply = client.call_for(method, path, body, (*method == "PATCH").then_some("*"));
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert!(!reply.body.contains(target), "{method} {path}: {reply:?}");
        assert_eq!(reply.header("content-type").as_deref(), Some("application/problem+json"), "{reply:?}");
    };

    let (_, zeta) = token(&a, &ALL, Some("zeta"));
    for verb in &verbs() {
        refuse(&Client::new(&edge, &zeta), verb, verb.3);
    }
    let events =
        |token: &str| Client::new(&edge, token).expect(200, "GET", "events", &Value::Null)["items"].clone();
    assert_eq!(events(&zeta), json!([]));
    let (_, acme) = token(&a, &ALL, Some("acme"));
    // A tenant's answer is read eventually consistent.
    wait::until("the tenant to be told of its own", Duration::from_secs(20), || {
        let told = events(&acme);
        let (kind, data) = (&told[0]["type"], &told[0]["data"]);
        let is_own = (&data["domain"], &data["tenant"]) == (&json!(SHOP), &json!("acme"));
        ensure!(*kind == json!("domain.created") && is_own, "{told}");
        Ok(())
    })
    .unwrap();
    assert_eq!(events(&zeta), json!([]), "nor later, when there is something to be told");
    let without = |scope: &str| ALL.into_iter().filter(|other| *other != scope).collect::<Vec<_>>();
    for tenant in [Some("acme"), None] {
        let [reads, writes, audits] = ALL.map(|scope| token(&a, &without(scope), tenant).1);
        for verb in &verbs() {
            let lacking = match (verb.0, ["audit", "events"].iter().any(|list| verb.1.starts_with(list))) {
                ("GET", true) => &audits,
                ("GET", false) => &reads,
                _ => &writes,
            };
            refuse(&Client::new(&edge, lacking), verb, 403);
        }
    }

    let (revoked_id, revoked) = token(&a, &ALL, None);
    a.command(&["token", "revoke", &revoked_id]).unwrap();
    let mut changed = operator.authorization.clone().unwrap();
    let last = if changed.pop() == Some('0') { '1' } else { '0' };
    changed.push(last);
    let made_up = format!("Bearer gatehouse_{}_{}", "0".repeat(12), "0".repeat(72));
    for authorization in [
        None,
        Some(String::new()),
        Some("Basic b3BzOm9wcw==".to_owned()),
        Some("Bearer".to_owned()),
        Some(made_up),
        Some(changed),
        Some(format!("Bearer {revoked}")),
    ] {
        let client = Client { edge: &edge, place: Place::A, authorization };
        for verb in &verbs() {
            refuse(&client, verb, 401);
        }
    }
    assert_eq!(state(&a, &operator), before);
    let own = token(&a, &ALL, Some("acme")).1;
    let own = Client::new(&edge, &own).expect(200, "GET", &format!("domains/{SHOP}"), &Value::Null);
    assert_eq!((own["target"].as_str(), own["version"].as_u64()), (Some(target), Some(1)));
    let none = Client::new(&edge, &zeta).expect(200, "GET", "domains", &Value::Null);
    assert_eq!(none["items"], json!([]));
}

/// What an operator suspended, its tenant does not serve again, by no way.
#[test]
fn a_tenant_does_not_end_a_suspension() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let (_, own) = token(&a, &ALL, Some("acme"));
    let own = Client::new(&edge, &own);
    own.expect(201, "POST", "domains", &json!({ "domain": SHOP }));
    own.expect(403, "POST", &format!("domains/{SHOP}/suspend"), &Value::Null);
    a.command(&["domain", "suspend", SHOP]).unwrap();
    own.expect(403, "POST", &format!("domains/{SHOP}/resume"), &Value::Null);
    own.expect(403, "DELETE", &format!("domains/{SHOP}"), &Value::Null);
    own.expect(409, "POST", "domains", &json!({ "domain": SHOP }));
    own.expect(403, "POST", "domains", &json!({ "domain": "b.customer.test", "verified": true }));
    let reply = own.call_for("PATCH", &format!("domains/{SHOP}"), &json!({ "host": "client" }), Some("*"));
    assert_eq!((reply.status, reply.json().unwrap()["domain"]["status"].as_str()), (200, Some("suspended")));
    // Of a pair, neither name.
    let pair = "pair.customer.test";
    own.expect(201, "POST", "domains", &json!({ "domain": pair, "www": "serve" }));
    a.command(&["domain", "suspend", pair]).unwrap();
    own.expect(403, "POST", "domains", &json!({ "domain": format!("www.{pair}") }));
    let reply = own.call_for("PATCH", &format!("domains/{pair}"), &json!({ "www": "off" }), Some("*"));
    assert_eq!(reply.status, 403, "{reply:?}");
}

#[test]
fn a_revoked_token_is_refused_within_ten_seconds() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let b = start(&edge, settings(&edge, Place::B));
    let (id, text) = token(&a, &["domains:read"], None);
    let clients = [Place::A, Place::B].map(|place| Client::new(&edge, &text).at(place));
    for client in &clients {
        client.expect(200, "GET", "domains", &Value::Null);
    }
    b.command(&["token", "revoke", &id]).unwrap();
    let at = Instant::now();
    for client in &clients {
        wait::until("a refusal", Duration::from_secs(10).saturating_sub(at.elapsed()), || {
            let reply = client.call("GET", "domains", &Value::Null);
            ensure!(reply.status == 401, "{reply:?}");
            Ok(())
        })
        .unwrap();
    }
    report(&format!(
        "a revoked token was refused at two instances after {:.1} s",
        at.elapsed().as_secs_f64()
    ));
}
