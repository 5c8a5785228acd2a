//! `gatehouse domain records` and `gatehouse domain check`: what the owner of a name has to set, and whether it is set.

use std::{fmt::Write, sync::Arc};

use serde::Serialize;

use super::{access::Access, arguments::Form, columns::Columns, error::CommandError, print};
use crate::{
    config::{Config, DomainSettings},
    control::wire::Domain,
    forward::AddressPolicy,
    name::Pattern,
    store::domain_table::{
        DEFAULT_TENANT, DomainStatus, Tenant,
        checks::{Checks, Finding, Outcome},
    },
    verification::{LookedAt, Looker, RecordToSet, leave_out_caa_of_own},
};

/// What was found just now.
#[derive(Debug, Serialize)]
struct Found {
    domain: Pattern,
    status: DomainStatus,
    findings: Vec<Finding>,
}

/// Shows the records to set.
pub(super) async fn records(
    config: &Config,
    name: &Pattern,
    tenant: Option<&Tenant>,
    form: Form,
) -> Result<(), CommandError> {
    let looker = looker(config)?;
    let found = own_entry(config, name).await;
    let (name, settings) =
        found.as_ref().map_or((name, DomainSettings::default()), |found| (&found.domain, found.settings));
    let tenant = match (tenant, &found) {
        (Some(tenant), _) => tenant.as_str(),
        (None, Some(found)) => &found.tenant,
        (None, None) => DEFAULT_TENANT,
    };
    print(form, &looker.records(name, settings, tenant).await, |records| listed(records))
}

/// Looks at a name.
pub(super) async fn check(config: &Config, name: &Pattern, form: Form) -> Result<(), CommandError> {
    let looker = looker(config)?;
    let access = Access::open(config).await?;
    let domain = access.domain(name).await?;
    let identities = looker.identities().await;
    let Domain { domain: pattern, settings, tenant, status, .. } = &domain;
    let entry = LookedAt { pattern, settings: *settings, tenant, status: *status };
    let mut findings = looker.look(entry, identities.as_deref()).await;
    leave_out_caa_of_own(&mut findings, pattern, access.own_certificates()).await?;
    let failed = findings.iter().filter(|finding| finding.outcome == Outcome::Failed).count();
    print(form, &Found { domain: domain.domain, status: domain.status, findings }, |found| {
        format!("{} is {}\n{}", found.domain, found.status.as_str(), lines(&found.findings))
    })?;
    if failed == 0 { Ok(()) } else { Err(CommandError::NameUnwell { failed }) }
}

/// What the last checks found.
pub(super) fn shown(checks: &Checks) -> String {
    format!("checked  {}\n{}", checks.checked_at, lines(&checks.findings))
}

/// The entry of `name`, or that of its pair; none, where it is not there or cannot be asked for.
async fn own_entry(config: &Config, name: &Pattern) -> Option<Domain> {
    let found = match Access::open(config).await {
        Ok(access) => access.domain(name).await.ok(),
        Err(_) => None,
    };
    found.filter(|found| found.domain == *name || found.has_counterpart(name.name()))
}

pub(super) fn looker(config: &Config) -> Result<Looker, CommandError> {
    // As an instance with these settings would decide.
    let permits = Arc::new(AddressPolicy::of(&config.upstream)).entry_permits();
    Looker::new(config, config.listen.public_port(), permits)?.ok_or(CommandError::NoEdgeName)
}

fn listed(records: &[RecordToSet]) -> String {
    let mut columns = Columns::new(["NAME", "TYPE", "VALUE"]);
    for record in records {
        columns.row([record.name.clone(), record.kind.to_owned(), record.value.clone()]);
    }
    columns.text()
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        use crate::telemetry::metrics::Label as _;
        let _ = writeln!(
            text,
            "{:<10} {:<8} {}",
            finding.check.as_str(),
            finding.outcome.as_str(),
            finding.detail
        );
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "{:<10} {:<8} {remedy}", "", "");
        }
        text
    })
}
