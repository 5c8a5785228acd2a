//! Names that are served once they lead here, and no longer when they have led elsewhere for long: by records of a real DNS server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
    network::CLIENT,
    origin::nginx_with,
    pebble::Pebble,
    wait,
};

use crate::fixture::{SHOP, assert_served, assert_served_at, edge, get, report, scrape_until, start};

/// Settings of an instance whose names must prove themselves by `required`.
pub(crate) fn settings(edge: &Edge, place: Place, required: &str) -> Settings {
    let mut settings = edge.shared_settings(place, "auto");
    settings
        .text("verification", "required", required)
        .raw("verification", "edge_names", "[\"edge.test\"]")
        .raw("verification", "edge_addresses", &format!("[\"{}\", \"{}\"]", Place::A.v4(), Place::B.v4()))
        .raw("verification", "resolvers", &format!("[\"{}\"]", Pebble::dns_server()))
        .text("verification", "interval", "10s")
        .text("verification", "moved_for", "8s");
    settings
}

fn dns(edge: &Edge, call: &str, body: &Value) {
    edge.ca.tell_dns(&edge.network.client, call, body).unwrap();
}

/// Makes `name` have `address` alone.
pub(crate) fn lead(edge: &Edge, name: &str, address: Ipv4Addr) {
    dns(edge, "/clear-a", &json!({ "host": format!("{name}.") }));
    edge.ca.resolve(&edge.network.client, name, address.into()).unwrap();
}

fn status_of(gatehouse: &Gatehouse, name: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&gatehouse.command(&["domain", "show", name, "--json"])?)?)
}

fn wait_for_status(gatehouse: &Gatehouse, name: &str, status: &str, within: Duration) -> Value {
    wait::until(&format!("{name} to be {status}"), within, || {
        let shown = status_of(gatehouse, name)?;
        ensure!(shown["status"] == status, "{shown}");
        Ok(shown)
    })
    .unwrap()
}

/// What `check` of the last look at a name came to.
fn finding<'a>(shown: &'a Value, check: &str) -> &'a Value {
    let findings = shown["checks"]["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["check"] == check).unwrap_or(&Value::Null)
}

#[test]
fn a_name_is_served_once_it_leads_here_and_removed_when_it_has_left() {
    let edge = edge();
    let elsewhere = Ipv4Addr::new(203, 0, 113, 9);
    lead(&edge, SHOP, elsewhere);
    dns(
        &edge,
        "/add-caa",
        &json!({ "host": "customer.test.", "policies": [{ "tag": "issue", "value": "pebble.test" }] }),
    );
    let mut a = start(&edge, settings(&edge, Place::A, "dns"));
    let said = a.command(&["domain", "add", SHOP]).unwrap();
    assert!(said.contains("it is not served") && said.contains("gatehouse domain records"), "{said}");
    assert_ne!(get(&edge, SHOP).status, 200);
    let records = a.command(&["domain", "records", SHOP]).unwrap();
    assert!(
        records.contains(SHOP) && records.contains("CNAME") && records.contains("edge.test"),
        "{records}"
    );
    let told = a.command(&["doctor", SHOP]).unwrap_err().to_string();
    for (check, word) in [("entry", "pending"), ("permission", "denied"), ("dns", "203.0.113.9")] {
        let line = told.lines().find(|line| line.starts_with("error") && line.contains(check));
        assert!(line.is_some_and(|line| line.contains(word)), "{check}: {told}");
    }
    let refused = a.command(&["domain", "check", SHOP]).unwrap_err().to_string();
    assert!(refused.contains("leads to 203.0.113.9") && refused.contains("CNAME edge.test"), "{refused}");

    dns(&edge, "/clear-a", &json!({ "host": format!("{SHOP}.") }));
    dns(&edge, "/set-cname", &json!({ "host": format!("{SHOP}."), "target": "edge.test." }));
    wait_for_status(&a, SHOP, "active", Duration::from_secs(40));
    assert_served(&edge, SHOP);
    let shown = wait::until("the look at its certificate", Duration::from_secs(40), || {
        let shown = status_of(&a, SHOP)?;
        ensure!(finding(&shown, "https")["outcome"] == "passed", "{shown}");
        Ok(shown)
    })
    .unwrap();
    assert_eq!(finding(&shown, "dns")["reason"], "leads_here", "{shown}");
    a.command(&["domain", "check", SHOP]).unwrap();
    let told = a.command(&["doctor", SHOP]).unwrap();
    for check in ["entry", "permission", "guard", "dns", "https", "certificate"] {
        let line = told.lines().find(|line| line.split_whitespace().nth(1) == Some(check));
        assert!(line.is_some_and(|line| line.starts_with("ok")), "{check}: {told}");
    }

    // Servers that do not answer are no sign that a name has left.
    dns(&edge, "/set-servfail", &json!({ "host": format!("{SHOP}.") }));
    scrape_until(&a, "three looks without an answer", Duration::from_mins(1), |metrics| {
        metrics.sum("gatehouse_domain_checks_total", &["check=\"dns\"", "outcome=\"unknown\""]) > 2.5
    });
    assert_eq!(status_of(&a, SHOP).unwrap()["status"], "active");
    dns(&edge, "/clear-servfail", &json!({ "host": format!("{SHOP}.") }));

    dns(&edge, "/clear-cname", &json!({ "host": format!("{SHOP}.") }));
    lead(&edge, SHOP, elsewhere);
    let shown = wait_for_status(&a, SHOP, "failing", Duration::from_secs(40));
    assert_eq!(finding(&shown, "dns")["reason"], "leads_elsewhere", "{shown}");
    assert_served(&edge, SHOP);
    wait::until("it to be removed", Duration::from_mins(1), || {
        let shown = a.command(&["domain", "show", SHOP]);
        ensure!(shown.is_err(), "{shown:?}");
        Ok(())
    })
    .unwrap();
    assert_ne!(get(&edge, SHOP).status, 200);
    a.stop().unwrap();
}

#[test]
fn ownership_is_proven_by_a_record_of_the_zone_and_not_by_where_a_name_leads() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A, "txt"));
    a.command(&["domain", "add", SHOP, "--tenant", "acme"]).unwrap();
    let records: Value =
        serde_json::from_str(&a.command(&["domain", "records", SHOP, "--json"]).unwrap()).unwrap();
    let record = records.as_array().unwrap().iter().find(|record| record["type"] == "TXT").unwrap();
    assert_eq!(
        (record["name"].as_str(), record["purpose"].as_str()),
        (Some("_gatehouse.shop.customer.test"), Some("ownership"))
    );
    let txt = |value: &str| {
        dns(&edge, "/set-txt", &json!({ "host": "_gatehouse.shop.customer.test.", "value": value }));
    };

    // It leads here, as one does whose owner has forgotten it, and another tenant's record is there.
    let others: Value =
        serde_json::from_str(&a.command(&["domain", "records", SHOP, "--tenant", "zeta", "--json"]).unwrap())
            .unwrap();
    let other = others.as_array().unwrap().iter().find(|record| record["type"] == "TXT").unwrap();
    txt(other["value"].as_str().unwrap());
    scrape_until(&a, "two looks", Duration::from_mins(1), |metrics| {
        metrics.sum("gatehouse_domain_checks_total", &["check=\"ownership\"", "outcome=\"failed\""]) > 1.5
    });
    let shown = status_of(&a, SHOP).unwrap();
    assert_eq!(
        (shown["status"].as_str(), finding(&shown, "dns")["outcome"].as_str()),
        (Some("pending"), Some("passed")),
        "{shown}"
    );
    assert_eq!(finding(&shown, "ownership")["reason"], "other_value", "{shown}");
    assert_ne!(get(&edge, SHOP).status, 200);

    txt(record["value"].as_str().unwrap());
    wait_for_status(&a, SHOP, "active", Duration::from_secs(40));
    assert_served(&edge, SHOP);
    // Another tenant has to prove it anew.
    a.command(&["domain", "add", SHOP, "--tenant", "zeta", "--replace"]).unwrap();
    assert_eq!(status_of(&a, SHOP).unwrap()["status"], "pending");
    a.command(&["domain", "add", SHOP, "--verified"]).unwrap();
    assert_served(&edge, SHOP);

    // No record proves a name below a wildcard, nor one that nobody has added.
    a.command(&["domain", "add", "*.customer.test", "--verified"]).unwrap();
    for name in ["blog.customer.test", "nobody.test"] {
        let told = a.command(&["doctor", name]).unwrap_or_else(|error| error.to_string());
        let tells_of = |check: &str| told.lines().any(|line| line.split_whitespace().nth(1) == Some(check));
        assert!(tells_of("dns") && !tells_of("ownership"), "{name}: {told}");
    }
}

/// nginx in front, as a CDN would be: the name leads there, and what nginx passes on comes to the edge.
#[test]
fn a_name_behind_another_server_is_verified_by_what_that_server_passes_on() {
    let edge = edge();
    let front = SocketAddr::new(CLIENT.into(), 80);
    lead(&edge, SHOP, CLIENT);
    let a = start(&edge, settings(&edge, Place::A, "dns"));
    a.command(&["domain", "add", SHOP]).unwrap();
    let refused = a.command(&["domain", "check", SHOP]).unwrap_err().to_string();
    assert!(refused.contains("leads_elsewhere") || refused.contains("leads to 192.0.2.100"), "{refused}");

    let block = format!("location / {{ proxy_pass http://{}; proxy_set_header Host $host; }}", Place::A.v4());
    let _nginx = nginx_with(&edge.network.client, front, ("", &block), edge.folder()).unwrap();
    let shown = wait_for_status(&a, SHOP, "active", Duration::from_secs(40));
    assert_eq!(finding(&shown, "dns")["reason"], "passed_on", "{shown}");
    // The CA's validation passes through it, too.
    assert_served(&edge, SHOP);

    // Below a wildcard it is asked for the name that the edge looks at.
    lead(&edge, "gatehouse-check.customer.test", CLIENT);
    a.command(&["domain", "add", "*.customer.test"]).unwrap();
    let shown = wait_for_status(&a, "*.customer.test", "active", Duration::from_secs(40));
    assert_eq!(finding(&shown, "dns")["reason"], "passed_on", "{shown}");
}

#[test]
fn an_instance_leaves_checks_to_others_where_its_settings_say_so() {
    let edge = edge();
    lead(&edge, SHOP, Place::A.v4());
    let mut leaving = settings(&edge, Place::A, "dns");
    leaving.raw("verification", "by_instances", "false");
    let a = start(&edge, leaving);
    a.command(&["domain", "add", SHOP]).unwrap();
    // A command looks all the same.
    a.command(&["domain", "check", SHOP]).unwrap();
    // One that checks has the lease since its start, so that another would not get it.
    let b = start(&edge, settings(&edge, Place::B, "dns"));
    wait_for_status(&b, SHOP, "active", Duration::from_secs(40));
    let is_checker =
        |gatehouse: &Gatehouse| gatehouse.metrics().unwrap().sum("gatehouse_domain_checker", &[]);
    assert!(is_checker(&a) < 0.5 && is_checker(&b) > 0.5);
}

#[test]
fn one_instance_looks_and_another_goes_on_when_it_ends() {
    let edge = edge();
    let [mut a, b] = [Place::A, Place::B].map(|place| start(&edge, settings(&edge, place, "dns")));
    let is_checker = |gatehouse: &Gatehouse| -> anyhow::Result<f64> {
        Ok(gatehouse.metrics()?.sum("gatehouse_domain_checker", &[]))
    };
    wait::until("one of them to check", Duration::from_secs(30), || {
        ensure!(is_checker(&a)? + is_checker(&b)? > 0.5);
        Ok(())
    })
    .unwrap();
    assert!(is_checker(&a).unwrap() + is_checker(&b).unwrap() < 1.5, "both");
    assert!(is_checker(&a).unwrap() > 0.5, "the first to start");
    a.stop().unwrap();
    let at = std::time::Instant::now();
    lead(&edge, SHOP, Place::B.v4());
    b.command(&["domain", "add", SHOP]).unwrap();
    wait_for_status(&b, SHOP, "active", Duration::from_mins(1));
    report(&format!(
        "another instance has gone on with the checks after {:.1} s",
        at.elapsed().as_secs_f64()
    ));
    assert_served_at(&edge, Place::B, SHOP);
}
