//! The pages in a real Chromium.

use std::env;

use serde_json::{Value, json};
use testbed::{edge, gatehouse::Place};

use super::visitor::settings;
use crate::{
    api::client::{ALL, API, Client, PORT, token},
    fixture::{SHOP, edge as whole_edge, report, start},
};

/// Each page without and with JavaScript and in both schemes, and a person's way through them. With `CONSOLE_SCREENSHOTS`, a folder,
/// each page is drawn there.
#[test]
fn a_browser_shows_every_page_and_finds_nothing_wrong() {
    let edge = whole_edge();
    let mut settings = settings(&edge);
    settings.raw("verification", "edge_names", "[\"edge.test\"]").raw(
        "verification",
        "resolvers",
        &format!("[\"{}\"]", testbed::pebble::Pebble::dns_server()),
    );
    let a = start(&edge, settings);
    let (_, text) = token(&a, &ALL, None);
    let client = Client::new(&edge, &text);
    for name in [SHOP, "xn--bcher-kva.customer.test", "*.wild.customer.test"] {
        client.expect(201, "POST", "domains", &json!({ "domain": name, "target": "http://192.0.2.77" }));
    }
    let folder = edge::root().join("testbed/console");
    let arguments = json!({
        "console": format!("https://{API}:{PORT}/console"),
        "address": Place::A.v4().to_string(),
        "name": API,
        "token": text,
        "domain": SHOP,
        "screenshots": env::var("CONSOLE_SCREENSHOTS").ok(),
        "modules": edge::root().join("target/console/node_modules"),
    });
    let script = folder.join("browse.mjs");
    let said = edge.network.client.run("node", &[&script.to_string_lossy(), &arguments.to_string()]).unwrap();
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["faults"], json!([]), "{found:#}");
    let seen = found["seen"].as_array().unwrap().len();
    assert_eq!(seen, 44, "{found:#}");
    report(&format!("the console's pages were looked at {seen} times in Chromium, and axe found nothing"));
}
