//! Both versions of HTTP, with clients and with targets, large bodies, and clients that leave.

use std::{
    fs::{self, File},
    net::SocketAddr,
    time::Duration,
};

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::Place,
    network::LOOPBACK,
    origin::{haproxy_with, nginx_with},
    tunnel, wait,
};

use crate::fixture::{
    SHOP, assert_served, edge, get, on_both_back_ends, report, scrape_until, start, start_with,
};

on_both_back_ends!(
    both_versions_of_http_are_served,
    a_target_that_chooses_the_version_of_http_is_followed,
    a_websocket_goes_to_a_target_over_http_2,
    a_gibibyte_each_way_takes_bounded_memory,
    a_client_that_leaves_halfway_takes_nothing_with_it,
);

fn both_versions_of_http_are_served(io: &str) {
    let edge = edge();
    let _gatehouse = start_with(&edge, io, &[SHOP]);
    for (argument, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let url = format!("https://{SHOP}/");
        let reply = edge.curl(&url).with(&[argument, "-d", "four"]).run().unwrap();
        assert_eq!((reply.status, reply.version.as_str()), (200, version), "{reply:?}");
        assert_eq!(reply.json().unwrap()["body_bytes"], 4, "{}", reply.body);
    }
    let insecure = edge.curl(&format!("http://{SHOP}/a?b")).run().unwrap();
    assert_eq!(insecure.status, 308, "{insecure:?}");
    assert_eq!(insecure.header("location").as_deref(), Some("https://shop.customer.test/a?b"));
}

fn a_target_that_chooses_the_version_of_http_is_followed(io: &str) {
    let edge = edge();
    let pair = edge.authority.issue("nginx", &["127.0.0.1"]).unwrap();
    let address = SocketAddr::new(LOOPBACK, 9_501);
    let block = format!(
        "ssl_certificate {}; ssl_certificate_key {}; \
         location / {{ return 200 '$server_protocol $connection_requests $http_upgrade'; }}",
        pair.chain.display(),
        pair.key.display()
    );
    let nginx =
        |listen: &str| nginx_with(&edge.network.edge, address, (listen, &block), edge.folder()).unwrap();
    let mut settings = edge.settings(Place::A, io);
    settings.domain_to(SHOP, &format!("https://{address};protocol=auto"));
    let gatehouse = start(&edge, settings);
    let url = format!("https://{SHOP}/");
    let offer = ["--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"];
    // It is upgraded, and downgraded again.
    for (listen, version) in [("ssl", "HTTP/1.1"), ("ssl http2", "HTTP/2.0"), ("ssl", "HTTP/1.1")] {
        let server = nginx(listen);
        for _ in 0..3 {
            let reply = get(&edge, SHOP);
            assert!(
                reply.status == 200 && reply.body.starts_with(version),
                "{listen}: {reply:?}\n{}\n{}",
                server.output(),
                gatehouse.process.output()
            );
        }
        // Whatever it would choose: only HTTP/1.1 can switch.
        let offered = edge.curl(&url).with(&offer).run().unwrap();
        assert!(offered.body.starts_with("HTTP/1.1 ") && offered.body.ends_with(" websocket"), "{offered:?}");
    }
    let metrics = gatehouse.metrics().unwrap();
    let used_again = metrics.sum("gatehouse_upstream_requests_total", &["connection=\"reused\""]);
    assert!(used_again > 2.5, "{used_again} requests went over an open connection");
}

fn a_websocket_goes_to_a_target_over_http_2(io: &str) {
    let edge = edge();
    let pair = edge.authority.issue("haproxy", &["127.0.0.1"]).unwrap();
    let both = edge.folder().join("haproxy.pem");
    fs::write(&both, [fs::read(&pair.chain).unwrap(), fs::read(&pair.key).unwrap()].concat()).unwrap();
    let (front, echo) = (SocketAddr::new(LOOPBACK, 9_502), SocketAddr::new(LOOPBACK, 9_503));
    let _echo = tunnel::echo(&edge.network.edge, echo).unwrap();
    let sections = format!(
        "listen websockets\n mode http\n bind {front} ssl crt {} alpn h2\n server echo {echo}\n",
        both.display()
    );
    let haproxy = haproxy_with(&edge.network.edge, ("haproxy-h2", &sections), front, edge.folder()).unwrap();
    let mut settings = edge.settings(Place::A, io);
    settings.domain_to(SHOP, &format!("https://{front};protocol=h2"));
    let gatehouse = start(&edge, settings);
    let (to, roots) = (Edge::https(Place::A), edge.ca.roots());
    // The certificate first: an order takes longer than a client waits. The echo answers nothing but a handshake.
    let reply = get(&edge, SHOP);
    assert_eq!(reply.status, 502, "{reply:?}");
    let clients: Vec<_> =
        (0..40).map(|_| tunnel::Client::start(&edge.network.client, to, SHOP, roots).unwrap()).collect();
    wait::until("echoes on all tunnels", Duration::from_secs(20), || {
        let seen: Vec<_> = clients.iter().map(tunnel::Client::seen).collect();
        ensure!(seen.iter().all(|seen| seen.echoed > 10), "{seen:?}\n{}", haproxy.output());
        Ok(())
    })
    .unwrap();
    let metrics = gatehouse.metrics().unwrap();
    let tunnels = metrics.sum("gatehouse_tunnels", &[]);
    let opened = metrics.sum("gatehouse_upstream_requests_total", &["connection=\"opened\""]);
    assert!(tunnels > 39.5 && opened < 20.0, "{tunnels} tunnels over {opened} connections");
    let seen: Vec<_> = clients.into_iter().map(|client| client.seen()).collect();
    assert!(seen.iter().all(|seen| seen.failures.is_empty() && seen.closed.is_empty()), "{seen:?}");
    report(&format!("{io}: {tunnels} WebSockets over {opened} connections to HAProxy"));
}

fn a_gibibyte_each_way_takes_bounded_memory(io: &str) {
    let edge = edge();
    let gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);
    let before = gatehouse.process.peak_memory_bytes().unwrap();

    let body = edge.folder().join("gibibyte");
    File::create(&body).unwrap().set_len(GIBIBYTE).unwrap();
    // Up over HTTP/1.1: over HTTP/2 each 64 KiB of window is a round trip, and on a busy machine a wait for the processor.
    let (down, up) = ("--http2", "--http1.1");
    let patience = ["--max-time", "600"];
    let url = format!("https://{SHOP}/stream/{GIBIBYTE}");
    let received = edge.curl(&url).discarding_body().with(&patience).with(&[down]).run().unwrap();
    assert_eq!((received.exit, received.body_bytes), (0, GIBIBYTE), "{received:?}");
    let upload = [up, "-T", body.to_str().unwrap()];
    let sent = edge.curl(&format!("https://{SHOP}/up")).with(&patience).with(&upload).run().unwrap();
    assert_eq!(sent.json().unwrap()["body_bytes"], GIBIBYTE, "{sent:?}");

    let peak = gatehouse.process.peak_memory_bytes().unwrap();
    report(&format!(
        "{io}: a gibibyte each way: peak RSS {} MiB, of it {} MiB for the bodies; down {:.0} s, up {:.0} s",
        peak >> 20,
        (peak - before) >> 20,
        received.seconds,
        sent.seconds
    ));
    assert!(peak - before < 64 << 20, "the bodies cost {} MiB", (peak - before) >> 20);
}

fn a_client_that_leaves_halfway_takes_nothing_with_it(io: &str) {
    let edge = edge();
    let gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);
    let body = edge.folder().join("gibibyte");
    File::create(&body).unwrap().set_len(GIBIBYTE).unwrap();
    let before = edge.upstream.answered();
    for version in ["--http1.1", "--http2"] {
        let hasty = ["--max-time", "1", "--limit-rate", "1M", version];
        let down = edge.curl(&format!("https://{SHOP}/stream/{GIBIBYTE}")).discarding_body().with(&hasty);
        // Without a length, so that only its end tells the upstream a whole body from half of one.
        let upload = ["-H", "Transfer-Encoding: chunked", "-T", body.to_str().unwrap()];
        let up = edge.curl(&format!("https://{SHOP}/up")).with(&hasty).with(&upload);
        for request in [down, up] {
            let left = request.run().unwrap();
            // curl's code for a time-out of its own.
            assert_eq!(left.exit, 28, "{left:?}");
        }
    }
    scrape_until(&gatehouse, "its connections to be gone and counted", Duration::from_secs(10), |metrics| {
        let gone = metrics.sum("gatehouse_requests_total", &["outcome=\"client_gone\""]);
        metrics.sum("gatehouse_connections_open", &[]) < 0.5 && gone > 3.5
    });
    // The two whose answers were cut; what was cut on its way up was never whole there.
    assert_eq!(edge.upstream.answered() - before, 2, "the upstream took half a body for a whole one");
    assert_served(&edge, SHOP);
}

const GIBIBYTE: u64 = 1 << 30;
