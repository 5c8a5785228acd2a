//! A domain in maintenance.

use super::*;
use crate::config::{DomainSettings, Maintenance};

#[test]
fn a_domain_in_maintenance_is_answered_without_asking_its_target() {
    let domain = DomainSettings { maintenance: Some(Maintenance::On), ..DomainSettings::default() };
    on_both(&Setting { domain, ..Setting::default() }, async |edge| {
        let mut client = edge.client().await;
        for n in [1, 2] {
            say(&mut client, GET).await;
            let head = head_of(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
            assert!(head.contains("retry-after: 300\r\n") && head.contains("x-request-id: "), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut page = vec![0; length.parse().unwrap()];
            client.read_exact(&mut page).await.unwrap();
            assert!(String::from_utf8(page).unwrap().contains("<h1>The site is being worked on</h1>"));
            edge.counted(RequestOutcome::Maintenance, n).await;
        }
        edge.asked_nobody();
    });
}

#[test]
fn a_domain_whose_maintenance_is_over_is_forwarded() {
    let domain = DomainSettings { maintenance: Some(Maintenance::Off), ..DomainSettings::default() };
    on_both(&Setting { domain, ..Setting::default() }, async |edge| {
        edge.forwards().await;
    });
}
