//! Where the API may be.

use super::{Config, Findings, is_url, webhooks::is_loopback, without_query};

pub(super) fn api(config: &Config, findings: &mut Findings) {
    if let Some(url) = &config.api.setup_url {
        setup_url(url, findings);
    }
    let Some(listen) = config.api.listen else {
        if config.api.console {
            let remedy = "give the API an address like `127.0.0.1:9466`, or leave the console out";
            findings.add(
                "api.console",
                "`true` without `api.listen`: there is nowhere to sign in".to_owned(),
                remedy,
            );
        }
        return;
    };
    if config.api.name.is_none() && !listen.ip().to_canonical().is_loopback() {
        let fault = format!("`{listen}` without `api.name`: tokens would pass in cleartext");
        let remedy =
            "give the name whose certificate the API presents, or a loopback address like `127.0.0.1:9466`";
        findings.add("api.listen", fault, remedy);
    }
    if !config.domains.table {
        let fault = format!("`{listen}` and `domains.table = false`: there are no entries to manage");
        findings.add("api.listen", fault, "read the table, or leave it out");
    }
}

fn setup_url(url: &str, findings: &mut Findings) {
    let has_more = url.contains(['?', '#', '@', ' ']);
    if has_more || !(is_url(url, &["https"]) || is_url(url, &["http"]) && is_loopback(url)) {
        let fault = format!("`{}` is not an https URL without user and query", without_query(url));
        findings.add(
            "api.setup_url",
            fault,
            "write it like `https://www.example.com`: who has a link may read what it shows",
        );
    }
}
