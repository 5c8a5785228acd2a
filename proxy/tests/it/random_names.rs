//! Floods of names that nobody has heard of, and sources of permission that do not answer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use testbed::{
    cleartext,
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
    hello::{Ending, Hello, KeyShare, exchange},
    relay::{Place as RelayPlace, Relay, Traffic},
    wait,
};

use crate::fixture::{SHOP, assert_served, edge, get, start};

/// From one client, whose own budget is the smaller one.
#[test]
fn ten_thousand_random_names_cost_a_fixed_budget() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::A, "auto");
    edge.guard(&mut settings, "observe").unwrap();
    let gatehouse = serving(&edge, settings);
    let flood = Flood::begin(&edge, &gatehouse, PER_SOURCE);
    send_hellos(&edge, &Hello::new(TEMPLATE, KeyShare::Classic, |_| true).unwrap(), 10_000);
    flood.assert_cost(&edge, &gatehouse);
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("pass_observed") > 9_999.5, "the guard let them through: {metrics}");
    assert_served(&edge, SHOP);
}

/// From a client that may spend the whole process's budget, as many clients together could.
#[test]
fn made_up_validations_cost_a_fixed_budget() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.raw("domains", "lookups_per_source_per_second", "1000000");
    let gatehouse = serving(&edge, settings);
    let flood = Flood::begin(&edge, &gatehouse, IN_TOTAL);
    // RFC 8737 §3: a validation offers this protocol alone.
    let hello = Hello::offering(TEMPLATE, KeyShare::Classic, &["acme-tls/1"], |_| true).unwrap();
    send_hellos(&edge, &hello, 5_000);
    for number in 0..1_000 {
        let answered = validate(&edge, &format!("random-{number}.test"), number);
        assert!(matches!(answered, 404 | 421), "{number}: {answered}");
    }
    // What look-ups have no budget left for may be a name of another instance's order: that is looked for, within a budget as large.
    flood.assert_cost_and_reads(&edge, &gatehouse, IN_TOTAL);
    assert_served(&edge, SHOP);
}

/// Of a name that is served only the table can tell whether another instance has it validated.
#[test]
fn made_up_tokens_of_a_served_name_cost_a_few_reads() {
    let edge = edge();
    let gatehouse = serving(&edge, edge.shared_settings(Place::A, "auto"));
    let flood = Flood::begin(&edge, &gatehouse, IN_TOTAL);
    // One after the other: each waits for the next read.
    for number in 0..60 {
        assert_eq!(validate(&edge, SHOP, number), 404, "{number}");
    }
    let (seconds, reads) = (flood.seconds(), edge.table.reads(CERTIFICATES) - flood.certificates);
    assert!(reads <= 4 * seconds, "{reads} reads in {seconds} s");
    assert_eq!((lookups(&edge), edge.ca.relay.count("newOrder")), (flood.domains, flood.orders));
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

/// An instance that serves [`SHOP`] and holds its certificate.
fn serving(edge: &Edge, settings: Settings) -> Gatehouse {
    let gatehouse = start(edge, settings);
    gatehouse.command(&["domain", "add", SHOP]).unwrap();
    assert_served(edge, SHOP);
    gatehouse
}

/// An http-01 validation of `host` as nobody asked for it: the answer's status.
fn validate(edge: &Edge, host: &str, number: usize) -> u16 {
    let path = format!("/.well-known/acme-challenge/token-{number}");
    let to = SocketAddr::from((Place::A.v4(), 80));
    cleartext::get(&edge.network.client, to, host, &path).unwrap().status
}

/// What was read and held before a flood, and how many look-ups per second it may cost.
struct Flood {
    began: Instant,
    per_second: u64,
    certificates: u64,
    domains: u64,
    orders: u64,
    memory_bytes: u64,
}

impl Flood {
    fn begin(edge: &Edge, gatehouse: &Gatehouse, per_second: u64) -> Self {
        Self {
            began: Instant::now(),
            per_second,
            certificates: edge.table.reads(CERTIFICATES),
            domains: lookups(edge),
            orders: edge.ca.relay.count("newOrder"),
            memory_bytes: gatehouse.process.peak_memory_bytes().unwrap(),
        }
    }

    /// Seconds since it began, the last one counted as whole.
    fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs() + 1
    }

    fn assert_cost(self, edge: &Edge, gatehouse: &Gatehouse) {
        self.assert_cost_and_reads(edge, gatehouse, 0);
    }

    /// As many reads of certificates per second at most.
    fn assert_cost_and_reads(self, edge: &Edge, gatehouse: &Gatehouse, per_second: u64) {
        let seconds = self.seconds();
        let looked_up = lookups(edge) - self.domains;
        // The rate, and twice that at once.
        let budget = self.per_second * (seconds + 2);
        assert!(looked_up <= budget, "{looked_up} look-ups in {seconds} s, of a budget of {budget}");
        assert!(looked_up > 0, "the flood did not reach Gatehouse");
        let read = edge.table.reads(CERTIFICATES) - self.certificates;
        let budget = per_second * (seconds + 2);
        assert!(
            read <= budget,
            "{read} reads of the certificates table in {seconds} s, of a budget of {budget}"
        );
        assert_eq!(edge.ca.relay.count("newOrder"), self.orders);
        // The kernel's own figure of a peak may be a few pages short of an earlier one.
        let grown = gatehouse.process.peak_memory_bytes().unwrap().saturating_sub(self.memory_bytes);
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
    let place =
        RelayPlace { address: ASK.parse().unwrap(), tls: None, behind: edge.upstream.target(), roots: None };
    let path =
        |parts: &http::request::Parts, _: &[u8]| vec![parts.uri.path().trim_start_matches('/').to_owned()];
    Relay::start(&edge.network.edge, place, path).unwrap()
}

/// `domains.lookups_per_source_per_second` by default.
const PER_SOURCE: u64 = 10;
/// `domains.lookups_per_second` by default.
const IN_TOTAL: u64 = 50;
const TEMPLATE: &str = "name-000000.test";
const SENDERS: usize = 4;
const ASK: &str = "127.0.0.1:9100";
const CERTIFICATES: &str = "gatehouse-certificates";
const DOMAINS: &str = "gatehouse-domains";
