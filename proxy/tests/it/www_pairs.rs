//! One entry for a name with `www.` in front and without.

use std::{net::IpAddr, time::Duration};

use anyhow::ensure;
use testbed::{
    cleartext, curl::Reply, edge::Edge, gatehouse::Place, hello::Ending, keep_alive_client::Kept, wait,
};

use crate::fixture::{
    FLEET_DELAY, SHOP, assert_served, edge, faulty_settings, greet_until, is_enforcing, scrape_until,
    send_client_hello, start,
};

#[test]
fn the_other_name_of_a_pair_is_let_through_by_a_strict_guard_as_long_as_its_entry_says_so() {
    let edge = edge();
    let mut settings = faulty_settings(&edge, Place::A, "auto");
    edge.guard(&mut settings, "strict").unwrap();
    let a = start(&edge, settings);
    let b = start(&edge, faulty_settings(&edge, Place::B, "auto"));
    scrape_until(&a, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    let add = |tenant: &str, name: &str, more: &[&str]| {
        a.command(&[&["domain", "add", name, "--tenant", tenant][..], more].concat())
    };

    add("acme", SHOP, &[]).unwrap();
    assert_served(&edge, SHOP);
    assert_eq!(send_client_hello(&edge, Place::A, WWW).ending, Ending::Reset, "without the setting");
    add("acme", SHOP, &["--www", "redirect", "--replace"]).unwrap();
    let asked = edge.upstream.requests();
    for version in ["--http1.1", "--http2"] {
        let reply = ask(&edge, Place::A, WWW, &[version]);
        assert_eq!(reply.status, 308, "{reply:?}");
        assert_eq!(reply.header("location").unwrap(), format!("https://{SHOP}{TARGET}"), "{reply:?}");
        assert_eq!(ask(&edge, Place::A, SHOP, &[version]).status, 200, "its own name is forwarded");
    }
    assert_eq!(edge.upstream.requests() - asked, 2, "a redirect reaches no origin");
    assert_eq!(edge.ca.relay.count("newOrder"), 2, "each name has a certificate of its own");
    let redirected = a.metrics().unwrap().sum("gatehouse_requests_total", &["outcome=\"redirected\""]);
    assert!((1.5..2.5).contains(&redirected), "{redirected}");
    let plain = cleartext::get(&edge.network.client, (Place::A.v4(), 80).into(), WWW, TARGET).unwrap();
    assert!(plain.head.contains(&format!("ocation: https://{SHOP}{TARGET}\r\n")), "in one step: {plain:?}");

    let refused = add("zeta", WWW, &[]).unwrap_err().to_string();
    assert!(refused.contains("is the other name of another tenant's pair"), "{refused}");
    add("zeta", OTHER_WWW, &[]).unwrap();
    let refused = add("acme", OTHER, &["--www", "serve"]).unwrap_err().to_string();
    assert!(refused.contains(&format!("www: domain `{OTHER_WWW}` is not available")), "{refused}");
    let told = a.command(&["doctor", WWW]).unwrap_or_else(|failed| failed.to_string());
    assert!(told.contains(&format!("`{WWW}` is the other name of its pair")), "{told}");

    add("acme", SHOP, &["--www", "serve", "--replace"]).unwrap();
    let reply = ask(&edge, Place::A, WWW, &[]);
    assert_eq!((reply.status, reply.seen("user-custom-domain")), (200, vec![WWW.to_owned()]), "{reply:?}");
    wait::until("the other instance to follow", FLEET_DELAY, || {
        let reply = edge.curl(&format!("https://{WWW}/")).at(IpAddr::V4(Place::B.v4())).run()?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
    let mut kept = Kept::connect(&edge.network.client, Edge::https(Place::A), WWW, edge.ca.roots()).unwrap();
    assert_eq!(kept.get("/").unwrap(), 200);
    add("acme", SHOP, &["--www", "off", "--replace"]).unwrap();
    assert_eq!(kept.get("/").unwrap(), 421, "on the kept connection");
    greet_until(&edge, WWW, &Ending::Reset, Duration::from_secs(2));
    wait::until("a refusal at the other instance", FLEET_DELAY, || {
        let reply = edge.curl(&format!("https://{WWW}/")).at(IpAddr::V4(Place::B.v4())).run()?;
        ensure!(reply.status == 0, "{reply:?}");
        Ok(())
    })
    .unwrap();
    assert_served(&edge, SHOP);
    drop(b);
}

fn ask(edge: &Edge, place: Place, name: &str, with: &[&str]) -> Reply {
    edge.curl(&format!("https://{name}{TARGET}")).at(IpAddr::V4(place.v4())).with(with).run().unwrap()
}

const WWW: &str = "www.shop.customer.test";
const OTHER: &str = "other.customer.test";
const OTHER_WWW: &str = "www.other.customer.test";
const TARGET: &str = "/a//b?c=%20d&e";
