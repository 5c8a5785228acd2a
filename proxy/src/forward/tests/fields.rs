//! What targets and clients are told in fields.

use super::*;
use crate::telemetry::{Kept, Lines};

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

/// The value of a field, if there is one of this name.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = values.next();
    assert_eq!(values.next(), None, "{head}");
    value
}

#[test]
fn target_client_and_log_know_a_request_by_one_id() {
    let proxy: IpAddr = [10, 0, 0, 9].into();
    for (through, given, is_kept) in [
        (None, "x-request-id: mine", false),
        (Some(proxy), "x-request-id: theirs", true),
        (Some(proxy), "x-request-id: a<b", false),
        (Some(proxy), "x-request-id: a\r\nx-request-id: b", false),
        (Some(proxy), "accept: */*", false),
    ] {
        let kept = Kept::default();
        let lines = Lines::start(kept.clone()).unwrap();
        let access_log = AccessLog::start(lines.clone(), config::LogFormat::Text);
        on_both(&Setting { access_log, through, ..Setting::default() }, async |edge| {
            let mut client = edge.client().await;
            say(&mut client, &format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{given}\r\n\r\n")).await;
            let mut upstream = edge.accept().await;
            let head = head_of(&mut upstream).await;
            let id = value(&head, "x-request-id").unwrap();
            assert_eq!(given.ends_with(&format!(": {id}")), is_kept, "{given}: {head}");
            say(&mut upstream, "HTTP/1.1 200 OK\r\nx-request-id: upstream\r\ncontent-length: 0\r\n\r\n")
                .await;
            assert_eq!(value(&head_of(&mut client).await, "x-request-id"), Some(id), "{given}");
            edge.counted(RequestOutcome::Forward, 1).await;
            lines.flush(Duration::from_secs(10));
            assert!(kept.text().contains(&format!(" id={id} ")), "{}", kept.text());
        });
    }
}

#[test]
fn an_error_page_and_its_field_show_one_id() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, "GET / HTTP/1.1\r\nHost: shop.example\r\nTransfer_Encoding: x\r\n\r\n").await;
        let head = head_of(&mut client).await;
        let id = value(&head, "x-request-id").unwrap();
        let page = rest(&mut client).await;
        assert!(page.contains(&format!("<code>{id}</code>")), "{head}{page}");
    });
}

#[test]
fn a_trace_passes_unchanged_or_not_at_all() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        for (parent, passed) in [(TRACE, Some(TRACE)), ("00-0-0-01", None)] {
            let fields = format!("traceparent: {parent}\r\ntracestate: a=1, b=2");
            say(&mut client, &format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n\r\n")).await;
            let mut upstream = edge.accept().await;
            let head = head_of(&mut upstream).await;
            assert_eq!(value(&head, "traceparent"), passed, "{head}");
            assert_eq!(value(&head, "tracestate"), passed.map(|_| "a=1, b=2"), "{head}");
            say(&mut upstream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            head_of(&mut client).await;
        }
    });
}

fn rules<const N: usize>(texts: [&str; N]) -> Vec<config::HeaderRule> {
    texts.map(|text| config::HeaderRule::try_from(text.to_owned()).unwrap()).into()
}

#[test]
fn rules_change_requests_responses_and_pages_of_our_own() {
    let headers = config::HeadersConfig {
        request: rules([
            "set X-Tenant: {tenant}/{host}",
            "remove Accept-Encoding",
            "add Accept: x/{tls.version}",
        ]),
        response: rules(["set Strict-Transport-Security: max-age=60", "remove Server", "set X-By: {tenant}"]),
    };
    on_both(&Setting { headers, ..Setting::default() }, async |edge| {
        let mut client = edge.client().await;
        say(
            &mut client,
            "GET / HTTP/1.1\r\nHost: shop.example:8443\r\nX-Tenant: forged\r\nAccept-Encoding: gzip\r\n\r\n",
        )
        .await;
        let mut upstream = edge.accept().await;
        let head = head_of(&mut upstream).await;
        assert_eq!(value(&head, "x-tenant"), Some("acme/shop.example:8443"), "{head}");
        assert_eq!(
            (value(&head, "accept-encoding"), value(&head, "accept")),
            (None, Some("x/TLSv1.3")),
            "{head}"
        );
        say(
            &mut upstream,
            "HTTP/1.1 200 OK\r\nServer: old/1.0\r\nStrict-Transport-Security: max-age=0\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        let passed = head_of(&mut client).await;
        // Of a request that broke a rule, nothing is known but its connection.
        say(&mut client, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
        let refused = head_of(&mut client).await;
        for (head, status, by) in [(&passed, "200", "acme"), (&refused, "421", "")] {
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!(value(head, "strict-transport-security"), Some("max-age=60"), "{head}");
            assert_eq!((value(head, "server"), value(head, "x-by")), (None, Some(by)), "{head}");
        }
    });
}
