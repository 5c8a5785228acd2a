//! Setup links: made by who has a token, opened by who has none.

use std::{env, net::IpAddr, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::{
    curl::Reply,
    edge::{self, Edge},
    gatehouse::{Gatehouse, Place, Settings},
    wait,
};

use super::visitor::Visitor;
use crate::{
    api::client::{ALL, API, Client, PORT, token},
    fixture::{SHOP, assert_served, edge as whole_edge, report, start},
    verification,
};

/// Settings of an instance at `place` with a console, whose names are proven by a TXT record.
fn settings(edge: &Edge, place: Place) -> Settings {
    let mut settings = verification::settings(edge, place, "txt");
    settings
        .domain(API)
        .text("api", "listen", &format!("{}:{PORT}", place.v4()))
        .text("api", "name", API)
        .raw("api", "console", "true");
    settings
}

fn link(gatehouse: &Gatehouse, arguments: &[&str]) -> String {
    let said = gatehouse.command(&[&["domain", "link", SHOP, "--json"], arguments].concat()).unwrap();
    let made: Value = serde_json::from_str(&said).unwrap();
    made["url"].as_str().unwrap().to_owned()
}

/// Opens `url` at `place`, with `arguments` for curl.
fn open(edge: &Edge, url: &str, place: Place, arguments: &[&str]) -> Reply {
    edge.curl(url).at(IpAddr::V4(place.v4())).with(arguments).run().unwrap()
}

/// Waits until `url` shows nothing any more.
fn wait_for_its_end(edge: &Edge, url: &str, place: Place) {
    wait::until("the link to end", Duration::from_secs(10), || {
        let reply = open(edge, url, place, &[]);
        ensure!(reply.status == 404 && !reply.body.contains(SHOP), "{reply:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_link_opens_at_each_instance_until_its_entry_is_gone() {
    let edge = whole_edge();
    let [a, b] = [Place::A, Place::B].map(|place| start(&edge, settings(&edge, place)));
    a.command(&["domain", "add", SHOP, "--tenant", "acme-4711", "--target", "http://192.0.2.77"]).unwrap();
    let url = link(&a, &["--expires", "2h"]);
    assert!(url.starts_with(&format!("https://{API}:{PORT}/setup/")), "{url}");
    let page = open(&edge, &url, Place::B, &[]);
    assert_eq!(page.status, 200, "{page:?}");
    for shown in [SHOP, "waiting", "_gatehouse.shop.customer.test", "gatehouse-verification=", "edge.test"] {
        assert!(page.body.contains(shown), "{shown}: {page:?}");
    }
    for (form, arguments) in
        [(&*format!("{url}.json"), &[][..]), (&*url, &["-H", "Accept: application/json"])]
    {
        let reply = open(&edge, form, Place::B, arguments);
        let shown = reply.json().unwrap();
        assert_eq!((&shown["domain"], &shown["state"]), (&json!(SHOP), &json!("waiting")), "{reply:?}");
        assert_eq!(shown["records"][1]["relative_name"], json!("shop"), "{reply:?}");
        assert!(!reply.body.contains("192.0.2.77") && !reply.body.contains("acme"), "{reply:?}");
        assert_eq!(reply.header("cache-control").as_deref(), Some("private, no-store"), "{reply:?}");
    }

    // Another tenant's state is not shown to who has the link of the first, nor when the first has it again.
    b.command(&["domain", "add", SHOP, "--tenant", "zeta", "--replace"]).unwrap();
    for place in [Place::A, Place::B] {
        wait_for_its_end(&edge, &url, place);
    }
    a.command(&["domain", "add", SHOP, "--tenant", "acme-4711", "--replace"]).unwrap();
    wait_for_its_end(&edge, &url, Place::A);
    let url = link(&b, &[]);
    assert_eq!(open(&edge, &url, Place::A, &[]).status, 200);
    a.command(&["domain", "remove", SHOP]).unwrap();
    wait_for_its_end(&edge, &url, Place::A);
    a.command(&["domain", "add", SHOP, "--tenant", "acme-4711"]).unwrap();
    wait_for_its_end(&edge, &url, Place::B);

    let wrong = a.command(&["domain", "link", SHOP, "--expires", "10s"]).unwrap_err().to_string();
    assert!(wrong.contains("`10s`") && wrong.contains("`3600s`"), "{wrong}");
    let absent = a.command(&["domain", "link", "absent.customer.test"]).unwrap_err().to_string();
    assert!(absent.contains("is no entry of the table"), "{absent}");
}

#[test]
fn the_page_of_a_link_knows_no_session() {
    let edge = whole_edge();
    let a = start(&edge, settings(&edge, Place::A));
    let (_, text) = token(&a, &ALL, Some("acme"));
    let client = Client::new(&edge, &text);
    client.expect(201, "POST", "domains", &json!({ "domain": SHOP, "target": "http://192.0.2.77" }));
    let made =
        client.expect(201, "POST", &format!("domains/{SHOP}/link"), &json!({ "lifetime_seconds": 7200 }));
    client.expect(422, "POST", &format!("domains/{SHOP}/link"), &json!({ "lifetime_seconds": 7 }));
    let url = made["url"].as_str().unwrap();
    let visitor = Visitor::sign_in(&edge, &text);
    let cookie = format!("Cookie: {}", visitor.cookie);
    let [without, with] = [&[][..], &["-H", cookie.as_str()]].map(|with| open(&edge, url, Place::A, with));
    assert_eq!((without.status, &without.body), (200, &with.body), "{without:?}");
    for reply in [without, with, open(&edge, &format!("{url}x"), Place::A, &[])] {
        assert_eq!(reply.header("set-cookie"), None, "{reply:?}");
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("x-robots-tag", "noindex, nofollow"),
            ("cache-control", "private, no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(reply.header(name).as_deref(), Some(value), "{name}: {reply:?}");
        }
        assert_eq!(reply.header("access-control-allow-origin"), None, "{reply:?}");
        let policy = reply.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{reply:?}"
        );
    }
}

/// An operator, a customer, their DNS server and their browsers. With `CONSOLE_SCREENSHOTS`, a folder, the customer's page is drawn there.
#[test]
fn a_customer_sets_what_the_link_shows_and_is_served() {
    let edge = whole_edge();
    let a = start(&edge, settings(&edge, Place::A));
    let (_, text) = token(&a, &ALL, None);
    let play = |act: &str, url: Option<&str>| -> Value {
        let arguments = json!({
            "act": act,
            "console": format!("https://{API}:{PORT}/console"),
            "address": Place::A.v4().to_string(),
            "name": API,
            "token": text,
            "domain": SHOP,
            "url": url,
            "screenshots": env::var("CONSOLE_SCREENSHOTS").ok(),
            "modules": edge::root().join("target/console/node_modules"),
        });
        let script = edge::root().join("testbed/console/customer.mjs");
        let said =
            edge.network.client.run("node", &[&script.to_string_lossy(), &arguments.to_string()]).unwrap();
        let found: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(found["faults"], json!([]), "{found:#}");
        found
    };
    let found = play("link", None);
    assert_eq!(found["seen"].as_array().unwrap().len(), 6, "{found:#}");
    let url = found["link"].as_str().unwrap();

    let shown = open(&edge, &format!("{url}.json"), Place::A, &[]).json().unwrap();
    for record in shown["records"].as_array().unwrap() {
        let host = format!("{}.", record["name"].as_str().unwrap());
        let (call, body) = match record["type"].as_str() {
            Some("TXT") => ("/set-txt", json!({ "host": host, "value": record["value"] })),
            Some("CNAME") => (
                "/set-cname",
                json!({ "host": host, "target": format!("{}.", record["value"].as_str().unwrap()) }),
            ),
            _ => panic!("{record}"),
        };
        edge.ca.tell_dns(&edge.network.client, call, &body).unwrap();
    }
    wait::until("the page to say that all is well", Duration::from_mins(1), || {
        let shown = open(&edge, &format!("{url}.json"), Place::A, &[]).json()?;
        let outcome = |check: &str| {
            let findings = shown["findings"].as_array().into_iter().flatten();
            findings
                .filter(|finding| finding["check"] == check)
                .map(|finding| finding["outcome"].clone())
                .next()
        };
        ensure!(shown["state"] == "connected", "{shown}");
        ensure!(
            ["ownership", "dns", "https"].map(outcome) == [(); 3].map(|()| Some(json!("passed"))),
            "{shown}"
        );
        Ok(())
    })
    .unwrap();
    assert_served(&edge, SHOP);
    let found = play("served", Some(url));
    report(&format!("a customer's link was looked at in Chromium: {}", found["seen"]));
}
