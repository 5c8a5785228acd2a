//! Requests of one tenant's name never reach another tenant's origin, whatever its entry's source is up to.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use testbed::{
    cleartext,
    edge::Edge,
    gatehouse::Place,
    hello::{Ending, Hello, KeyShare, exchange},
    keep_alive_client::Kept,
    network::LOOPBACK,
    relay::{Place as RelayPlace, Relay},
};

use crate::fixture::{assert_served, edge, start};

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
    let (behind, roots) = (edge.upstream.target(), edge.authority.file());
    let place = RelayPlace { address, tls: None, behind, roots };
    Relay::start(&edge.network.edge, place, |_, _| vec!["request".to_owned()]).unwrap()
}

/// An item as a person makes it in a console: the key and the target alone. The engine looks at no signature, but wants one.
fn put_by_hand(edge: &Edge, name: &str, target: &str) {
    let item = format!(
        r#"{{"TableName":"gatehouse-domains","Item":{{"domain":{{"S":"{name}"}},"target":{{"S":"{target}"}}}}}}"#
    );
    let request = format!(
        "POST / HTTP/1.1\r\nHost: table\r\nConnection: close\r\nX-Amz-Target: DynamoDB_20120810.PutItem\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=testbed/20260101/eu-central-1/dynamodb/aws4_request, \
         SignedHeaders=host, Signature=00\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Content-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\r\n{item}",
        item.len()
    );
    let table: SocketAddr = (LOOPBACK, 8_000).into();
    let answer = cleartext::send(&edge.network.edge, table, request).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

const ONE: &str = "one.customer.test";
const TWO: &str = "two.customer.test";
const ORIGIN: &str = "http://127.0.0.1:9200";
const FLOOD: Duration = Duration::from_secs(4);
