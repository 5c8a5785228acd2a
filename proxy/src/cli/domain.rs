//! `gatehouse domain`.

use std::fmt::Write;

use crate::{
    config::Config,
    control::wire::{Changed, Domain, Page, Reach, Reindexed},
};

use super::{
    access::Access,
    arguments::{DomainCommand, Form},
    columns::Columns,
    error::CommandError,
    tell,
};

/// Asks, and writes the answer.
pub(super) async fn domain(config: &Config, command: &DomainCommand) -> Result<(), CommandError> {
    let access = Access::open(config).await?;
    match command {
        DomainCommand::Add { name, target, form } => {
            tell(*form, &access.add(name, target.clone()).await?, |changed| sentence("is served", changed))
        }
        DomainCommand::Remove { name, form } => {
            tell(*form, &access.remove(name).await?, |changed| sentence("is served no longer", changed))
        }
        DomainCommand::List { page, form } => {
            tell(*form, &access.domains(page.after.as_ref(), page.limit).await?, listed)
        }
        DomainCommand::Show { name, form } => tell(*form, &access.domain(name).await?, shown),
        DomainCommand::Reindex(form) => reindexed(*form, &access.reindex().await?),
    }
}

fn sentence(what: &str, changed: &Changed) -> String {
    let name = &changed.domain;
    match changed.reach {
        Reach::Guard => format!("{name} {what}: store, snapshot and guard hold it\n"),
        Reach::Snapshot => format!("{name} {what}: store and snapshot hold it; the guard is off\n"),
        Reach::GuardLate => {
            format!(
                "{name} {what}: store and snapshot hold it; the guard has not confirmed it yet, see `gatehouse status`\n"
            )
        }
        Reach::Table => format!("{name}: the table is changed; instances elsewhere follow within seconds\n"),
    }
}

fn listed(page: &Page<Domain>) -> String {
    let mut columns = Columns::new(["DOMAIN", "TARGET", "STATUS", "SOURCE", "CHANGED"]);
    for domain in &page.items {
        columns.row([
            domain.domain.to_string(),
            domain.target.as_ref().map_or_else(|| "(default)".to_owned(), ToString::to_string),
            domain.status.clone(),
            domain.source.clone(),
            domain.changed_at.clone().unwrap_or_default(),
        ]);
    }
    let more = page.next.as_ref().map_or_else(String::new, |next| format!("more: --after '{next}'\n"));
    format!("{}{more}", columns.text())
}

fn shown(domain: &Domain) -> String {
    let target = domain.target.as_ref().map_or_else(|| "(default)".to_owned(), ToString::to_string);
    let changed = domain.changed_at.as_deref().unwrap_or("-");
    format!(
        "domain   {}\ntarget   {target}\nstatus   {}\nsource   {}\ntenant   {}\nchanged  {changed}\n",
        domain.domain, domain.status, domain.source, domain.tenant
    )
}

fn reindexed(form: Form, done: &Reindexed) -> Result<(), CommandError> {
    tell(form, done, |done| {
        let mut text = format!("{} repaired\n", done.repaired);
        for fault in &done.misshapen {
            let _ = writeln!(text, "left as it is: {fault}");
        }
        text
    })
}
