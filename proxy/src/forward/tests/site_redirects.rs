//! Sites whose name with `www.` in front leads to that without, or the other way.

use super::*;
use crate::config::{DomainSettings, SiteRedirect};

fn setting(redirect: SiteRedirect) -> Setting {
    let domain = DomainSettings { redirect: Some(redirect), ..DomainSettings::default() };
    Setting { domain, ..Setting::default() }
}

#[test]
fn a_request_is_led_to_the_sites_name_with_all_that_it_asks_for() {
    on_both(&setting(SiteRedirect::Www), async |edge| {
        let mut client = edge.client().await;
        for (request, host, location) in [
            ("GET /a?b", "shop.example", "https://www.shop.example/a?b"),
            ("HEAD //c", "shop.example:8443", "https://www.shop.example:8443//c"),
            ("OPTIONS *", "shop.example", "https://www.shop.example/"),
        ] {
            say(&mut client, &format!("{request} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            let head = head_of(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{head}");
            assert!(head.contains(&format!("\r\nlocation: {location}\r\n")), "{head}");
            assert!(head.contains("x-request-id: "), "{head}");
        }
        edge.counted(RequestOutcome::Redirect, 3).await;
        edge.asked_nobody();
    });
}

#[test]
fn a_request_for_the_sites_name_is_forwarded() {
    for redirect in [SiteRedirect::Apex, SiteRedirect::Off] {
        on_both(&setting(redirect), async |edge| {
            edge.forwards().await;
        });
    }
}
