//! Responses of nginx that are compressed for curl.

use std::net::SocketAddr;

use testbed::{gatehouse::Place, network::LOOPBACK, origin::nginx_with};

use crate::fixture::{SHOP, edge, on_both_back_ends, start};

on_both_back_ends!(a_client_that_takes_gzip_gets_less);

fn a_client_that_takes_gzip_gets_less(io: &str) {
    let edge = edge();
    let page = edge.folder().join("page.html");
    let text = "<p>What repeats itself is told once.</p>\n".repeat(20_000);
    std::fs::write(&page, &text).unwrap();
    let address = SocketAddr::new(LOOPBACK, 9_500);
    let block = format!(
        "root {}; location / {{ default_type text/html; }} \
         location /plain {{ default_type text/html; add_header Cache-Control no-transform; alias {}; }}",
        edge.folder().display(),
        page.display()
    );
    let _nginx = nginx_with(&edge.network.edge, address, ("", &block), edge.folder()).unwrap();
    let mut settings = edge.settings(Place::A, io);
    settings.domain_to(SHOP, &format!("http://{address}"));
    settings.raw("compression", "encodings", "[\"gzip\"]");
    let gatehouse = start(&edge, settings);
    let url = format!("https://{SHOP}/page.html");
    for version in ["--http1.1", "--http2"] {
        let whole = edge.curl(&url).with(&[version]).run().unwrap();
        assert_eq!(
            (whole.status, whole.header("vary").as_deref()),
            (200, Some("accept-encoding")),
            "{version}"
        );
        assert!(whole.body == text && whole.header("content-encoding").is_none());
        let strong = whole.header("etag").unwrap();

        let less = edge.curl(&url).with(&[version, "--compressed"]).run().unwrap();
        assert_eq!(
            (less.status, less.header("content-encoding").as_deref()),
            (200, Some("gzip")),
            "{}",
            less.head
        );
        assert!(less.body == text && less.body_bytes < text.len() as u64 / 20, "{} bytes", less.body_bytes);
        let weak = less.header("etag").unwrap();
        assert_eq!(weak, format!("W/{strong}"));

        let head = edge.curl(&url).with(&[version, "--compressed", "--head"]).run().unwrap();
        assert_eq!(
            (head.header("content-encoding").as_deref(), head.header("content-length")),
            (Some("gzip"), None)
        );
        // nginx compares weakly (RFC 9110 §13.1.2).
        let condition = format!("If-None-Match: {weak}");
        let same = edge.curl(&url).with(&[version, "--compressed", "-H", &condition]).run().unwrap();
        assert_eq!((same.status, same.header("etag")), (304, Some(weak)), "{}", same.head);
        let part = edge.curl(&url).with(&[version, "--compressed", "--range", "0-99"]).run().unwrap();
        assert_eq!((part.status, part.header("content-encoding"), part.body_bytes), (206, None, 100));
        let plain =
            edge.curl(&format!("https://{SHOP}/plain")).with(&[version, "--compressed"]).run().unwrap();
        assert_eq!(
            (plain.status, plain.header("content-encoding"), plain.header("etag")),
            (200, None, Some(strong))
        );
    }
    let metrics = gatehouse.metrics().unwrap();
    let compressed = metrics.sum("gatehouse_compressed_responses_total", &["result=\"compressed\""]);
    assert!((compressed - 2.0).abs() < 0.5, "{metrics}");
}
