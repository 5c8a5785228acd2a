//! HAProxy in front, which says by a PROXY header who its client is, and HTTP proxies, which say it by `X-Forwarded-For`.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare, attempt},
    network::{CLIENT, EDGE_A, EDGE_B, STRANGER},
    origin::haproxy_with,
    process::Process,
    wait,
};

use crate::fixture::{SHOP, edge, on_both_back_ends, scrape_until, send, start};

on_both_back_ends!(a_load_balancer_says_who_the_client_is);

fn a_load_balancer_says_who_the_client_is(io: &str) {
    let edge = edge();
    let gatehouse = behind_a_load_balancer(&edge, io);
    for version in ["send-proxy", "send-proxy-v2"] {
        let balancer = haproxy(&edge, version);
        let url = format!("https://{SHOP}/{version}");
        let reply = edge.curl(&url).at(IpAddr::V4(EDGE_B)).run().unwrap();
        assert_eq!(reply.status, 200, "{version}: {reply:?}\n{}", balancer.output());
        let client =
            reply.json().unwrap()["headers"].as_array().unwrap().iter().find_map(|field| {
                (field[0] == "x-forwarded-for").then(|| field[1].as_str().unwrap().to_owned())
            });
        assert_eq!(client.as_deref(), Some(CLIENT.to_string().as_str()), "{version}");
        let insecure = edge.curl(&format!("http://{SHOP}/{version}")).at(IpAddr::V4(EDGE_B)).run().unwrap();
        assert_eq!(insecure.status, 308, "{insecure:?}");
        drop(balancer);
    }
    let of_client = |line: &&str| line.contains(&CLIENT.to_string()) && line.contains("send-proxy");
    // Lines are written behind the answers.
    wait::until("a line for each request", Duration::from_secs(10), || {
        let logged = gatehouse.process.output();
        ensure!(logged.lines().filter(of_client).count() == 4, "{logged}");
        Ok(())
    })
    .unwrap();
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.sum("gatehouse_proxy_headers_total", &["header=\"client\""]) > 3.5, "{metrics}");
}

#[test]
fn who_is_not_trusted_says_nothing_and_who_is_must_say_something() {
    let edge = edge();
    let gatehouse = behind_a_load_balancer(&edge, "auto");
    // A client is no load balancer: it is served without a header, and what it says in one is no TLS.
    let reply = edge.curl(&format!("https://{SHOP}/")).run().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let hello = Hello::new(SHOP, KeyShare::Classic, |_| true).unwrap();
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 5 443\r\n";
    let spoofed = [header.to_vec(), hello.whole().concat()].concat();
    let seen = send(&edge, Place::A, vec![spoofed]);
    assert_ne!(seen.ending, Ending::Answered, "{seen:?}");
    scrape_until(&gatehouse, "the spoofed header to be no TLS", Duration::from_secs(10), |metrics| {
        metrics.sum("gatehouse_tls_connections_total", &["outcome=\"plain_http\""]) > 0.5
    });

    // The load balancer itself, without a header.
    let balancer = haproxy(&edge, "");
    let seen = {
        let (to, patience) = (Edge::https(Place::B), Duration::from_secs(1));
        attempt(&edge.network.client, to, hello.whole(), patience).unwrap()
    };
    assert_ne!(seen.ending, Ending::Answered, "{seen:?}");
    scrape_until(
        &gatehouse,
        "a connection without a header to be refused",
        Duration::from_secs(10),
        |metrics| {
            metrics.sum("gatehouse_tls_connections_total", &["outcome=\"proxy_header\""]) > 0.5
                && metrics.sum("gatehouse_proxy_headers_total", &["header=\"absent\""]) > 0.5
        },
    );
    assert!(gatehouse.process.output().contains("sent no valid PROXY header"));
    drop(balancer);
}

#[test]
fn a_trusted_proxy_says_who_the_client_is_and_a_client_does_not() {
    let edge = edge();
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain(SHOP);
    settings.raw("listen", "trusted_proxies", &format!("[\"{STRANGER}/32\", \"198.51.100.0/24\"]"));
    let gatehouse = start(&edge, settings);
    let chain = "X-Forwarded-For: 203.0.113.66, 203.0.113.7, 198.51.100.1";
    let ask = |from: Ipv4Addr, path: &str| {
        let fields = ["-H", chain, "-H", "X-Forwarded-Proto: http", "--interface", &from.to_string()];
        let reply = edge.curl(&format!("https://{SHOP}/{path}")).with(&fields).run().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        (reply.seen("x-forwarded-for"), reply.seen("x-forwarded-proto"))
    };
    let (hops, proto) = ask(STRANGER, "proxied");
    assert_eq!(hops, [format!("203.0.113.66, 203.0.113.7, 198.51.100.1, {STRANGER}")]);
    assert_eq!(proto, ["http"]);
    let (hops, proto) = ask(CLIENT, "spoofed");
    assert_eq!((hops, proto), (vec![CLIENT.to_string()], vec!["https".to_owned()]));
    let logged = gatehouse.process.output();
    for (path, client) in [("/proxied", "203.0.113.7"), ("/spoofed", &CLIENT.to_string())] {
        let line = logged.lines().find(|line| line.contains(path)).unwrap_or(&logged);
        assert!(line.contains(client) && !line.contains("203.0.113.66"), "{line}");
    }
}

/// An instance at A that trusts B to say who its clients are, with room for few connections of one client.
fn behind_a_load_balancer(edge: &Edge, io: &str) -> Gatehouse {
    let mut settings = edge.settings(Place::A, io);
    settings.domain(SHOP);
    settings.raw("listen", "proxy_protocol", &format!("{{ from = [\"{EDGE_B}/32\"] }}"));
    start(edge, settings)
}

/// HAProxy at B, from which all goes to A.
fn haproxy(edge: &Edge, header: &str) -> Process {
    let listen = |name: &str, port: u16| {
        format!(
            "listen {name}\n mode tcp\n bind {EDGE_B}:{port}\n server a {EDGE_A}:{port} source {EDGE_B} {header}\n"
        )
    };
    let sections = format!("{}{}", listen("tls", 443), listen("clear", 80));
    let name = format!("haproxy-{header}");
    haproxy_with(&edge.network.edge, (&name, &sections), (EDGE_B, 80).into(), edge.folder()).unwrap()
}
