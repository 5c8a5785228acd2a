//! What targets and clients are told in fields.

use super::*;

#[test]
fn a_target_reads_its_own_authority_or_the_one_that_the_client_named() {
    use config::UpstreamHost::{Client, Target as Own};
    for (host, named, read) in [
        (Own, "shop.example", None),
        (Client, "Shop.Example.", Some("shop.example")),
        (Client, "shop.example:443", Some("shop.example")),
        (Client, "shop.example:8443", Some("shop.example:8443")),
    ] {
        let upstream = config::UpstreamConfig { host, ..config::UpstreamConfig::default() };
        on_both(&Setting { upstream, ..Setting::default() }, async |edge| {
            let own = edge.upstream.local_addr().unwrap().to_string();
            let mut client = edge.client().await;
            let request = format!("GET / HTTP/1.1\r\nHost: {named}\r\n\r\n");
            say(&mut client, &request).await;
            let mut first = edge.accept().await;
            let read = format!("GET / HTTP/1.1\r\nhost: {}\r\n", read.unwrap_or(&own));
            let head = head_of(&mut first).await;
            assert!(head.starts_with(&read) && head.matches("\r\nhost: ").count() == 1, "{named}: {head}");
            answer_ok(&mut first, &mut client).await;
            // Sent once more over another connection.
            say(&mut client, &request).await;
            head_of(&mut first).await;
            drop(first);
            let mut second = edge.accept().await;
            let head = head_of(&mut second).await;
            assert!(head.starts_with(&read), "{named}: {head}");
            answer_ok(&mut second, &mut client).await;
        });
    }
}
