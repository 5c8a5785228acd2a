//! `gatehouse domain`.

use std::fmt::Write;

use crate::{
    config::Config,
    control::wire::{ChangeReach, Changed, Domain, EntryPage, ReindexReport},
};

use super::{
    access::Access,
    arguments::{DomainCommand, Form},
    columns::Columns,
    error::CommandError,
    print,
};

/// Asks, and writes the answer.
pub(super) async fn domain(config: &Config, command: &DomainCommand) -> Result<(), CommandError> {
    let access = Access::open(config).await?;
    match command {
        DomainCommand::Add { name, target, form } => {
            print(*form, &access.add(name, target.clone()).await?, |changed| sentence("is served", changed))
        }
        DomainCommand::Remove { name, form } => {
            print(*form, &access.remove(name).await?, |changed| sentence("is served no longer", changed))
        }
        DomainCommand::List { tenant, page, form } => {
            let part = access.domains(tenant.as_ref(), page.after.as_ref(), page.limit).await?;
            print(*form, &part, listed)
        }
        DomainCommand::Show { name, form } => print(*form, &access.domain(name).await?, shown),
        DomainCommand::Reindex(form) => reindexed(*form, &access.reindex().await?),
    }
}

fn sentence(what: &str, changed: &Changed) -> String {
    let name = &changed.domain;
    match changed.reach {
        ChangeReach::Guard => format!("{name} {what}: store, snapshot and guard hold it\n"),
        ChangeReach::Snapshot => format!("{name} {what}: store and snapshot hold it; the guard is off\n"),
        ChangeReach::GuardLate => {
            format!(
                "{name} {what}: store and snapshot hold it; the guard has not confirmed it yet, see `gatehouse status`\n"
            )
        }
        ChangeReach::Table => {
            format!("{name}: the table is changed; instances elsewhere follow within seconds\n")
        }
    }
}

fn listed(page: &EntryPage<Domain>) -> String {
    let mut columns = Columns::new(["DOMAIN", "TARGET", "STATUS", "SOURCE", "TENANT", "CHANGED"]);
    for domain in &page.items {
        columns.row([
            domain.domain.to_string(),
            domain.target.as_ref().map_or_else(|| "(default)".to_owned(), ToString::to_string),
            domain.status.clone(),
            domain.source.clone(),
            domain.tenant.clone(),
            domain.changed_at.clone().unwrap_or_default(),
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

fn shown(domain: &Domain) -> String {
    let target = domain.target.as_ref().map_or_else(|| "(default)".to_owned(), ToString::to_string);
    let changed = domain.changed_at.as_deref().unwrap_or("-");
    format!(
        "domain   {}\ntarget   {target}\nstatus   {}\nsource   {}\ntenant   {}\nchanged  {changed}\n",
        domain.domain, domain.status, domain.source, domain.tenant
    )
}

fn reindexed(form: Form, done: &ReindexReport) -> Result<(), CommandError> {
    print(form, done, |done| {
        let mut text = format!("{} repaired\n", done.repaired);
        for fault in &done.malformed {
            let _ = writeln!(text, "left as it is: {fault}");
        }
        text
    })
}
