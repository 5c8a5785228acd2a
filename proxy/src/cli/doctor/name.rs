//! One name: its entry, whether it is allowed, what the guard makes of it, where it leads, and its certificate.

use std::sync::Arc;

use super::{
    Check,
    finding::{Finding, Severity},
    remote,
};
use crate::{
    certificates::listing::Summary,
    cli::{access::Access, domain_checks},
    clock,
    config::{Config, WwwPair},
    control::{
        ControlClient,
        wire::{Domain, GuardAnswer, NameAnswer, PermissionWord},
    },
    name::{Pattern, ServerName},
    store::{
        domain_table::{
            DEFAULT_TENANT, DomainStatus,
            checks::{self, Outcome},
        },
        instant::Micros,
    },
    telemetry::{error_chain, metrics::Label as _},
    verification::leave_out_caa_of_own,
};

/// The checks of `name`.
pub(super) fn checks(config: &Arc<Config>, name: &ServerName) -> Vec<Check> {
    let of = || (Arc::clone(config), name.clone());
    let mut checks = vec![
        remote("entry", entry(of())),
        remote("permission", permission(of())),
        remote("certificate", certificate(of())),
    ];
    if config.verification.edge_names.is_empty() {
        checks.push(remote(format!("dns {name}"), super::network::resolve(name.to_string())));
    } else {
        checks.push(remote("dns", leads_here(of())));
        checks.push(remote("https", https(of())));
    }
    checks
}

async fn entry((config, name): (Arc<Config>, ServerName)) -> Vec<Finding> {
    vec![match find(&config, &name).await {
        Ok(domain) => {
            let is_checked = !config.verification.edge_names.is_empty();
            judge_entry(&name, &domain, config.domains.default_target.is_some(), is_checked)
        }
        Err(error) => {
            let remedy = format!("`gatehouse domain add {name}` serves it");
            Finding::error("entry", error, remedy).at_most(Severity::Note, config.domains.ask.is_some())
        }
    }]
}

async fn find(config: &Config, name: &ServerName) -> Result<Domain, String> {
    let access = Access::open(config).await.map_err(|error| error_chain(&error))?;
    access.domain(&Pattern::Exact(name.clone())).await.map_err(|error| error_chain(&error))
}

fn judge_entry(name: &ServerName, domain: &Domain, has_default: bool, is_checked: bool) -> Finding {
    let target = domain.target.as_ref().map_or_else(|| "the default target".to_owned(), ToString::to_string);
    let Domain { domain: entry, status, tenant, source, .. } = domain;
    let pair = match domain.settings.www {
        _ if !domain.has_counterpart(name) => String::new(),
        Some(WwwPair::Redirect) => format!("`{name}` is the other name of its pair, and led to it: "),
        _ => format!("`{name}` is the other name of its pair, and served alike: "),
    };
    let found =
        format!("{pair}`{entry}` is {}, of tenant `{tenant}`, for {target} ({source})", status.as_str());
    match status {
        DomainStatus::Active if domain.target.is_none() && !has_default => Finding::error(
            "entry",
            found,
            "set domains.default_target, or give the entry a target with `--replace`",
        ),
        DomainStatus::Active => Finding::ok("entry", found),
        DomainStatus::Failing | DomainStatus::Pending if !is_checked => {
            let found = format!("{found}, and nothing checks it: verification.edge_names is empty");
            Finding::error("entry", found, UNCHECKED).at_most(Severity::Warning, status.is_served())
        }
        DomainStatus::Failing => {
            Finding::warning("entry", found, "see the checks that failed; it is still served")
        }
        DomainStatus::Pending => Finding::error(
            "entry",
            found,
            format!("set the records that `gatehouse domain records {entry}` shows"),
        ),
        DomainStatus::Suspended | DomainStatus::Removed => {
            Finding::error("entry", found, format!("`gatehouse domain resume {entry}` serves it again"))
        }
    }
}

async fn permission((config, name): (Arc<Config>, ServerName)) -> Vec<Finding> {
    let client = match ControlClient::find(&config.control_socket()).await {
        Ok(Some(client)) => client,
        Ok(None) => {
            let remedy = "run this on an instance, as its user";
            return vec![Finding::note("permission", "no instance runs here that could be asked", remedy)];
        }
        Err(error) => {
            return vec![Finding::error(
                "permission",
                error_chain(&error),
                "run this as the instance's user",
            )];
        }
    };
    match client.name(&name).await {
        Ok(answer) => judge_answer(&answer).into(),
        Err(error) => vec![Finding::error("permission", error_chain(&error), "read the instance's log")],
    }
}

fn judge_answer(answer: &NameAnswer) -> [Finding; 2] {
    let permission = match answer.permission {
        PermissionWord::Allowed => Finding::ok("permission", format!("allowed by {}", answer.why)),
        PermissionWord::Denied => Finding::error(
            "permission",
            format!("denied: {}", answer.why),
            "see the line `entry`; a change is known here within seconds",
        ),
        PermissionWord::Unknown => {
            let remedy = "`gatehouse status` says which source does not answer; a certificate that is there is still presented";
            Finding::warning("permission", format!("unknown: {}", answer.why), remedy)
        }
    };
    let is_allowed = answer.permission == PermissionWord::Allowed;
    let guard = match (answer.guard, is_allowed) {
        (GuardAnswer::Off, _) => Finding::ok("guard", "off: each hello reaches the handshake"),
        (GuardAnswer::Listed, _) => Finding::ok("guard", "the kernel has the name and lets it through"),
        (GuardAnswer::Behind, _) => Finding::warning(
            "guard",
            "the kernel has not got the latest names yet",
            "run this again; if it stays so, see `gatehouse status`",
        ),
        (GuardAnswer::Unlisted, false) => {
            Finding::ok("guard", "the kernel does not have the name, as it should be")
        }
        (GuardAnswer::Unlisted, true) => {
            let found = "the kernel does not have the name: its hellos count as unknown, and a strict guard rejects them";
            Finding::warning(
                "guard",
                found,
                "names of the ask endpoint get there after their first hello; put it into the table for more",
            )
        }
    };
    [permission, guard]
}

async fn certificate((config, name): (Arc<Config>, ServerName)) -> Vec<Finding> {
    let found = match Access::open(&config).await {
        Ok(access) => access.certificate(&Pattern::Exact(name)).await,
        Err(error) => Err(error),
    };
    vec![match found {
        Ok(summary) => judge_certificate(&summary, Micros::of(clock::wall())),
        Err(error) => {
            Finding::warning("certificate", error_chain(&error), "it is ordered in the first handshake")
        }
    }]
}

fn judge_certificate(summary: &Summary, now: Micros) -> Finding {
    let problem = if summary.problem.is_empty() {
        String::new()
    } else {
        format!("; {} orders failed in a row, the last one: {}", summary.failures, summary.problem)
    };
    let remedy =
        format!("correct what the CA says, then `gatehouse certificate retry {}`", summary.server_name);
    match &summary.certificate {
        Some(certificate) if certificate.not_after > now => {
            let left = certificate.not_after.since(now).as_secs() / SECONDS_A_DAY;
            let found = format!("by {}, valid for {left} more days{problem}", certificate.issuer);
            if problem.is_empty() {
                Finding::ok("certificate", found)
            } else {
                Finding::warning("certificate", found, remedy)
            }
        }
        Some(certificate) => {
            Finding::error("certificate", format!("ended at {}{problem}", certificate.not_after), remedy)
        }
        None if problem.is_empty() => {
            Finding::ok("certificate", "none yet; it is ordered in the first handshake")
        }
        None => Finding::error("certificate", format!("none{problem}"), remedy),
    }
}

async fn leads_here((config, name): (Arc<Config>, ServerName)) -> Vec<Finding> {
    let looker = match domain_checks::looker(&config) {
        Ok(looker) => looker,
        Err(error) => {
            return vec![Finding::error("dns", error_chain(&error), "correct verification.resolvers")];
        }
    };
    let (domain, identities) = tokio::join!(find(&config, &name), looker.identities());
    let domain = domain.ok();
    let tenant = domain.as_ref().map_or(DEFAULT_TENANT, |domain| domain.tenant.as_str());
    let pattern = Pattern::Exact(name);
    let mut found = looker.look_at_dns(&pattern, tenant, identities.as_deref()).await;
    let own = async { Access::open(&config).await?.own_certificates().await };
    // Where they cannot be listed, what the records say stays.
    let _ = Box::pin(leave_out_caa_of_own(&mut found, &pattern, own)).await;
    told_of(found, &pattern, domain.map(|domain| domain.domain).as_ref())
}

/// What a look at `name` found, where `entry` speaks for it: it is the entry's own name that an ownership record proves.
fn told_of(found: Vec<checks::Finding>, name: &Pattern, entry: Option<&Pattern>) -> Vec<Finding> {
    let is_told =
        |finding: &checks::Finding| finding.check != checks::Check::Ownership || entry == Some(name);
    found.into_iter().filter(is_told).map(of_look).collect()
}

async fn https((config, name): (Arc<Config>, ServerName)) -> Vec<Finding> {
    let Ok(looker) = domain_checks::looker(&config) else { return Vec::new() };
    let finding = looker.look_at_https(&Pattern::Exact(name)).await;
    finding.map(of_look).into_iter().collect()
}

/// What a look found, as a line of `doctor`.
fn of_look(finding: checks::Finding) -> Finding {
    let what = finding.check.as_str();
    let remedy = finding.remedy.unwrap_or_else(|| NO_REMEDY.to_owned());
    match finding.outcome {
        Outcome::Passed => Finding::ok(what, finding.detail),
        Outcome::Failed => Finding::error(what, finding.detail, remedy),
        Outcome::Unknown => Finding::warning(what, finding.detail, remedy),
    }
}

const UNCHECKED: &str =
    "set verification.edge_names, with verification.required = \"none\", until it is active";
const NO_REMEDY: &str = "see the other lines, and run this again";
const SECONDS_A_DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DomainSettings;

    fn domain(status: DomainStatus) -> Domain {
        Domain {
            domain: Pattern::parse("a.example").unwrap(),
            target: None,
            settings: DomainSettings::default(),
            status,
            source: "table".to_owned(),
            tenant: "t".to_owned(),
            changed_at: None,
            checks: None,
        }
    }

    fn answer(permission: PermissionWord, guard: GuardAnswer) -> [Severity; 2] {
        let name = ServerName::parse("a.example").unwrap();
        judge_answer(&NameAnswer { server_name: name, permission, why: "table".to_owned(), guard })
            .map(|finding| finding.severity)
    }

    #[test]
    fn what_the_kernel_does_is_judged_by_what_is_allowed() {
        use Severity::{Error, Ok, Warning};
        for (permission, guard, expected) in [
            (PermissionWord::Allowed, GuardAnswer::Off, [Ok, Ok]),
            (PermissionWord::Allowed, GuardAnswer::Listed, [Ok, Ok]),
            (PermissionWord::Allowed, GuardAnswer::Unlisted, [Ok, Warning]),
            (PermissionWord::Allowed, GuardAnswer::Behind, [Ok, Warning]),
            (PermissionWord::Denied, GuardAnswer::Unlisted, [Error, Ok]),
            (PermissionWord::Unknown, GuardAnswer::Unlisted, [Warning, Ok]),
        ] {
            assert_eq!(answer(permission, guard), expected, "{permission:?} {guard:?}");
        }
    }

    #[test]
    fn the_other_name_of_a_pair_is_told_whose_it_is() {
        for (www, asked, told) in [
            (
                WwwPair::Redirect,
                "www.a.example",
                Some("`www.a.example` is the other name of its pair, and led to it: `a.example` is active"),
            ),
            (
                WwwPair::Serve,
                "www.a.example",
                Some("`www.a.example` is the other name of its pair, and served alike: `a.example`"),
            ),
            (WwwPair::Serve, "a.example", None),
        ] {
            let settings = DomainSettings { www: Some(www), ..DomainSettings::default() };
            let domain = Domain { settings, ..domain(DomainStatus::Active) };
            let found = judge_entry(&ServerName::parse(asked).unwrap(), &domain, true, true).found;
            assert!(found.starts_with(told.unwrap_or("`a.example` is active")), "{asked} {www}: {found}");
        }
    }

    #[test]
    fn an_ownership_record_is_asked_for_at_an_entrys_own_name_alone() {
        let found = |check| checks::Finding {
            check,
            outcome: Outcome::Failed,
            reason: checks::Reason::NoRecord,
            detail: "there is none".to_owned(),
            remedy: None,
        };
        let name = Pattern::parse("www.a.example").unwrap();
        for (entry, expected) in
            [(Some("www.a.example"), 2), (Some("*.a.example"), 1), (Some("a.example"), 1), (None, 1)]
        {
            let pattern = entry.map(|entry| Pattern::parse(entry).unwrap());
            let found = vec![found(checks::Check::Dns), found(checks::Check::Ownership)];
            assert_eq!(told_of(found, &name, pattern.as_ref()).len(), expected, "{entry:?}");
        }
    }

    #[test]
    fn an_entry_fails_when_it_is_not_served() {
        for (status, has_default, expected) in [
            (DomainStatus::Active, true, Severity::Ok),
            (DomainStatus::Active, false, Severity::Error),
            (DomainStatus::Failing, true, Severity::Warning),
            (DomainStatus::Pending, true, Severity::Error),
            (DomainStatus::Suspended, true, Severity::Error),
        ] {
            let name = ServerName::parse("a.example").unwrap();
            for is_checked in [true, false] {
                let found = judge_entry(&name, &domain(status), has_default, is_checked);
                assert_eq!(found.severity, expected, "{status:?}");
                assert_eq!(found.remedy.is_none(), expected == Severity::Ok, "{status:?}");
                let stays = !is_checked && matches!(status, DomainStatus::Failing | DomainStatus::Pending);
                assert_eq!(found.remedy.is_some_and(|remedy| remedy == UNCHECKED), stays, "{status:?}");
            }
        }
    }
}
