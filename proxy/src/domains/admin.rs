//! Administration of the table's entries: what a request changes, or why it is refused, decided from values only.
//! Not here: who asks (`control`, `cli`), how an entry is kept (`store`).
//! Invariants: an entry that says something else is never replaced silently (`what_is_there_is_not_replaced_silently`); nothing is
//! added or resumed that cannot be served here (`what_cannot_be_served_is_refused_with_its_remedy`); each change says what it changed
//! from what to what (`each_change_is_told_from_what_to_what`).

mod authority;
mod entry;
mod event;
mod patch;
mod quota;
mod refusal;
mod report;
mod request;
mod servable;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

pub use authority::{Authority, AuthorityRefusal, ExpectedVersion, Others, Overlap, Requester};
pub use event::ChangeCause;
pub use patch::{Patch, PatchField};
pub use quota::{OwnerChange, Quotas};
pub use refusal::{Explained, Refusal};
pub use report::{Action, Change, Report};
pub use request::{Existing, Proof, Request, Wanted};
pub use servable::Warning;

#[cfg(test)]
pub(crate) use entry::added_for_tests;
pub(in crate::domains) use entry::{added, removed, with_rates_of, with_settings, with_status};

use crate::{
    config::{CertificatesConfig, Config, DomainSettings, Maintenance, RequiredProof, StaticDomain},
    name::Pattern,
    store::{
        domain_table::{DomainRecord, DomainStatus, Tenant},
        instant::Micros,
    },
    target::{EndpointAddress, Target, TlsName},
};

/// Whether an entry may lead to an address: whoever writes it, or the records of a name, may be untrusted.
pub type Permits = Arc<dyn Fn(&EndpointAddress) -> bool + Send + Sync>;

/// What decides beside the table: the settings in force.
#[derive(Clone)]
pub struct Rules {
    /// Where requests go whose entry names no target.
    pub default_target: Option<Target>,
    /// Addresses of this proxy.
    pub listeners: Vec<SocketAddr>,
    /// Who issues certificates.
    pub issuance: Issuance,
    /// Whether an entry may lead to an address, or to a socket of this machine.
    pub permits: Permits,
    /// Settings for TLS that targets of entries may use.
    pub entry_tls: BTreeSet<TlsName>,
    /// Names that are the operator's own, and in no entry of the table.
    pub reserved: Vec<Pattern>,
    /// How long it is kept who changed what.
    pub audit_kept: Duration,
    /// What a new entry waits for.
    pub required: RequiredProof,
    /// How many entries tenants may have.
    pub quotas: Quotas,
}

/// How an entry stands by what was found out about its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What it waited for is there, or nothing fails any more.
    Verified,
    /// Something fails; it is still served.
    Failing,
    /// Its name has led elsewhere for long.
    Moved,
    /// What it waits for has not come for long.
    Abandoned,
}

/// Where names come from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Entries of the settings.
    pub listed: &'a [StaticDomain],
    /// Whether the table is read.
    pub table: Table,
    /// Which of the names that a tenant asks for the ask endpoint serves.
    pub asked: ServedByAsk,
}

/// Whether the ask endpoint serves names, or may: it does not answer, or was asked for a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedByAsk {
    /// The entry's own.
    pub own: bool,
    /// The other one of its pair.
    pub counterpart: bool,
}

/// Whether names of the table are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// They are.
    Read,
    /// `domains.table` is `false`.
    Unread,
}

/// In front of the name of an entry, where its ownership record is. RFC 8552: a label with an underscore is no host's.
pub const OWNERSHIP_LABEL: &str = "_gatehouse";
/// In front of what a wildcard covers, the name that is asked for where it leads.
pub const PROBE_LABEL: &str = "gatehouse-check";

/// Who issues certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuance {
    /// The internal issuer, which takes any name.
    Internal,
    /// ACME issuers.
    Acme,
}

/// A request decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The entry as it is to be; for [`Action::Keep`] as it is.
    pub record: DomainRecord,
    /// What to say of it.
    pub report: Report,
}

impl Decision {
    /// Whether the entry has to be written.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.report.action != Action::Keep
    }
}

impl Rules {
    /// The operator's own names by the settings: those that are reserved, those of the edge, and the API's.
    #[must_use]
    pub fn reserved(config: &Config) -> Vec<Pattern> {
        let edge = config.verification.edge_names.iter().cloned().map(Pattern::Exact);
        let api = config.api.name.iter().cloned().map(Pattern::Exact);
        config.domains.reserved.iter().cloned().chain(edge).chain(api).collect()
    }
}

impl Issuance {
    /// Who issues by `config`.
    #[must_use]
    pub fn of(config: &CertificatesConfig) -> Self {
        if config.issuers.is_empty() { Self::Internal } else { Self::Acme }
    }
}

impl<'a> Sources<'a> {
    /// Where no ask endpoint has to be asked.
    #[must_use]
    pub const fn new(listed: &'a [StaticDomain], table: Table) -> Self {
        Self { listed, table, asked: ServedByAsk { own: false, counterpart: false } }
    }

    /// Whether the table decides on `pattern`.
    pub fn leave_to_the_table(self, pattern: &Pattern) -> Result<(), Refusal> {
        if self.listed.iter().any(|entry| entry.name == *pattern) {
            return Err(Refusal::Static(pattern.clone()));
        }
        match self.table {
            Table::Read => Ok(()),
            Table::Unread => Err(Refusal::TableOff),
        }
    }
}

/// What `request` makes of the entry that is `there`, beside others' entries.
pub fn decide(
    request: &Request,
    there: Option<&DomainRecord>,
    others: &Others,
    sources: Sources<'_>,
    rules: &Rules,
    now: Micros,
) -> Result<Decision, Refusal> {
    let pattern = &request.pattern;
    sources.leave_to_the_table(pattern)?;
    // A tombstone is as nothing, save for its version.
    let entry = there.filter(|there| there.status != DomainStatus::Removed);
    authority::check(request, entry)?;
    match (&request.wanted, entry) {
        (Wanted::Present { target, settings, tenant, existing, proof }, entry) => {
            authority::check_free(request, entry, sources, rules, others.overlap)?;
            let tenant = request.by.tenant().or(tenant.as_ref()).map(Tenant::as_str);
            let mut new = added(there, pattern, target.as_ref(), tenant, now);
            if request.by.tenant().is_some() {
                new = with_rates_of(there, new);
            }
            let new = with_settings(new, *settings);
            servable::check_pair(&new)?;
            let shared = authority::check_pair(request, entry, &new, others, (sources, rules))?;
            let mut warnings = servable::check(pattern, target.as_ref(), new.settings, rules)?;
            servable::check_for(&request.by, pattern, &warnings)?;
            if others.overlap.is_with_another() || shared.is_some() {
                warnings.push(Warning::Overlap);
            }
            let is_served = entry.is_none() && authority::is_served_by_another(&new, others, rules);
            let is_waived = *proof == Proof::Waived || is_served;
            let required = if is_waived { RequiredProof::None } else { rules.required };
            let status = status_of(entry, &new, required);
            let is_unproven = !is_waived && entry.is_some_and(|entry| entry::stays_unproven(entry, status));
            let new = DomainRecord { status, is_unproven, ..new };
            servable::check_provable(&new, required)?;
            let warnings = with_standing(warnings, &new);
            match entry {
                None => Ok(Decision { report: Report::of(Action::Add, None, &new, &warnings), record: new }),
                Some(entry) => present(entry, new, *existing, required, warnings),
            }
        }
        (_, None) => Err(Refusal::Absent(pattern.clone())),
        (Wanted::Patched(wanted), Some(entry)) => {
            let mut decision = patch::patch(entry, wanted, rules, now)?;
            let new = &decision.record;
            servable::check_targets(&request.by, new)?;
            if decision.is_change() {
                servable::check_pair(new)?;
                let shared = authority::check_pair(request, Some(entry), new, others, (sources, rules))?;
                decision.report.warnings.extend(shared.map(|warning| warning.to_string()));
            }
            Ok(decision)
        }
        (Wanted::Absent, Some(entry)) => Ok(removal(entry, now)),
        (Wanted::Suspended, Some(entry)) => Ok(match entry.status {
            DomainStatus::Suspended => keep(entry, &[]),
            DomainStatus::Pending | DomainStatus::Active | DomainStatus::Failing | DomainStatus::Removed => {
                changed_status(Action::Suspend, entry, DomainStatus::Suspended, &[], now)
            }
        }),
        (Wanted::Resumed, Some(entry)) => resume(entry, rules, now),
        (Wanted::Maintained(maintenance), Some(entry)) => Ok(maintain(entry, *maintenance, now)),
    }
}

/// What `standing` makes of `entry`; [`Action::Keep`] where it is no longer in the state that was looked at.
#[must_use]
pub fn follow_checks(entry: &DomainRecord, standing: Standing, now: Micros) -> Decision {
    use DomainStatus::{Active, Failing, Pending};
    let changed = |status| changed_status(Action::Replace, entry, status, &[], now);
    match (entry.status, standing) {
        (Pending | Failing, Standing::Verified) => changed(Active),
        (Active, Standing::Failing) => changed(Failing),
        (Failing, Standing::Moved) | (Pending, Standing::Abandoned) => removal(entry, now),
        (Active | Failing | Pending | DomainStatus::Suspended | DomainStatus::Removed, _) => keep(entry, &[]),
    }
}

/// The status of an entry that is added as `new` where `entry` may be. A suspension is ended by nothing but its own command; an entry that
/// was verified for one tenant is not for another, where ownership is what counts; and what checks find wrong is no better for being added
/// once more.
fn status_of(entry: Option<&DomainRecord>, new: &DomainRecord, required: RequiredProof) -> DomainStatus {
    let Some(entry) = entry else {
        return if required == RequiredProof::None { DomainStatus::Active } else { DomainStatus::Pending };
    };
    match (entry.status, required) {
        (DomainStatus::Suspended, _) => DomainStatus::Suspended,
        (_, RequiredProof::Txt) if entry.tenant != new.tenant => DomainStatus::Pending,
        (DomainStatus::Failing, _) => DomainStatus::Failing,
        (_, RequiredProof::None) => DomainStatus::Active,
        (status, RequiredProof::Dns | RequiredProof::Txt) => status,
    }
}

/// An addition where there is an entry.
fn present(
    entry: &DomainRecord,
    new: DomainRecord,
    existing: Existing,
    required: RequiredProof,
    mut warnings: Vec<Warning>,
) -> Result<Decision, Refusal> {
    let status = new.status;
    let says = |record: &DomainRecord| (record.target.clone(), record.settings, record.tenant.clone());
    let differs = says(entry) != says(&new);
    if differs && existing == Existing::Keep {
        return Err(Refusal::Exists { there: Box::new(entry.clone()), wanted: Box::new(new) });
    }
    if status == DomainStatus::Suspended {
        // Its resumption would serve another tenant that has proved nothing.
        let is_unproven = required == RequiredProof::Txt && entry.tenant != new.tenant;
        if !differs || is_unproven {
            return Err(Refusal::Suspended(entry.pattern.clone()));
        }
        warnings.push(Warning::Suspended);
    }
    if !differs && entry.status == status {
        return Ok(keep(entry, &warnings));
    }
    Ok(Decision { report: Report::of(Action::Replace, Some(entry), &new, &warnings), record: new })
}

fn resume(entry: &DomainRecord, rules: &Rules, now: Micros) -> Result<Decision, Refusal> {
    let warnings = servable::check(&entry.pattern, entry.target.as_ref(), entry.settings, rules)?;
    match entry.status {
        DomainStatus::Suspended => {
            // What was never verified goes on waiting.
            let waits = entry.is_unproven && rules.required != RequiredProof::None;
            let status = if waits { DomainStatus::Pending } else { DomainStatus::Active };
            let new = with_status(entry, status, now);
            // The operator alone resumes: nobody else waits for longer by it.
            let new = DomainRecord { created_at: if waits { new.changed_at } else { new.created_at }, ..new };
            let report = Report::of(Action::Resume, Some(entry), &new, &with_standing(warnings, &new));
            Ok(Decision { report, record: new })
        }
        DomainStatus::Active | DomainStatus::Failing => Ok(keep(entry, &with_standing(warnings, entry))),
        DomainStatus::Pending | DomainStatus::Removed => Err(Refusal::Pending(entry.pattern.clone())),
    }
}

fn maintain(entry: &DomainRecord, maintenance: Maintenance, now: Micros) -> Decision {
    if entry.settings.maintenance.unwrap_or(Maintenance::Off) == maintenance {
        return keep(entry, &with_standing(Vec::new(), entry));
    }
    let settings = DomainSettings { maintenance: Some(maintenance), ..DomainSettings::default() };
    let new = with_settings(with_status(entry, entry.status, now), settings);
    let warnings = with_standing(Vec::new(), &new);
    Decision { report: Report::of(Action::Replace, Some(entry), &new, &warnings), record: new }
}

fn with_standing(mut warnings: Vec<Warning>, entry: &DomainRecord) -> Vec<Warning> {
    if entry.status == DomainStatus::Pending {
        warnings.push(Warning::Pending);
    }
    if entry.settings.maintenance == Some(Maintenance::On) {
        warnings.push(Warning::Maintenance);
    }
    warnings
}

fn changed_status(
    action: Action,
    entry: &DomainRecord,
    status: DomainStatus,
    warnings: &[Warning],
    now: Micros,
) -> Decision {
    let new = with_status(entry, status, now);
    Decision { report: Report::of(action, Some(entry), &new, warnings), record: new }
}

fn removal(entry: &DomainRecord, now: Micros) -> Decision {
    let new = removed(entry, now);
    Decision { report: Report::of(Action::Remove, Some(entry), &new, &[]), record: new }
}

fn keep(entry: &DomainRecord, warnings: &[Warning]) -> Decision {
    Decision { report: Report::of(Action::Keep, Some(entry), entry, warnings), record: entry.clone() }
}
