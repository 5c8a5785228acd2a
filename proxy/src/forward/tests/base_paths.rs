//! Targets with a base path.

use super::*;

#[test]
fn a_base_path_comes_before_each_requests_own_and_nobody_is_led_beside_it() {
    let setting = Setting { parameters: "/app/", ..Setting::default() };
    on_both(&setting, async |edge| {
        let mut client = edge.client().await;
        let ask = |request: &str| format!("{request} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        say(&mut client, &ask("GET /a?b=/../c")).await;
        let mut upstream = edge.accept().await;
        assert!(head_of(&mut upstream).await.starts_with("GET /app/a?b=/../c HTTP/1.1\r\n"));
        answer_ok(&mut upstream, &mut client).await;
        for (asked, seen) in [("GET /", "GET /app/ HTTP"), ("OPTIONS *", "OPTIONS /app/ HTTP")] {
            say(&mut client, &ask(asked)).await;
            let head = head_of(&mut upstream).await;
            assert!(head.starts_with(seen), "{head}");
            answer_ok(&mut upstream, &mut client).await;
        }
        for path in ["/../x", "/a/%2e%2E/x", "/..;/x"] {
            let mut client = edge.client().await;
            say(&mut client, &ask(&format!("GET {path}"))).await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 400 "), "{path}");
        }
        edge.counted_all(RequestOutcome::RefuseViolation, 3, 6).await;
        assert_eq!(edge.metrics.violations.count(RequestViolation::StepUp), 3);
    });
}

#[test]
fn without_a_base_path_a_path_passes_as_it_is() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, "GET /a/%2e%2e/x HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        let mut upstream = edge.accept().await;
        assert!(head_of(&mut upstream).await.starts_with("GET /a/%2e%2e/x HTTP/1.1\r\n"));
        answer_ok(&mut upstream, &mut client).await;
    });
}
