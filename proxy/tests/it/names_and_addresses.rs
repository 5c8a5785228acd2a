//! Both families, tags, wildcards, and the ways a name can be written.

use std::{net::IpAddr, time::Duration};

use testbed::{
    edge::Edge,
    frame::{self, Segment},
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare},
    network::{CLIENT, CLIENT_LINK, EDGE_LINK},
};

use crate::fixture::{
    FOREIGN, SHOP, assert_served, edge, get, is_enforcing, scrape_until, send, send_client_hello, start,
};

#[test]
fn a_name_is_served_over_ipv4_and_ipv6() {
    let edge = edge();
    let _gatehouse = strict(&edge, &[SHOP]);
    assert_served(&edge, SHOP);
    let v6 = edge.curl(&format!("https://{SHOP}/")).at(IpAddr::V6(Place::A.v6())).run().unwrap();
    assert_eq!(v6.status, 200, "{v6:?}");
    assert_eq!(v6.seen("x-forwarded-for").len(), 1, "{}", v6.body);
    assert!(v6.seen("x-forwarded-for")[0].starts_with("2001:db8::1"), "{}", v6.body);
}

#[test]
fn a_wildcard_covers_exactly_one_label() {
    let edge = edge();
    let _gatehouse = strict(&edge, &["*.customer.test"]);
    assert_served(&edge, "a.customer.test");
    for name in ["customer.test", "a.b.customer.test"] {
        assert_eq!(send_client_hello(&edge, Place::A, name).ending, Ending::Reset, "{name}");
        assert_eq!(get(&edge, name).status, 0, "{name}");
    }
}

/// As monitors and old devices connect: to an address, by which no name is sent (RFC 6066 §3).
#[test]
fn a_client_that_sends_no_name_gets_the_default_one_where_it_is_set() {
    let edge = edge();
    let mut settings = edge.settings(Place::A, "auto");
    edge.guard(&mut settings, "strict").unwrap();
    settings.domain(SHOP);
    let mut gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);
    let ask = |host: &str| {
        let field = format!("Host: {host}");
        let url = format!("https://{}/", Place::A.v4());
        edge.curl(&url).with(&["--insecure", "-H", &field]).run().unwrap()
    };
    assert_eq!(ask(SHOP).status, 0, "it is refused");
    gatehouse.stop().unwrap();
    gatehouse.settings().text("tls", "default_name", SHOP);
    gatehouse.start_again().unwrap();
    let reply = ask(SHOP);
    assert_eq!((reply.status, reply.seen("user-custom-domain")), (200, vec![SHOP.to_owned()]), "{reply:?}");
    let reply = ask(&Place::A.v4().to_string());
    assert_eq!((reply.status, reply.seen("user-custom-domain")), (200, vec![SHOP.to_owned()]), "{reply:?}");
    assert_eq!(ask("other.customer.test").status, 421, "the connection is of the default name");
    assert_served(&edge, SHOP);
}

#[test]
fn a_name_is_the_same_in_upper_case_and_with_a_trailing_dot() {
    let edge = edge();
    let gatehouse = strict(&edge, &["Shop.CUSTOMER.test."]);
    assert_served(&edge, SHOP);
    // curl leaves the dot out of the hello (RFC 6066 §3) and in the Host.
    assert_served(&edge, "SHOP.customer.TEST.");
    let upper = Hello::new(SHOP, KeyShare::Classic, |_| true).unwrap().renamed("SHOP.Customer.TEST").unwrap();
    assert_eq!(send(&edge, Place::A, upper.whole()).ending, Ending::Answered);
    let dotted = Hello::new(&format!("{SHOP}x"), KeyShare::Classic, |_| true).unwrap();
    let dotted = dotted.renamed(&format!("{SHOP}.")).unwrap();
    let ending = send(&edge, Place::A, dotted.whole()).ending;
    // RFC 6066 §3 writes names without the dot: user space may refuse such a hello, the guard must not.
    assert!(matches!(ending, Ending::Answered | Ending::Alert(_)), "{ending:?}");
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("reject_") < 0.5, "{metrics}");
}

#[test]
fn a_foreign_name_below_vlan_tags_is_rejected() {
    let edge = edge();
    let gatehouse = strict(&edge, &[SHOP]);
    let to = frame::hardware_address(&edge.network.edge, EDGE_LINK).unwrap();
    for (tags, name, verdict) in [
        (vec![], FOREIGN, "reject_foreign"),
        (vec![100], FOREIGN, "reject_foreign"),
        (vec![100, 200], FOREIGN, "reject_foreign"),
        (vec![100, 200], SHOP, "pass_allowed"),
        (vec![100, 200, 300], FOREIGN, "pass_unparsed"),
    ] {
        let payload = Hello::new(name, KeyShare::Classic, |_| true).unwrap().bytes().to_vec();
        let count = tags.len();
        let segment = Segment { tags, source: (CLIENT, 50_000), destination: (Place::A.v4(), 443), payload };
        let before = gatehouse.metrics().unwrap().verdicts(verdict);
        frame::send(&edge.network.client, CLIENT_LINK, to, &segment).unwrap();
        let what = format!("{verdict} of {name} below {count} tags");
        scrape_until(&gatehouse, &what, Duration::from_secs(3), |metrics| {
            metrics.verdicts(verdict) > before + 0.5
        });
    }
}

fn strict(edge: &Edge, names: &[&str]) -> Gatehouse {
    let mut settings = edge.settings(Place::A, "auto");
    for name in names {
        settings.domain(name);
    }
    edge.guard(&mut settings, "strict").unwrap();
    let gatehouse = start(edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    gatehouse
}
