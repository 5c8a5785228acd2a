//! Who asks, and with whose entries they may work. A tenant learns nothing of what others have.

use super::{Explained, PatchField, Proof, Refusal, Request, Rules, Sources, Wanted, Warning};
use crate::{
    config::{RequiredProof, StaticDomain, WWW},
    name::Pattern,
    store::domain_table::{DomainRecord, DomainStatus, Tenant},
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// With whose entries they may work.
    pub authority: Authority,
    /// As audit and log name them: `uid 0`, `token 0123456789ab`.
    pub name: String,
}

/// With whose entries somebody may work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Everybody's, as an operator.
    Operator,
    /// One tenant's.
    Tenant(Tenant),
}

/// For which version of the entry a request was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Whichever is there.
    Any,
    /// One of these.
    OneOf(Vec<u64>),
}

/// Whether another entry shares names with the one that is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlap {
    /// None does, or none that decides anything.
    #[default]
    Nothing,
    /// A wildcard of another tenant covers it.
    UnderWildcard,
    /// It is a wildcard, and covers names of another tenant.
    OverNames,
    /// A wildcard of the same tenant covers it, which is suspended.
    UnderSuspended,
    /// A wildcard of the same tenant covers it, and serves it.
    UnderServed,
}

/// Entries that share names with the one that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// With the entry's own name.
    pub overlap: Overlap,
    /// That of the other name of its pair, whoever has it; tombstones apart.
    pub counterpart: Option<DomainRecord>,
    /// A wildcard that covers the other name, whoever has it; tombstones apart.
    pub over_counterpart: Option<DomainRecord>,
}

/// Why who asks may not have something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityRefusal {
    /// A single label, which no public CA issues for, of a tenant.
    SingleLabel(Pattern),
    /// It would lead to itself, of a tenant.
    TargetsItself(Pattern),
    /// It is the operator's own.
    Reserved(Pattern),
    /// Another tenant has it.
    Taken(Pattern),
    /// Another tenant has an entry that shares names with it.
    Overlap(Pattern),
    /// Another tenant's entry speaks for it as the other name of its pair.
    InPair(Pattern),
    /// Another tenant has the other name of its pair.
    CounterpartTaken(Pattern),
    /// A tenant asks for a pair whose other name its ownership record does not prove.
    CounterpartUnproven(Pattern),
    /// A tenant asks for another's entry.
    OtherTenant(Tenant),
    /// A tenant asks to be served without verification.
    Unverified(Pattern),
    /// A tenant asks for another rate of requests.
    RequestRate(Pattern),
    /// A tenant asks for a suspension or its end, for the removal of what is suspended, behind which it could be added anew, for a name
    /// below a wildcard that is suspended, or for the other name of a pair that is.
    Suspension(Pattern),
    /// The ask endpoint serves it, or may, and a tenant's entry would decide in its place.
    Asked(Pattern),
    /// It was changed since it was read.
    OtherVersion {
        /// Which.
        pattern: Pattern,
        /// As it is now.
        version: u64,
    },
}

impl Requester {
    /// An operator, by the name that audit and log give them.
    #[must_use]
    pub fn operator(name: impl Into<String>) -> Self {
        Self { authority: Authority::Operator, name: name.into() }
    }

    /// Whose a new entry is; absent, it is as was asked for.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        match &self.authority {
            Authority::Operator => None,
            Authority::Tenant(tenant) => Some(tenant),
        }
    }

    /// Whether an entry of `tenant` may be read and changed.
    #[must_use]
    pub fn may_work_with(&self, tenant: &str) -> bool {
        self.tenant().is_none_or(|own| own.as_str() == tenant)
    }
}

impl Overlap {
    /// Whether names are shared with another tenant.
    pub(super) fn is_with_another(self) -> bool {
        match self {
            Self::UnderWildcard | Self::OverNames => true,
            Self::Nothing | Self::UnderSuspended | Self::UnderServed => false,
        }
    }
}

impl ExpectedVersion {
    fn permits(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// Whether `request` may be made of the `entry` that is there.
pub(super) fn check(request: &Request, entry: Option<&DomainRecord>) -> Result<(), Refusal> {
    let pattern = &request.pattern;
    if let (Some(own), Wanted::Present { tenant: Some(wanted), .. }) = (request.by.tenant(), &request.wanted)
        && own != wanted
    {
        return Err(AuthorityRefusal::OtherTenant(wanted.clone()).into());
    }
    if request.by.tenant().is_some() && matches!(request.wanted, Wanted::Present { proof: Proof::Waived, .. })
    {
        return Err(AuthorityRefusal::Unverified(pattern.clone()).into());
    }
    if request.by.tenant().is_some() && sets_a_rate(&request.wanted) {
        return Err(AuthorityRefusal::RequestRate(pattern.clone()).into());
    }
    let Some(entry) = entry else { return Ok(()) };
    if !request.by.may_work_with(&entry.tenant) {
        return Err(match request.wanted {
            Wanted::Present { .. } => AuthorityRefusal::Taken(pattern.clone()).into(),
            // As if there were none.
            _ => Refusal::Absent(pattern.clone()),
        });
    }
    let concerns_suspension = match request.wanted {
        Wanted::Suspended | Wanted::Resumed => true,
        Wanted::Absent => entry.status == DomainStatus::Suspended,
        Wanted::Present { .. } | Wanted::Patched(_) | Wanted::Maintained(_) => false,
    };
    if concerns_suspension && request.by.tenant().is_some() {
        return Err(AuthorityRefusal::Suspension(pattern.clone()).into());
    }
    if request.expected.permits(entry.version) {
        return Ok(());
    }
    Err(AuthorityRefusal::OtherVersion { pattern: pattern.clone(), version: entry.version }.into())
}

fn sets_a_rate(wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Present { settings, .. } => {
            settings.request_rate.is_some() || settings.client_request_rate.is_some()
        }
        Wanted::Patched(patch) => {
            patch.request_rate != PatchField::Keep || patch.client_request_rate != PatchField::Keep
        }
        Wanted::Absent | Wanted::Suspended | Wanted::Resumed | Wanted::Maintained(_) => false,
    }
}

/// Whether the name is free for a new entry: neither reserved, nor shared with another tenant, nor served without one. `entry` is what is
/// there.
pub(super) fn check_free(
    request: &Request,
    entry: Option<&DomainRecord>,
    sources: Sources<'_>,
    rules: &Rules,
    overlap: Overlap,
) -> Result<(), Refusal> {
    let pattern = &request.pattern;
    if rules.reserved.iter().any(|reserved| share_names(reserved, pattern)) {
        return Err(AuthorityRefusal::Reserved(pattern.clone()).into());
    }
    if request.by.tenant().is_none() {
        return Ok(());
    }
    // A name of the settings stays the operator's, whatever its tenant is called.
    if sources.listed.iter().any(|entry| is_listed(entry, pattern)) {
        return Err(AuthorityRefusal::Reserved(pattern.clone()).into());
    }
    if entry.is_none() && sources.asked.own {
        return Err(AuthorityRefusal::Asked(pattern.clone()).into());
    }
    match overlap {
        Overlap::Nothing | Overlap::UnderServed => Ok(()),
        Overlap::UnderSuspended => Err(AuthorityRefusal::Suspension(pattern.clone()).into()),
        Overlap::UnderWildcard | Overlap::OverNames => Err(AuthorityRefusal::Overlap(pattern.clone()).into()),
    }
}

/// Whether `new`, in the place of `entry`, may speak for both names of a pair, and whether another's entry speaks for its own; what is to be
/// warned of. What an entry had before was decided before.
pub(super) fn check_pair(
    request: &Request,
    entry: Option<&DomainRecord>,
    new: &DomainRecord,
    others: &Others,
    (sources, rules): (Sources<'_>, &Rules),
) -> Result<Option<Warning>, Refusal> {
    let is_others = |other: &&DomainRecord| other.tenant != new.tenant;
    let is_new = entry.is_none_or(|entry| entry.tenant != new.tenant);
    let counterpart = others.counterpart.as_ref().filter(is_others);
    if is_new && counterpart.is_some_and(|other| other.settings.is_pair()) {
        return Err(AuthorityRefusal::InPair(new.pattern.clone()).into());
    }
    if request.by.tenant().is_some() {
        check_suspended_pair(entry, new, others)?;
    }
    let was_pair = entry.is_some_and(|entry| entry.settings.is_pair());
    let Some(other) = new.settings.counterpart(&new.pattern).filter(|_| is_new || !was_pair) else {
        return Ok(None);
    };
    let other = Pattern::Exact(other);
    if counterpart.is_some() {
        return Err(AuthorityRefusal::CounterpartTaken(other).into());
    }
    if rules.reserved.iter().any(|reserved| share_names(reserved, &other)) {
        return Err(AuthorityRefusal::Reserved(other).into());
    }
    let is_shared = others.over_counterpart.as_ref().is_some_and(|wildcard| is_others(&wildcard));
    if request.by.tenant().is_none() {
        return Ok(is_shared.then_some(Warning::Overlap));
    }
    if sources.listed.iter().any(|entry| is_listed(entry, &other)) {
        return Err(AuthorityRefusal::Reserved(other).into());
    }
    if sources.asked.counterpart {
        return Err(AuthorityRefusal::Asked(other).into());
    }
    if others.over_counterpart.as_ref().is_some_and(|wildcard| wildcard.status == DomainStatus::Suspended) {
        return Err(AuthorityRefusal::Suspension(other).into());
    }
    // Who has a name has those below it, and not the one above.
    if rules.required == RequiredProof::Txt && new.pattern.name().has_www() {
        return Err(AuthorityRefusal::CounterpartUnproven(other).into());
    }
    if is_shared { Err(AuthorityRefusal::Overlap(other).into()) } else { Ok(None) }
}

/// Whether a tenant's `new`, in the place of `entry`, leaves alone what the suspension of a pair withdraws: an entry of its own would serve the
/// other name again, and so would a wildcard once the suspended entry no longer speaks for it.
fn check_suspended_pair(
    entry: Option<&DomainRecord>,
    new: &DomainRecord,
    others: &Others,
) -> Result<(), Refusal> {
    let is_suspended = |entry: &&DomainRecord| entry.status == DomainStatus::Suspended;
    let counterpart = others.counterpart.as_ref().filter(is_suspended);
    if entry.is_none() && counterpart.is_some_and(|other| other.tenant == new.tenant) {
        return Err(AuthorityRefusal::Suspension(new.pattern.clone()).into());
    }
    let spoke_for = entry.filter(is_suspended).and_then(|entry| entry.settings.counterpart(&entry.pattern));
    match spoke_for.filter(|_| !new.settings.is_pair()) {
        Some(other) => Err(AuthorityRefusal::Suspension(Pattern::Exact(other)).into()),
        None => Ok(()),
    }
}

/// Whether an entry of the same tenant serves the name of `new` already, as a wildcard or as the other name of its pair, and on a proof that holds
/// for it: `new`, which decides from now on, would take it down until its own proof came.
pub(super) fn is_served_by_another(new: &DomainRecord, others: &Others, rules: &Rules) -> bool {
    if others.overlap == Overlap::UnderServed {
        return true;
    }
    let is_pair = |other: &&DomainRecord| other.tenant == new.tenant && other.settings.is_pair();
    let is_served = others.counterpart.as_ref().filter(is_pair).is_some_and(|other| other.status.is_served());
    // Who has a name has those below it, and not the one above.
    is_served && (rules.required != RequiredProof::Txt || new.pattern.name().has_www())
}

fn is_listed(entry: &StaticDomain, pattern: &Pattern) -> bool {
    let other = entry.settings.counterpart(&entry.name).map(Pattern::Exact);
    share_names(&entry.name, pattern) || other.is_some_and(|other| share_names(&other, pattern))
}

fn share_names(a: &Pattern, b: &Pattern) -> bool {
    match (a, b) {
        (Pattern::Wildcard(_), Pattern::Exact(name)) => a.covers(name),
        (Pattern::Exact(name), Pattern::Wildcard(_)) => b.covers(name),
        (Pattern::Exact(_), Pattern::Exact(_)) | (Pattern::Wildcard(_), Pattern::Wildcard(_)) => a == b,
    }
}

impl AuthorityRefusal {
    pub(super) fn is_of_request(&self) -> bool {
        match self {
            Self::Taken(_)
            | Self::Overlap(_)
            | Self::Asked(_)
            | Self::InPair(_)
            | Self::CounterpartTaken(_)
            | Self::Suspension(_)
            | Self::OtherVersion { .. } => false,
            Self::SingleLabel(_)
            | Self::TargetsItself(_)
            | Self::Reserved(_)
            | Self::Unverified(_)
            | Self::RequestRate(_)
            | Self::CounterpartUnproven(_)
            | Self::OtherTenant(_) => true,
        }
    }

    pub(super) fn explain(&self) -> Explained {
        match self {
            Self::TargetsItself(name) => Explained {
                field: "target",
                value: name.to_string(),
                fault: format!("target: domain `{name}` covers it, so that requests would return here"),
                remedy: "give the name or address of the server behind it".to_owned(),
            },
            Self::OtherTenant(tenant) => Explained {
                field: "tenant",
                value: tenant.to_string(),
                fault: format!("tenant: `{tenant}` is not the one of this token"),
                remedy: "leave it out, or use a token of that tenant".to_owned(),
            },
            Self::Unverified(name) => Explained {
                field: "verified",
                value: "true".to_owned(),
                fault: format!("verified: only the operator answers for `{name}` without its verification"),
                remedy: "leave it out, and set the DNS records that the name waits for".to_owned(),
            },
            Self::RequestRate(name) => Explained {
                field: "request_rate",
                value: name.to_string(),
                fault: format!(
                    "request_rate, client_request_rate: only the operator says how many requests `{name}` may have"
                ),
                remedy: "leave them out, or ask the operator".to_owned(),
            },
            Self::SingleLabel(name) => {
                let fault = "is a single label, and CAs issue no certificate for such a name";
                of_name(name, fault, "use a name below a registered domain")
            }
            Self::Suspension(name) => of_name(
                name,
                "is suspended and resumed by the operator alone, and not removed meanwhile",
                "ask the operator; maintenance answers its requests with 503",
            ),
            Self::Asked(name) => of_name(
                name,
                "is served by the operator's ask endpoint (`domains.ask`), or may be",
                "ask the operator, whose entries may take its place",
            ),
            Self::Reserved(name) => of_name(name, "is reserved by the operator", RESERVED),
            Self::Taken(name) => of_name(name, "is not available", ANOTHER),
            Self::InPair(name) => of_name(
                name,
                "is not available: it is the other name of another tenant's pair",
                "use another name, or have the operator set `www` of that entry to `off`",
            ),
            Self::CounterpartTaken(name) => of_pair(
                name,
                "is not available: another tenant has an entry of it",
                "leave `www` out, or ask the operator",
            ),
            Self::CounterpartUnproven(name) => of_pair(
                name,
                "would be served without a proof of whose it is: an ownership record proves what is below its name",
                &format!(
                    "add `{name}` with `www`, and `redirect` = `www` if the site is at the name with `www.`"
                ),
            ),
            Self::Overlap(name) => of_name(name, "shares names with an entry of another tenant", ANOTHER),
            Self::OtherVersion { pattern, version } => of_name(
                pattern,
                &format!("was changed in between: it has version {version} now"),
                "read it, and decide anew",
            ),
        }
    }
}

impl From<AuthorityRefusal> for Refusal {
    fn from(refusal: AuthorityRefusal) -> Self {
        Self::Authority(refusal)
    }
}

fn of_pair(name: &Pattern, fault: &str, remedy: &str) -> Explained {
    let (fault, remedy) = (format!("{WWW}: domain `{name}` {fault}"), remedy.to_owned());
    Explained { field: WWW, value: name.to_string(), fault, remedy }
}

fn of_name(name: &Pattern, fault: &str, remedy: &str) -> Explained {
    Explained::of_domain(name, format!("domain `{name}` {fault}"), remedy)
}

const ANOTHER: &str = "use another name, or ask the operator";
const RESERVED: &str = "use another name; the operator gives it in `domains.static`, or takes it out of `domains.reserved` or `verification.edge_names`";
