//! Webhooks: whether their secrets can be read, and whether events reach them.

use std::sync::Arc;

use super::finding::Finding;
use crate::{
    cli::access::Access,
    config::Config,
    telemetry::error_chain,
    webhooks::{
        Webhooks,
        standing::{Condition, WebhookStanding},
    },
};

/// Each webhook of the settings.
pub(super) async fn webhooks(config: Arc<Config>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = Webhooks::read(&config.events) {
        findings.push(Finding::error(
            "webhooks",
            error_chain(&error),
            "see the error; the start would end with it",
        ));
    }
    let standings = match Access::open(&config).await {
        Ok(access) => access.webhooks().await,
        Err(error) => Err(error),
    };
    match standings {
        Ok(standings) => findings.extend(standings.iter().map(judge)),
        Err(error) => {
            let remedy = "how webhooks fare lies in the state table: see the lines about tables";
            findings.push(Finding::warning(
                "webhooks",
                format!("not known: {}", error_chain(&error)),
                remedy,
            ));
        }
    }
    findings
}

fn judge(standing: &WebhookStanding) -> Finding {
    let what = format!("webhook {}", standing.name);
    let problem = standing.problem.as_deref().unwrap_or("no problem is known");
    let since = standing.since.map_or_else(String::new, |since| format!(" since {since}"));
    match standing.condition {
        Condition::New => Finding::ok(what, "new: an instance begins within seconds of its start"),
        Condition::Well => Finding::ok(
            what,
            standing.delivered_at.map_or_else(
                || "nothing was to be sent yet".to_owned(),
                |at| format!("accepted an event at {at}"),
            ),
        ),
        Condition::Failing => Finding::warning(
            what,
            format!("fails{since}: {problem}"),
            "see what its receiver says; events wait, and are sent again",
        ),
        Condition::Ended => Finding::error(
            what,
            format!("nothing is sent to it{since}: {problem}"),
            format!("mend the receiver, then `gatehouse events replay --webhook {}`", standing.name),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::doctor::finding::Severity, store::instant::Micros};

    #[test]
    fn who_fails_is_warned_of_and_who_is_told_nothing_more_is_a_failure() {
        for (condition, severity, word) in [
            (Condition::New, Severity::Ok, "new"),
            (Condition::Well, Severity::Ok, "nothing was to be sent"),
            (Condition::Failing, Severity::Warning, "answered 503"),
            (Condition::Ended, Severity::Error, "since 1970"),
        ] {
            let found = judge(&WebhookStanding {
                name: "crm".to_owned(),
                condition,
                since: Some(Micros::default()),
                problem: Some("answered 503".to_owned()),
                retry_at: None,
                delivered_at: None,
            });
            assert_eq!(found.severity, severity, "{found:?}");
            assert!(found.found.contains(word), "{found:?}");
        }
    }
}
