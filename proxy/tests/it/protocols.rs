//! Both versions of HTTP, large bodies, and clients that leave.

use std::{fs::File, time::Duration};

use crate::fixture::{SHOP, assert_served, edge, on_both_back_ends, scrape_until, start_with};

on_both_back_ends!(
    both_versions_of_http_are_served,
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

fn a_gibibyte_each_way_takes_bounded_memory(io: &str) {
    let edge = edge();
    let gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);
    let before = gatehouse.process.peak_memory_bytes().unwrap();

    let url = format!("https://{SHOP}/stream/{GIBIBYTE}");
    let down = edge.curl(&url).discarding_body().with(&["--max-time", "300"]).run().unwrap();
    assert_eq!((down.exit, down.status), (0, 200), "{down:?}");
    let body = edge.folder().join("gibibyte");
    File::create(&body).unwrap().set_len(GIBIBYTE).unwrap();
    let upload = ["--max-time", "300", "-T", body.to_str().unwrap()];
    let up = edge.curl(&format!("https://{SHOP}/up")).with(&upload).run().unwrap();
    assert_eq!(up.json().unwrap()["body_bytes"], GIBIBYTE, "{up:?}");

    let peak = gatehouse.process.peak_memory_bytes().unwrap();
    println!("{io}: peak {} MiB, of them {} MiB for the bodies", peak >> 20, (peak - before) >> 20);
    assert!(peak - before < 64 << 20, "the bodies cost {} MiB", (peak - before) >> 20);
}

fn a_client_that_leaves_halfway_takes_nothing_with_it(io: &str) {
    let edge = edge();
    let gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);
    let url = format!("https://{SHOP}/stream/{GIBIBYTE}");
    for version in ["--http1.1", "--http2"] {
        let hasty = ["--max-time", "1", "--limit-rate", "1M", version];
        let left = edge.curl(&url).discarding_body().with(&hasty).run().unwrap();
        // curl's code for a time-out of its own.
        assert_eq!(left.exit, 28, "{left:?}");
    }
    scrape_until(&gatehouse, "its connections to be gone", Duration::from_secs(10), |metrics| {
        metrics.sum("gatehouse_connections_open", &[]) < 0.5
    });
    assert_served(&edge, SHOP);
}

const GIBIBYTE: u64 = 1 << 30;
