//! One certificate for the names below a wildcard, by dns-01 through Route 53 (moto). moto answers no DNS: while the CA does not hear
//! that the challenge can be validated, each case copies the record from moto to the server that the CA asks (`pebble-challtestsrv`).

use std::{collections::HashSet, thread, time::Duration};

use anyhow::ensure;
use nix::sys::signal::Signal;
use serde_json::json;
use testbed::{
    curl::Running,
    edge::Edge,
    gatehouse::{Place, Settings},
    keep_alive_client::Kept,
    relay::Traffic,
    route53::Route53,
    wait,
};

use crate::fixture::{edge, get, start};

const WILDCARD: &str = "*.app.operator.test";
/// What the CA asks for.
const VALIDATED: &str = "_acme-challenge.app.operator.test";

#[test]
fn five_names_at_once_cost_one_order_whose_record_is_gone_afterwards() {
    let edge = edge();
    let dns = zone(&edge);
    // Another program orders for the same name.
    dns.put_txt(&edge.network.edge, VALIDATED, "anothers").unwrap();
    let gatehouse = start(&edge, settings(&edge, &dns, None));
    edge.ca.relay.set(Traffic::HoldOnly("challenge"));
    let names: Vec<_> = (0..5).map(|n| format!("n{n}.app.operator.test")).collect();
    let running: Vec<_> = names.iter().map(|name| hello(&edge, name)).collect();
    let values = show_to_the_ca(&edge, &dns, VALIDATED);
    assert!(values.len() == 2 && values.contains(&"anothers".to_owned()), "{values:?}");
    edge.ca.relay.set(Traffic::Pass);
    for request in running {
        let reply = request.reply().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let counts = edge.ca.relay.counts();
    assert_eq!((counts["newOrder"], counts["finalize"]), (1, 1), "{counts:?}");
    let presented: HashSet<_> = names.iter().map(|name| presented(&edge, name)).collect();
    assert_eq!(presented.len(), 1);
    // The order ends with the removal, which the first handshake has waited for.
    assert_eq!(dns.txt(&edge.network.edge, VALIDATED).unwrap(), ["anothers"]);
    let shown = gatehouse.command(&["certificate", "show", WILDCARD]).unwrap();
    assert!(shown.contains("kept under  *.app.operator.test"), "{shown}");
    let listed = gatehouse.command(&["certificate", "list"]).unwrap();
    assert!(listed.contains(WILDCARD) && !listed.contains("n0."), "{listed}");
    let doctor = gatehouse.command(&["doctor"]).unwrap_or_else(|error| error.to_string());
    assert!(doctor.contains("its record can be read in hosted zone"), "{doctor}");
    let revoked = gatehouse.command(&["certificate", "revoke", WILDCARD]).unwrap();
    assert!(revoked.contains("is revoked"), "{revoked}");
}

#[test]
fn a_delegated_name_is_validated_by_the_record_that_it_leads_to() {
    const RECORD: &str = "_acme-challenge.delegated.operator.test";
    let edge = edge();
    let dns = zone(&edge);
    let leads = json!({ "host": format!("{VALIDATED}."), "target": format!("{RECORD}.") });
    edge.ca.tell_dns(&edge.network.client, "/set-cname", &leads).unwrap();
    let gatehouse = start(&edge, settings(&edge, &dns, Some(RECORD)));
    edge.ca.relay.set(Traffic::HoldOnly("challenge"));
    let request = hello(&edge, "a.app.operator.test");
    show_to_the_ca(&edge, &dns, RECORD);
    edge.ca.relay.set(Traffic::Pass);
    let reply = request.reply().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    for record in [RECORD, VALIDATED] {
        assert!(dns.txt(&edge.network.edge, record).unwrap().is_empty(), "{record}");
    }
    let said = gatehouse.command(&["certificate", "obtain", WILDCARD]).unwrap();
    assert!(said.contains("nothing was ordered"), "{said}");
    assert_eq!(edge.ca.relay.count("newOrder"), 1);
}

#[test]
fn what_a_killed_instance_has_left_is_removed_by_the_next_order() {
    let edge = edge();
    let dns = zone(&edge);
    let mut settings = settings(&edge, &dns, None);
    settings.text("store", "timeout", "1s").text("certificates", "lease", "3s");
    let mut gatehouse = start(&edge, settings);
    edge.ca.relay.set(Traffic::HoldOnly("challenge"));
    let lost = hello(&edge, "a.app.operator.test");
    let left = show_to_the_ca(&edge, &dns, VALIDATED);
    gatehouse.process.signal(Signal::SIGKILL).unwrap();
    gatehouse.wait().unwrap();
    assert_eq!(lost.reply().unwrap().status, 0);
    assert_eq!(dns.txt(&edge.network.edge, VALIDATED).unwrap(), left);
    gatehouse.start_again().unwrap();
    let said = thread::scope(|scope| {
        // Not the order of the killed one, with which a handshake would go on.
        let renewed = scope.spawn(|| gatehouse.command(&["certificate", "renew", WILDCARD]).unwrap());
        let value = wait::until("another value", Duration::from_secs(20), || {
            let values = dns.txt(&edge.network.edge, VALIDATED)?;
            ensure!(values.len() == 1 && values != left, "{values:?}");
            Ok(values.concat())
        });
        let txt = json!({ "host": format!("{VALIDATED}."), "value": value.unwrap() });
        edge.ca.tell_dns(&edge.network.client, "/set-txt", &txt).unwrap();
        edge.ca.relay.set(Traffic::Pass);
        renewed.join().unwrap()
    });
    assert!(said.contains("was obtained"), "{said}");
    assert!(dns.txt(&edge.network.edge, VALIDATED).unwrap().is_empty());
}

#[test]
fn what_route_53_denies_is_remembered_with_its_remedy() {
    let edge = edge();
    let dns = zone(&edge);
    dns.deny_all(&edge.network.edge).unwrap();
    let gatehouse = start(&edge, settings(&edge, &dns, None));
    let reply = get(&edge, "a.app.operator.test");
    assert_eq!(reply.status, 0, "{reply:?}");
    let shown = gatehouse.command(&["certificate", "show", WILDCARD]).unwrap();
    for words in ["is denied", "the role needs route53:ChangeResourceRecordSets", "retry at"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let doctor = gatehouse.command(&["doctor"]).unwrap_or_else(|error| error.to_string());
    assert!(doctor.contains("wildcard *.app.operator.test") && doctor.contains("is denied"), "{doctor}");
    // Neither of this name nor of another below the wildcard.
    assert_eq!(get(&edge, "b.app.operator.test").status, 0);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "{:?}", edge.ca.relay.counts());
    assert_eq!(edge.ca.relay.count("challenge"), 0, "the CA was asked to look for nothing");
}

fn zone(edge: &Edge) -> Route53 {
    Route53::start(&edge.network.edge, edge.folder(), "operator.test").unwrap()
}

fn settings(edge: &Edge, dns: &Route53, record: Option<&str>) -> Settings {
    let mut settings = edge.settings(Place::A, "auto");
    let record = record.map_or_else(String::new, |record| format!(", record = {record:?}"));
    let wildcard = format!("[{{ name = {WILDCARD:?}, zone = {:?}{record} }}]", dns.zone());
    settings.domain(WILDCARD).raw("certificates", "wildcards", &wildcard);
    settings.environment("AWS_ENDPOINT_URL_ROUTE_53", &Route53::url());
    settings
}

fn hello(edge: &Edge, name: &str) -> Running {
    edge.curl(&format!("https://{name}/")).spawn().unwrap()
}

/// Copies the record to the CA's DNS once the CA is told of it; its values.
fn show_to_the_ca(edge: &Edge, dns: &Route53, record: &str) -> Vec<String> {
    wait::until("the challenge to be held", Duration::from_secs(30), || {
        let counts = edge.ca.relay.counts();
        ensure!(counts.contains_key("challenge held"), "{counts:?}");
        Ok(())
    })
    .unwrap();
    let values = dns.txt(&edge.network.edge, record).unwrap();
    for value in &values {
        let txt = json!({ "host": format!("{record}."), "value": value });
        edge.ca.tell_dns(&edge.network.client, "/set-txt", &txt).unwrap();
    }
    values
}

/// The certificate a client is shown.
fn presented(edge: &Edge, name: &str) -> Vec<u8> {
    let to = Edge::https(Place::A);
    Kept::connect(&edge.network.client, to, name, edge.ca.roots()).unwrap().certificate().unwrap()
}
