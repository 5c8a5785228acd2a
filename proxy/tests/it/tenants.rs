//! Requests of one tenant's name never reach another tenant's origin, whatever its entry's source is up to.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::{
    edge::Edge,
    gatehouse::Place,
    hello::{Ending, Hello, KeyShare, exchange},
    keep_alive_client::Kept,
    relay::{Place as RelayPlace, Relay},
};

use crate::fixture::{assert_served, edge, start, table};

/// The entry is made by hand, so that it is believed for a second and then read again; the default target is another tenant's origin.
#[test]
fn a_flood_that_spends_the_budget_sends_no_request_to_another_tenants_origin() {
    let edge = edge();
    let own = origin(&edge);
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.raw("domains", "lookups_per_source_per_second", "1000000").text("domains", "allow_ttl", "1s");
    settings.text("domains", "stale_ttl", "0ms");
    let gatehouse = start(&edge, settings);
    put_by_hand(&edge, ONE, ORIGIN);
    gatehouse.command(&["domain", "add", TWO, "--target", &edge.upstream.target()]).unwrap();
    assert_served(&edge, ONE);
    assert_served(&edge, TWO);
    // What reaches the own origin is passed to the upstream, which plays the other's.
    let strayed = || edge.upstream.requests() - own.count("request");
    let of_two = strayed();
    assert_eq!((own.count("request"), of_two), (1, 1));

    let senders = flood(&edge);
    let mut kept = Kept::connect(&edge.network.client, Edge::https(Place::A), ONE, edge.ca.roots()).unwrap();
    let until = Instant::now() + FLOOD;
    let mut served = 0;
    while Instant::now() < until {
        let status = kept.get("/").unwrap();
        assert!(matches!(status, 200 | 503), "{status}");
        served += u64::from(status == 200);
        assert_eq!(strayed(), of_two, "a request went to the other tenant's origin");
    }
    for sender in senders {
        sender.join().unwrap();
    }
    let metrics = gatehouse.metrics().unwrap();
    let spent = metrics.sum("gatehouse_permission_total", &["answer=\"unknown_budget_spent\""]);
    assert!(spent > 0.5, "the flood did not spend the budget: {metrics}");
    assert!(served > 0, "the last known entry was not used");
}

#[test]
fn requests_beyond_a_rate_are_answered_and_cost_no_other_site_any() {
    let edge = edge();
    let gatehouse = start(&edge, edge.shared_settings(Place::A, "auto"));
    let told = gatehouse.command(&["domain", "add", ONE, "--client-request-rate", "1/s burst 3"]).unwrap();
    assert!(told.contains("client_request_rate 1/s burst 3"), "{told}");
    gatehouse.command(&["domain", "add", TWO]).unwrap();
    assert_served(&edge, ONE);
    assert_served(&edge, TWO);
    let asked = edge.upstream.requests();
    let mut kept = Kept::connect(&edge.network.client, Edge::https(Place::A), ONE, edge.ca.roots()).unwrap();
    let statuses: Vec<_> = (0..50).map(|_| kept.get("/").unwrap()).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!((1..10).contains(&served) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(edge.upstream.requests() - asked, served as u64, "what is refused reaches no origin");
    for version in ["--http1.1", "--http2"] {
        let reply = edge.curl(&format!("https://{ONE}/")).with(&[version]).run().unwrap();
        assert_eq!(reply.status, 429, "{version}: {reply:?}");
        assert!(reply.head.to_lowercase().contains("retry-after: 1\r\n"), "{reply:?}");
        assert_served(&edge, TWO);
    }
    let metrics = gatehouse.metrics().unwrap();
    assert!(
        metrics.sum("gatehouse_requests_total", &["outcome=\"source_rate_exceeded\""]) > 40.5,
        "{metrics}"
    );
    gatehouse.command(&["domain", "add", ONE, "--client-request-rate", "off", "--replace"]).unwrap();
    assert!((0..50).all(|_| kept.get("/").unwrap() == 200));
}

/// Hellos for names of their own from four threads, for as long as the flood lasts.
fn flood(edge: &Edge) -> Vec<std::thread::JoinHandle<()>> {
    let template = Hello::new("name-0-000000.test", KeyShare::Classic, |_| true).unwrap();
    let sender = |sender: usize| {
        let template = template.clone();
        edge.network.client.thread(move || {
            let until = Instant::now() + FLOOD;
            for number in (0..1_000_000).take_while(|_| Instant::now() < until) {
                let hello = template.clone().renamed(&format!("name-{sender}-{number:06}.test")).unwrap();
                let ending =
                    exchange(Edge::https(Place::A), &hello.whole(), Duration::from_secs(10)).unwrap();
                assert!(matches!(ending.ending, Ending::Alert(112 | 80)), "{number}: {ending:?}");
            }
        })
    };
    (0..4).map(|number| sender(number).unwrap()).collect()
}

/// An origin that counts its requests.
fn origin(edge: &Edge) -> Relay {
    let address = ORIGIN.trim_start_matches("http://").parse().unwrap();
    let place = RelayPlace { address, tls: None, behind: edge.upstream.target(), roots: None };
    Relay::start(&edge.network.edge, place, |_, _| vec!["request".to_owned()]).unwrap()
}

/// An item as a person makes it in a console: the key and the target alone.
fn put_by_hand(edge: &Edge, name: &str, target: &str) {
    let item = json!({ "domain": { "S": name }, "target": { "S": target } });
    table(edge, "PutItem", &json!({ "TableName": "gatehouse-domains", "Item": item }));
}

const ONE: &str = "one.customer.test";
const TWO: &str = "two.customer.test";
const ORIGIN: &str = "http://127.0.0.1:9200";
const FLOOD: Duration = Duration::from_secs(4);
