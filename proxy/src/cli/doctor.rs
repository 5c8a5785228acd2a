//! `gatehouse doctor`: whether this machine and its surroundings let the settings work, and what to do where not.
//! Not here: whether the settings contradict themselves (`config`); what a running instance does (`cli/status`).
//! Invariants: nothing is changed or made; each check ends within [`DEADLINE`], all at once
//! (`a_check_that_hangs_is_a_failure_of_its_own`).

mod finding;
mod interfaces;
mod machine;
mod name;
mod network;
mod surroundings;
mod webhooks;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::task::{JoinSet, spawn_blocking};

use self::finding::{Finding, Severity};
use super::{arguments::Form, columns::Columns, error::CommandError, print};
use crate::{
    clock,
    config::{Config, ConfigError, Loaded, SettingOrigin},
    name::ServerName,
    telemetry::error_chain,
};

/// Looks, and writes what was found.
///
/// `unread` says why a parameter is no part of the settings.
pub(super) async fn doctor(
    loaded: Loaded,
    unread: Option<&ConfigError>,
    form: Form,
) -> Result<(), CommandError> {
    let mut findings: Vec<_> = parameter(&loaded.places, unread).into_iter().collect();
    findings.extend(examine(checks(&Arc::new(loaded.config)), DEADLINE).await);
    told(&findings, form)
}

/// Looks at what concerns `name`, and writes what was found.
pub(super) async fn doctor_of_name(
    config: Config,
    name: &ServerName,
    form: Form,
) -> Result<(), CommandError> {
    let findings = examine(name::checks(&Arc::new(config), name), DEADLINE_OF_NAME).await;
    told(&findings, form)
}

fn told(findings: &[Finding], form: Form) -> Result<(), CommandError> {
    print(form, &findings, |findings| shown(findings))?;
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        failed => Err(CommandError::Unwell { failed }),
    }
}

/// What became of the parameter that the settings name, if they do: it has been read, or tried, by now.
fn parameter(places: &[SettingOrigin], unread: Option<&ConfigError>) -> Option<Finding> {
    let read = places.iter().find_map(|place| match place {
        SettingOrigin::Parameter(name) => Some(Finding::ok(format!("parameter {name}"), "read")),
        SettingOrigin::File(_) | SettingOrigin::Variable(_) | SettingOrigin::Default => None,
    });
    read.or_else(|| {
        let remedy = "see the error; the lines below are without its settings";
        Some(Finding::error("parameter", error_chain(unread?), remedy))
    })
}

/// The checks, in the order in which they are reported.
struct Check {
    what: String,
    look: Look,
}

type Look = Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

fn checks(config: &Arc<Config>) -> Vec<Check> {
    let mut checks = vec![
        local("kernel", config, |_| vec![machine::kernel()]),
        local("btf", config, |config| vec![machine::btf(config)]),
        local("io_uring", config, |config| vec![machine::ring(config)]),
        local("guard", config, interfaces::all),
        local("limits", config, machine::limits),
        local("clock", config, |_| machine::clock()),
        local("state", config, |config| vec![machine::state_directory(config)]),
        local("copy", config, |config| machine::local_copy(config, clock::wall()).into_iter().collect()),
        remote("ports", surroundings::ports(Arc::clone(config))),
        remote("tables", surroundings::tables(Arc::clone(config))),
    ];
    if let Some(url) = config.domains.ask.clone() {
        checks.push(remote("ask", network::ask(url, *config.domains.ask_timeout)));
    }
    checks.extend(
        network::hosts(config).into_iter().map(|name| remote(format!("dns {name}"), network::resolve(name))),
    );
    if !config.events.webhooks.is_empty() {
        checks.push(remote("webhooks", webhooks::webhooks(Arc::clone(config))));
    }
    let wildcards = config.certificates.wildcards.iter().cloned();
    checks.extend(
        wildcards.map(|wildcard| {
            remote(format!("wildcard {}", wildcard.name), network::challenge_record(wildcard))
        }),
    );
    let issuers = config.certificates.issuers.iter().cloned();
    checks
        .extend(issuers.map(|issuer| remote(format!("ca {}", issuer.directory), network::directory(issuer))));
    checks
}

/// A check of this machine, which may block.
fn local(what: &'static str, config: &Arc<Config>, look: fn(&Config) -> Vec<Finding>) -> Check {
    let config = Arc::clone(config);
    let look = async move { spawn_blocking(move || look(&config)).await.unwrap_or_default() };
    Check { what: what.to_owned(), look: Box::pin(look) }
}

fn remote(what: impl Into<String>, look: impl Future<Output = Vec<Finding>> + Send + 'static) -> Check {
    Check { what: what.into(), look: Box::pin(look) }
}

/// Makes all checks at once; one that does not end in time is reported as such.
async fn examine(checks: Vec<Check>, deadline: Duration) -> Vec<Finding> {
    let mut running = JoinSet::new();
    for (place, Check { what, look }) in checks.into_iter().enumerate() {
        running.spawn(async move {
            let found = tokio::time::timeout(deadline, look).await;
            (place, found.unwrap_or_else(|_| vec![finding::late(&what, deadline)]))
        });
    }
    let mut found = running.join_all().await;
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().flat_map(|(_, findings)| findings).collect()
}

fn shown(findings: &[Finding]) -> String {
    let mut columns = Columns::new(["", "CHECK", "FOUND", "REMEDY"]);
    for finding in findings {
        let remedy = finding.remedy.clone().unwrap_or_default();
        columns.row([
            finding.severity.as_str().to_owned(),
            finding.what.clone(),
            finding.found.clone(),
            remedy,
        ]);
    }
    let policies = findings.iter().filter_map(|finding| finding.policy.as_ref());
    policies.fold(columns.text(), |text, policy| {
        format!("{text}\nto add to the policy of the role:\n{policy:#}\n")
    })
}

/// Longer than DNS and TLS take on a bad day, short enough for a person to wait.
const DEADLINE: Duration = Duration::from_secs(10);
/// Somebody is on the telephone meanwhile.
const DEADLINE_OF_NAME: Duration = Duration::from_millis(4_500);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_hangs_is_a_failure_of_its_own() {
        let well = remote("well", async { vec![Finding::ok("well", "all is")] });
        let found =
            examine(vec![remote("hung", std::future::pending()), well], Duration::from_millis(20)).await;
        let told: Vec<_> = found.iter().map(|finding| (finding.what.as_str(), finding.severity)).collect();
        assert_eq!(told, [("hung", Severity::Error), ("well", Severity::Ok)]);
    }

    #[test]
    fn a_finding_is_one_line() {
        let findings = [
            Finding::ok("kernel", "6.18.0"),
            Finding::error("clock", "1970-01-01", "set it, or start chrony"),
        ];
        assert_eq!(
            shown(&findings),
            "       CHECK   FOUND       REMEDY\n\
             ok     kernel  6.18.0      -\n\
             error  clock   1970-01-01  set it, or start chrony\n"
        );
    }
}
