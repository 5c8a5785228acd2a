//! Floods of names that nobody has heard of, and sources of permission that do not answer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use testbed::{
    cleartext,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare, exchange},
    relay::{Place as RelayPlace, Relay, Traffic},
    wait,
};

use crate::fixture::{SHOP, assert_served, edge, get, start};

#[test]
fn ten_thousand_random_names_cost_a_fixed_budget() {
    let edge = edge();
    let gatehouse = start(&edge, edge.shared_settings(Place::A, "auto"));
    gatehouse.command(&["domain", "add", SHOP]).unwrap();
    assert_served(&edge, SHOP);
    let flood = Flood::begin(&edge, &gatehouse);
    send_hellos(&edge, &Hello::new(TEMPLATE, KeyShare::Classic, |_| true).unwrap(), 10_000);
    flood.assert_cost(&edge, &gatehouse);
    assert_served(&edge, SHOP);
}

#[test]
fn made_up_validations_cost_a_fixed_budget() {
    let edge = edge();
    let gatehouse = start(&edge, edge.shared_settings(Place::A, "auto"));
    gatehouse.command(&["domain", "add", SHOP]).unwrap();
    assert_served(&edge, SHOP);
    let flood = Flood::begin(&edge, &gatehouse);
    // RFC 8737 §3: a validation offers this protocol alone.
    let hello = Hello::offering(TEMPLATE, KeyShare::Classic, &["acme-tls/1"], |_| true).unwrap();
    send_hellos(&edge, &hello, 1_000);
    let cleartext_port = SocketAddr::from((Place::A.v4(), 80));
    for number in 0..1_000 {
        let path = format!("/.well-known/acme-challenge/token-{number}");
        let host = format!("random-{number}.test");
        let answer = cleartext::get(&edge.network.client, cleartext_port, &host, &path).unwrap();
        assert!(matches!(answer.status, 404 | 421), "{answer:?}");
    }
    flood.assert_cost(&edge, &gatehouse);
    assert_served(&edge, SHOP);
}

#[test]
fn while_the_ask_endpoint_is_down_known_names_are_served_and_new_ones_asked_for_later() {
    let edge = edge();
    let ask = ask_endpoint(&edge);
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.text("domains", "ask", &format!("http://{ASK}/ask")).text("domains", "ask_timeout", "1s");
    let mut gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);
    assert!(ask.count("ask") >= 1);

    ask.set(Traffic::Cut);
    gatehouse.stop().unwrap();
    gatehouse.start_again().unwrap();
    assert_served(&edge, SHOP);
    let orders = edge.ca.relay.count("newOrder");
    let refused = get(&edge, "new.customer.test");
    assert_eq!(refused.status, 0, "{refused:?}");
    assert_eq!(
        edge.ca.relay.count("newOrder"),
        orders,
        "nothing is ordered for a name of which nothing is known"
    );

    ask.set(Traffic::Pass);
    wait::until("the new name to be asked for again", Duration::from_secs(20), || {
        let reply = edge.curl("https://new.customer.test/").run()?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
}

/// What was read and held before a flood.
struct Flood {
    began: Instant,
    certificates: u64,
    domains: u64,
    orders: u64,
    memory_bytes: u64,
}

impl Flood {
    fn begin(edge: &Edge, gatehouse: &Gatehouse) -> Self {
        Self {
            began: Instant::now(),
            certificates: edge.table.reads(CERTIFICATES),
            domains: lookups(edge),
            orders: edge.ca.relay.count("newOrder"),
            memory_bytes: gatehouse.process.peak_memory_bytes().unwrap(),
        }
    }

    fn assert_cost(self, edge: &Edge, gatehouse: &Gatehouse) {
        let seconds = self.began.elapsed().as_secs() + 1;
        let looked_up = lookups(edge) - self.domains;
        // `domains.lookups_per_second` and twice that at once.
        let budget = 50 * seconds + 100;
        assert!(looked_up <= budget, "{looked_up} look-ups in {seconds} s, of a budget of {budget}");
        assert!(looked_up > 0, "the flood did not reach Gatehouse");
        assert_eq!(edge.table.reads(CERTIFICATES), self.certificates, "reads of the certificates table");
        assert_eq!(edge.ca.relay.count("newOrder"), self.orders);
        let grown = gatehouse.process.peak_memory_bytes().unwrap() - self.memory_bytes;
        assert!(grown < 64 << 20, "the flood cost {} MiB", grown >> 20);
    }
}

fn lookups(edge: &Edge) -> u64 {
    edge.table.relay.count(&format!("GetItem {DOMAINS}"))
        + edge.table.relay.count(&format!("BatchGetItem {DOMAINS}"))
}

/// So many hellos from four threads, each for a name of its own; each must be refused by an alert.
fn send_hellos(edge: &Edge, template: &Hello, count: usize) {
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let template = template.clone();
            edge.network.client.thread(move || {
                for number in (0..count).filter(|number| number % SENDERS == sender) {
                    let hello = template.clone().renamed(&format!("name-{number:06}.test")).unwrap();
                    let patience = Duration::from_secs(10);
                    let ending = exchange(Edge::https(Place::A), &hello.whole(), patience).unwrap().ending;
                    assert!(matches!(ending, Ending::Alert(112 | 80)), "{number}: {ending:?}");
                }
            })
        })
        .collect();
    for sender in senders {
        sender.unwrap().join().unwrap();
    }
}

/// An ask endpoint that allows everything: the upstream answers 200 to all, behind a relay that counts and can be cut.
fn ask_endpoint(edge: &Edge) -> Relay {
    let place = RelayPlace {
        address: ASK.parse().unwrap(),
        tls: None,
        behind: edge.upstream.target(),
        roots: edge.authority.file(),
    };
    let path =
        |parts: &http::request::Parts, _: &[u8]| vec![parts.uri.path().trim_start_matches('/').to_owned()];
    Relay::start(&edge.network.edge, place, path).unwrap()
}

const TEMPLATE: &str = "name-000000.test";
const SENDERS: usize = 4;
const ASK: &str = "127.0.0.1:9100";
const CERTIFICATES: &str = "gatehouse-certificates";
const DOMAINS: &str = "gatehouse-domains";
