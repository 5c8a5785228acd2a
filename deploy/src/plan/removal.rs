//! Stacks that go.

use super::{Plan, Refusal, Step, refusal};
use crate::{
    found::Found,
    stack::{Condition, Kind, StackKey},
    wanted::{Region, Wanted},
};

/// What shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The fleets in these regions.
    Regions(Vec<Region>),
    /// All fleets, the functions and the accelerator.
    All {
        /// The tables, too.
        with_data: bool,
        /// The stage's name, typed once more.
        confirmed: Option<String>,
    },
    /// Stacks whose creation failed, with what they left; nothing that ever worked.
    Failed {
        /// As above.
        confirmed: Option<String>,
    },
}

/// What has to be done, in the order in which stacks depend on each other; or everything that forbids it.
pub(crate) fn remove(wanted: &Wanted, found: &Found, removal: &Removal) -> Result<Plan, Vec<Refusal>> {
    let refused = refusal::of_removal(wanted, found, removal);
    if !refused.is_empty() {
        return Err(refused);
    }
    let is_chosen = |key: &&StackKey| match removal {
        Removal::Regions(regions) => regions.contains(&key.region),
        Removal::All { .. } => true,
        Removal::Failed { .. } => is_failed(found, key),
    };
    let is_of_regions = matches!(removal, Removal::Regions(_));
    let of = |kind| found.stacks.keys().filter(is_chosen).filter(move |key| key.kind == kind).cloned();
    let mut plan = Plan::default();
    // Instances leave the accelerator by its listener's group: fleets go first.
    let functions = of(Kind::Functions).filter(|_| !is_of_regions);
    plan.then(functions.chain(of(Kind::Fleet)).map(Step::Delete).collect());
    if !is_of_regions {
        let is_protected = |key: &StackKey| found.stack(key).is_some_and(|stack| stack.is_protected);
        plan.then(of(Kind::Edge).filter(is_protected).map(Step::Unprotect).collect());
        plan.then(of(Kind::Edge).map(Step::Delete).collect());
    }
    // Where functions over the domains table stay, their code does: an update of theirs that turns back needs it.
    let is_needed =
        |key: &StackKey| is_of_regions && found.stack(&StackKey::new(Kind::Functions, &key.region)).is_some();
    let buckets = || of(Kind::Artifacts).filter(move |key| !is_needed(key));
    let has_bucket = |key: &StackKey| found.output(key, "Bucket").is_some();
    plan.then(buckets().filter(has_bucket).map(Step::Empty).collect());
    plan.then(buckets().map(Step::Delete).collect());
    if let Removal::All { with_data: true, .. } | Removal::Failed { .. } = removal {
        for key in of(Kind::Domains) {
            data(&mut plan, found, &key);
        }
    }
    Ok(plan)
}

/// Whether the stack's creation failed.
pub(super) fn is_failed(found: &Found, key: &StackKey) -> bool {
    found.stack(key).is_some_and(|stack| stack.condition() == Condition::Undone)
}

/// The tables that the stack has made, and their key; those that were there before are somebody else's. The key stays with a table that
/// stays: one that was restored is encrypted by it, and could not be read from the moment its deletion is scheduled. The stack goes after them:
/// what is interrupted knows by it what is left.
fn data(plan: &mut Plan, found: &Found, domains: &StackKey) {
    let region = &domains.region;
    let tables = own_tables(found, domains).into_iter();
    plan.then(tables.map(|name| Step::DeleteTable { region: region.clone(), name }).collect());
    // What a creation that failed has made is younger than any table that was there before.
    let is_needed = !is_failed(found, domains) && has_other_tables(found, domains);
    let key = own(found, domains, ("ExistingKey", "Key")).filter(|_| !is_needed);
    plan.then(key.map(|key| Step::ScheduleKeyDeletion { region: region.clone(), key }).into_iter().collect());
    plan.then(vec![Step::Delete(domains.clone())]);
}

/// Names of the tables that the stack has made.
pub(super) fn own_tables(found: &Found, domains: &StackKey) -> Vec<String> {
    TABLES.into_iter().filter_map(|names| own(found, domains, names)).collect()
}

/// Whether the stack names a table that was there before.
fn has_other_tables(found: &Found, domains: &StackKey) -> bool {
    let parameter = |name: &str| found.stack(domains).and_then(|stack| stack.parameters.get(name));
    TABLES.into_iter().any(|(existing, _)| parameter(existing).is_some_and(|name| !name.is_empty()))
}

/// What the stack calls `name`, in template and outputs alike, unless the parameter `existing` says that it was there before. A stack whose
/// creation failed has no outputs, and its tables are retained all the same.
fn own(found: &Found, domains: &StackKey, (existing, name): (&str, &str)) -> Option<String> {
    let stack = found.stack(domains)?;
    let is_own = stack.parameters.get(existing).is_none_or(String::is_empty);
    let names = if is_failed(found, domains) { &stack.made } else { &stack.outputs };
    names.get(name).filter(|_| is_own).cloned()
}

/// Of each table: the parameter that names one that was there before, and what the template calls it.
const TABLES: [(&str, &str); 3] = [
    ("ExistingCertificatesTable", "CertificatesTable"),
    ("ExistingDomainsTable", "DomainsTable"),
    ("ExistingStateTable", "StateTable"),
];
