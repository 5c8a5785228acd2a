//! Where events are sent.

use std::{collections::HashSet, net::IpAddr};

use super::{Findings, SecretPlace, is_url, without_query};
use crate::config::Config;

pub(super) fn webhooks(config: &Config, findings: &mut Findings) {
    let webhooks = &config.events.webhooks;
    if webhooks.len() > MAX_WEBHOOKS {
        let fault = format!("{} webhooks are more than are told of events", webhooks.len());
        findings.add("events.webhooks", fault, format!("list at most {MAX_WEBHOOKS}"));
    }
    let mut seen = HashSet::new();
    for (i, webhook) in webhooks.iter().enumerate() {
        let field = |key| format!("events.webhooks[{i}].{key}");
        if !seen.insert(&webhook.name) {
            findings.add(&field("name"), format!("`{}` is listed twice", webhook.name), "keep one");
        }
        url(&field("url"), &webhook.url, findings);
        let secret = SecretPlace {
            what: "secret",
            key: "secret",
            file: webhook.secret_file.as_deref(),
            variable: webhook.secret_variable.as_deref(),
        };
        secret.validate(&format!("events.webhooks[{i}]"), findings);
    }
}

/// Files of secrets that do not exist.
pub(super) fn missing_files(config: &Config, findings: &mut Findings) {
    for (i, webhook) in config.events.webhooks.iter().enumerate() {
        let field = format!("events.webhooks[{i}].secret_file");
        findings.add_if_missing(
            &field,
            webhook.secret_file.as_deref(),
            "give the path of a file with the secret",
        );
    }
}

fn url(field: &str, url: &str, findings: &mut Findings) {
    let remedy = "write it like `https://hooks.example.com/gatehouse`";
    if !is_url(url, &["https", "http"]) || url.contains('#') {
        findings.add(field, format!("`{}` is not an https URL", without_query(url)), remedy);
    } else if !is_url(url, &["https"]) && !is_loopback(url) {
        let fault = format!("`{}` sends events in the clear", without_query(url));
        findings.add(
            field,
            fault,
            "write an https URL; http is for loopback addresses like `http://127.0.0.1:9000/`",
        );
    } else if url
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.authority().is_some_and(|at| at.as_str().contains('@')))
    {
        let fault = "a user and password in a URL are not sent";
        findings.add(field, fault, "leave them out: the signature says who sends");
    }
}

pub(super) fn is_loopback(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).map(|host| host.trim_matches(['[', ']']));
    host.and_then(|host| host.parse::<IpAddr>().ok()).is_some_and(|address| address.is_loopback())
}

/// Each is a task of its own, and reads the event log.
const MAX_WEBHOOKS: usize = 16;
