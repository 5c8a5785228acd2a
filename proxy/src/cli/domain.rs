//! `gatehouse domain`.

use std::fmt::Write;

use crate::{
    config::{Config, DomainSettings},
    control::{
        setup_links::NewLink,
        wire::{ChangeReach, Changed, Domain, EntryPage, ReindexReport},
    },
    domains::{
        admin::{Action, Existing, Proof, Report, Request, Wanted},
        entry_count::CountReport,
    },
    name::Pattern,
};

use super::{
    access::{Access, requester},
    arguments::{DomainCommand, Form},
    columns::Columns,
    domain_checks,
    domain_import::{self, Import},
    error::CommandError,
    print,
};

/// Asks, and writes the answer.
pub(super) async fn domain(config: &Config, command: &DomainCommand) -> Result<(), CommandError> {
    match command {
        DomainCommand::Add { name, target, settings, tenant, replace, verified, form } => {
            let existing = Existing::replaced(*replace);
            let proof = Proof::waived(*verified);
            let (target, settings, tenant) =
                (target.clone(), DomainSettings::from(*settings), tenant.clone());
            let wanted = Wanted::Present { target, settings, tenant, existing, proof };
            change(config, name, wanted, *form).await
        }
        DomainCommand::Remove { name, form } => change(config, name, Wanted::Absent, *form).await,
        DomainCommand::Suspend { name, form } => change(config, name, Wanted::Suspended, *form).await,
        DomainCommand::Resume { name, form } => change(config, name, Wanted::Resumed, *form).await,
        DomainCommand::Maintenance { name, maintenance, form } => {
            change(config, name, Wanted::Maintained(*maintenance), *form).await
        }
        DomainCommand::List { tenant, page, form } => {
            let access = Access::open(config).await?;
            let part = access.domains(tenant.as_ref(), page.after.as_ref(), page.limit).await?;
            print(*form, &part, listed)
        }
        DomainCommand::Show { name, form } => {
            let found = Access::open(config).await?.domain(name).await?;
            print(*form, &found, |found| shown(name, found))
        }
        DomainCommand::Import { file, dry_run, replace, verified, form } => {
            let existing = Existing::replaced(*replace);
            let proof = Proof::waived(*verified);
            let import = Import { file, existing, proof, is_dry_run: *dry_run };
            domain_import::import(config, &import, *form).await
        }
        DomainCommand::Records { name, tenant, form } => {
            domain_checks::records(config, name, tenant.as_ref(), *form).await
        }
        DomainCommand::Link { name, expires, form } => {
            let new = NewLink { lifetime_seconds: expires.map(|span| span.as_secs()) };
            let made = Access::open(config).await?.make_link(name, new).await?;
            print(*form, &made, |made| format!("{}\nIt ends at {}.\n", made.url, made.ends_at))
        }
        DomainCommand::Check { name, form } => domain_checks::check(config, name, *form).await,
        DomainCommand::Count { tenant, form } => {
            print(*form, &Access::open(config).await?.count(tenant).await?, counted)
        }
        DomainCommand::Reindex(form) => reindexed(*form, &Access::open(config).await?.reindex().await?),
    }
}

async fn change(config: &Config, name: &Pattern, wanted: Wanted, form: Form) -> Result<(), CommandError> {
    let access = Access::open_to_change(config, name).await?;
    let request = Request::new(name.clone(), wanted, requester());
    print(form, &access.administer(&request).await?, changed)
}

fn changed(changed: &Changed) -> String {
    let Changed { domain, report, reach } = changed;
    let mut text = format!("{domain}: {report}\n");
    let _ = writeln!(text, "{}", outcome(report, *reach));
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// Whether the name is served now, and by whom it is known.
fn outcome(report: &Report, reach: ChangeReach) -> String {
    let known = match reach {
        ChangeReach::Guard => "table, instance and guard have the change",
        ChangeReach::Snapshot => "table and instance have the change; the guard is off",
        ChangeReach::GuardLate => {
            "table and instance have the change; the guard has not confirmed it yet, see `gatehouse status`"
        }
        ChangeReach::Table if report.action == Action::Keep => return "the table is unchanged".to_owned(),
        ChangeReach::Table => {
            return "the table is changed; instances elsewhere follow within seconds".to_owned();
        }
    };
    match (report.is_active, report.action) {
        (true, Action::Add) => {
            format!("it is served, with a certificate from its first handshake on: {known}")
        }
        (true, _) => format!("it is served: {known}"),
        (false, _) => format!("it is not served: {known}"),
    }
}

fn listed(page: &EntryPage<Domain>) -> String {
    let mut columns = Columns::new(["DOMAIN", "TARGET", "STATUS", "SOURCE", "TENANT", "CHANGED", "SETTINGS"]);
    for domain in &page.items {
        columns.row([
            domain.domain.to_string(),
            domain.target.as_ref().map_or_else(|| "(default)".to_owned(), ToString::to_string),
            domain.status.as_str().to_owned(),
            domain.source.clone(),
            domain.tenant.clone(),
            domain.changed_at.clone().unwrap_or_default(),
            domain.settings.to_string(),
        ]);
    }
    let mut text = columns.text();
    for fault in &page.malformed {
        let _ = writeln!(text, "left out: {fault}");
    }
    if let Some(next) = &page.next {
        let _ = writeln!(text, "more: --after '{next}'");
    }
    text
}

fn shown(asked: &Pattern, domain: &Domain) -> String {
    let target = domain.target.as_ref().map_or_else(|| "(default)".to_owned(), ToString::to_string);
    let changed = domain.changed_at.as_deref().unwrap_or("-");
    let covers = if domain.domain == *asked { String::new() } else { format!(" (covers {asked})") };
    let settings = match domain.settings.to_string() {
        nothing if nothing.is_empty() => nothing,
        settings => format!("settings {settings}\n"),
    };
    let checks = domain.checks.as_ref().map(domain_checks::shown).unwrap_or_default();
    format!(
        "domain   {}{covers}\ntarget   {target}\n{settings}status   {}\nsource   {}\ntenant   {}\nchanged  {changed}\n{checks}",
        domain.domain,
        domain.status.as_str(),
        domain.source,
        domain.tenant
    )
}

fn counted(report: &CountReport) -> String {
    let CountReport { tenant, entries, before } = report;
    match before {
        Some(before) if before != entries => {
            format!("tenant {tenant} has {entries} entries; {before} were counted before\n")
        }
        _ => format!("tenant {tenant} has {entries} entries\n"),
    }
}

fn reindexed(form: Form, done: &ReindexReport) -> Result<(), CommandError> {
    print(form, done, |done| {
        let mut text = format!("{} repaired\n", done.repaired);
        for fault in &done.malformed {
            let _ = writeln!(text, "not changed: {fault}");
        }
        text
    })
}
