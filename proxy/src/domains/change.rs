//! Changing entries of the table: the write that holds only if nobody was quicker.
//! Not here: whether a change is to be made, and what the new entry is (`admin`).

use std::time::Duration;

use super::{
    admin::{
        self, ChangeCause, Decision, Others, Overlap, OwnerChange, Refusal, Request, Rules, Sources,
        Standing, Wanted,
    },
    entry_count::{CountError, Counting},
    search_in_turn,
};
use crate::{
    clock,
    name::{Pattern, ServerName},
    store::{
        Store, StoreError,
        domain_table::{self, Audit, DEFAULT_TENANT, DomainRecord, DomainStatus, Tenant},
        instant::Micros,
        state_table::AuditRecord,
    },
};

/// Why a change of the table failed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is not to be made.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Others change the same entry all the time.
    #[error("domain `{0}` is being changed at the same time by somebody else; try again")]
    Contended(Pattern),
    /// The table.
    #[error("the domains table cannot be changed now")]
    Store(#[from] StoreError),
}

impl From<CountError> for ChangeError {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Refused(refusal) => Self::Refused(refusal),
            CountError::Store(error) => Self::Store(error),
        }
    }
}

/// Does what `request` asks for, unless the entry that is there, `sources` or `rules` forbid it.
///
/// `around` is what is known in memory of others' entries.
pub async fn administer(
    store: &Store,
    request: &Request,
    sources: Sources<'_>,
    rules: &Rules,
    around: &(dyn NamesOfOthers + Sync),
) -> Result<Decision, ChangeError> {
    let cause = Cause::Request { request, sources, rules, around };
    change(store, &request.pattern, &cause, rules.audit_kept).await
}

/// What [`administer`] would do now; nothing is changed.
pub async fn preview(
    store: &Store,
    request: &Request,
    sources: Sources<'_>,
    rules: &Rules,
    around: &(dyn NamesOfOthers + Sync),
) -> Result<Decision, ChangeError> {
    let old = domain_table::get(store, &request.pattern).await?;
    let cause = Cause::Request { request, sources, rules, around };
    let decision = cause.decide(store, &request.pattern, old.as_ref(), Micros::of(clock::wall())).await?;
    cause.counting().preview(store, OwnerChange::of(old.as_ref(), &decision.record)).await?;
    Ok(decision)
}

/// Has the entry of `pattern` stand as `standing` says, if it is of version `seen` still; `why` is what was found. That it was done is kept for
/// `audit_kept`.
pub async fn follow_checks(
    store: &Store,
    pattern: &Pattern,
    seen: u64,
    standing: Standing,
    why: &str,
    audit_kept: Duration,
) -> Result<Decision, ChangeError> {
    change(store, pattern, &Cause::Checks { seen, standing, why }, audit_kept).await
}

/// Why an entry is changed.
enum Cause<'a> {
    Request {
        request: &'a Request,
        sources: Sources<'a>,
        rules: &'a Rules,
        around: &'a (dyn NamesOfOthers + Sync),
    },
    Checks {
        seen: u64,
        standing: Standing,
        why: &'a str,
    },
}

impl Cause<'_> {
    async fn decide(
        &self,
        store: &Store,
        pattern: &Pattern,
        old: Option<&DomainRecord>,
        now: Micros,
    ) -> Result<Decision, ChangeError> {
        match self {
            Self::Request { request, sources, rules, around } => {
                let others = others(store, request, old, *around).await?;
                Ok(admin::decide(request, old, &others, *sources, rules, now)?)
            }
            Self::Checks { seen, standing, .. } => {
                let old = old.filter(|old| old.version == *seen);
                let old = old.ok_or_else(|| Refusal::Absent(pattern.clone()))?;
                Ok(admin::follow_checks(old, *standing, now))
            }
        }
    }

    /// How the counts of tenants follow.
    fn counting(&self) -> Counting<'_> {
        match self {
            Self::Request { rules, .. } => Counting::Bounded(&rules.quotas),
            // Who checks names, elsewhere than at an instance, has not its settings. It removes entries and adds none.
            Self::Checks { .. } => Counting::Unknown,
        }
    }

    /// As its event tells it.
    fn told(&self) -> ChangeCause<'_> {
        match self {
            Self::Request { .. } => ChangeCause::Request,
            Self::Checks { standing, why, .. } => ChangeCause::Checks { standing: *standing, why },
        }
    }

    /// As the audit names it.
    fn by(&self) -> &str {
        match self {
            Self::Request { request, .. } => &request.by.name,
            Self::Checks { .. } => BY_CHECKS,
        }
    }
}

async fn change(
    store: &Store,
    pattern: &Pattern,
    cause: &Cause<'_>,
    audit_kept: Duration,
) -> Result<Decision, ChangeError> {
    let mut tried: Option<Decision> = None;
    for _ in 0..MAX_TRIES {
        let old = domain_table::get(store, pattern).await?;
        // The SDK may have written it, lost the answer, and met its own write when it tried again.
        if let Some(written) = tried.take_if(|tried| old.as_ref() == Some(&tried.record)) {
            return Ok(written);
        }
        let now = Micros::of(clock::wall());
        let new = cause.decide(store, pattern, old.as_ref(), now).await?;
        if !new.is_change() {
            return Ok(new);
        }
        let event = new.event(old.as_ref(), cause.by(), cause.told(), now)?;
        let audit = Audit { record: audited(cause.by(), pattern, &new, now), kept: audit_kept, event };
        let owners = OwnerChange::of(old.as_ref(), &new.record);
        let written = match cause.counting().follow(store, owners).await {
            Ok(counts) => {
                domain_table::replace(store, &new.record, old.as_ref(), &audit, &counts.changes).await
            }
            // They changed as often as they were counted.
            Err(CountError::Store(StoreError::Conflict)) => break,
            Err(error) => return Err(error.into()),
        };
        match written {
            Ok(()) => return Ok(new),
            Err(StoreError::Conflict) => tried = Some(new),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ChangeError::Contended(pattern.clone()))
}

/// What is known of entries without asking the table.
pub trait NamesOfOthers {
    /// Finds whether another than `tenant` has a name that `wildcard` covers.
    fn search(&self, wildcard: &Pattern, tenant: &str) -> Search;
}

/// How names below a wildcard are found.
pub enum Search {
    /// Not at all.
    No,
    /// Not yet: entries are still being read.
    NotYet,
    /// By looking at every entry.
    Yes(Box<dyn FnOnce() -> bool + Send>),
}

/// Where no instance runs: names below a wildcard are not looked for, since that would take a scan.
pub struct Unknown;

impl NamesOfOthers for Unknown {
    fn search(&self, _: &Pattern, _: &str) -> Search {
        Search::No
    }
}

/// Entries that would share names with the one that is asked for.
///
/// They are read, and no condition of the write: of two that are added at the same moment neither sees the other. Then the exact entry comes
/// before a pair, and a pair before a wildcard.
async fn others(
    store: &Store,
    request: &Request,
    old: Option<&DomainRecord>,
    around: &(dyn NamesOfOthers + Sync),
) -> Result<Others, ChangeError> {
    let (overlap, other) =
        tokio::try_join!(overlap(store, request, old, around), counterpart(store, request))?;
    let [counterpart, over_counterpart] = other;
    Ok(Others { overlap, counterpart, over_counterpart })
}

/// The entry of the other name of the pair that the request's name makes, which may speak for it, and where the request asks for a pair that
/// of the wildcard which covers the other name.
async fn counterpart(store: &Store, request: &Request) -> Result<[Option<DomainRecord>; 2], ChangeError> {
    let is_for_pair = request.is_for_pair();
    let may_be_new = matches!(request.wanted, Wanted::Present { .. });
    let other = request.pattern.counterpart().ok().filter(|_| may_be_new || is_for_pair);
    let wildcard = other.as_ref().filter(|_| is_for_pair).and_then(ServerName::wildcard);
    let own = other.map(Pattern::Exact);
    let (own, wider) = tokio::try_join!(living(store, own.as_ref()), living(store, wildcard.as_ref()))?;
    Ok([own, wider])
}

async fn living(store: &Store, pattern: Option<&Pattern>) -> Result<Option<DomainRecord>, ChangeError> {
    let Some(pattern) = pattern else { return Ok(None) };
    // Boxed: three of them may be read at once.
    Ok(Box::pin(domain_table::living(store, pattern)).await?)
}

/// Which entry a new one would share names with. For one that is there already it was decided before.
async fn overlap(
    store: &Store,
    request: &Request,
    old: Option<&DomainRecord>,
    around: &(dyn NamesOfOthers + Sync),
) -> Result<Overlap, ChangeError> {
    let Wanted::Present { tenant, .. } = &request.wanted else { return Ok(Overlap::Nothing) };
    if old.and_then(DomainRecord::owner).is_some() {
        return Ok(Overlap::Nothing);
    }
    let tenant = request.by.tenant().or(tenant.as_ref()).map_or(DEFAULT_TENANT, Tenant::as_str);
    let name = match &request.pattern {
        Pattern::Exact(name) => name,
        wildcard @ Pattern::Wildcard(_) => {
            let search = match around.search(wildcard, tenant) {
                Search::Yes(search) => search,
                Search::NotYet if request.by.tenant().is_some() => {
                    return Err(
                        StoreError::Unavailable("entries below it are still being read".into()).into()
                    );
                }
                Search::No | Search::NotYet => return Ok(Overlap::Nothing),
            };
            let found = search_in_turn(search).await;
            let is_covered = found.map_err(|ended| StoreError::Unavailable(ended.into()))?;
            return Ok(if is_covered { Overlap::OverNames } else { Overlap::Nothing });
        }
    };
    Ok(match living(store, name.wildcard().as_ref()).await? {
        Some(wider) if wider.tenant != tenant => Overlap::UnderWildcard,
        Some(own) if own.status == DomainStatus::Suspended && request.by.tenant().is_some() => {
            Overlap::UnderSuspended
        }
        Some(own) if own.status.is_served() => Overlap::UnderServed,
        Some(_) | None => Overlap::Nothing,
    })
}

fn audited(by: &str, pattern: &Pattern, decision: &Decision, at: Micros) -> AuditRecord {
    AuditRecord {
        at,
        by: by.to_owned(),
        domain: pattern.clone(),
        tenant: decision.report.tenant.clone(),
        action: decision.report.action.as_str().to_owned(),
        changes: decision.report.changes.clone(),
    }
}

/// Who changes entries by what was found out about their names.
const BY_CHECKS: &str = "verification";
const MAX_TRIES: usize = 8;

#[cfg(test)]
pub(super) mod tests {
    use super::{super::admin::added, *};
    use crate::{
        config::{DomainSettings, RequiredProof},
        store::{
            Consistency,
            state_table::{self, LogDay},
        },
        target::Target,
    };

    /// An active entry, changed in 1970.
    pub(in crate::domains) fn record(name: &str) -> DomainRecord {
        added(None, &Pattern::parse(name).unwrap(), None, None, Micros::from_epoch(1))
    }

    fn pattern() -> Pattern {
        Pattern::parse("a.example").unwrap()
    }

    const TABLE: Sources<'static> = Sources::new(&[], admin::Table::Read);

    /// Rules that nothing stands in the way of.
    pub(in crate::domains) fn lenient() -> Rules {
        Rules {
            default_target: Target::parse("http://10.0.0.9").ok(),
            listeners: Vec::new(),
            issuance: admin::Issuance::Internal,
            permits: std::sync::Arc::new(|_| true),
            entry_tls: std::collections::BTreeSet::new(),
            reserved: Vec::new(),
            audit_kept: Duration::from_hours(24),
            required: RequiredProof::None,
            quotas: admin::Quotas::default(),
        }
    }

    pub(in crate::domains) fn addition(pattern: &Pattern, target: Option<Target>) -> Request {
        let wanted = Wanted::Present {
            target,
            settings: DomainSettings::default(),
            tenant: None,
            existing: admin::Existing::Replace,
            proof: admin::Proof::Needed,
        };
        by_operator(pattern, wanted)
    }

    pub(in crate::domains) fn by_operator(pattern: &Pattern, wanted: Wanted) -> Request {
        Request::new(pattern.clone(), wanted, admin::Requester::operator("uid 0"))
    }

    pub(in crate::domains) async fn add(store: &Store, pattern: &Pattern, target: Option<&Target>) {
        administer(store, &addition(pattern, target.cloned()), TABLE, &lenient(), &Unknown).await.unwrap();
    }

    /// What is kept of an addition of `record`.
    pub(in crate::domains) fn audit_of(record: &DomainRecord) -> Audit {
        let record = AuditRecord {
            at: Micros::from_epoch(1),
            by: "uid 0".to_owned(),
            domain: record.pattern.clone(),
            tenant: record.tenant.clone(),
            action: "add".to_owned(),
            changes: Vec::new(),
        };
        Audit { record, kept: Duration::from_hours(1), event: None }
    }

    pub(in crate::domains) async fn remove(store: &Store, pattern: &Pattern) {
        let request = by_operator(pattern, Wanted::Absent);
        administer(store, &request, TABLE, &lenient(), &Unknown).await.unwrap();
    }

    #[tokio::test]
    async fn who_follows_checks_is_audited() {
        let store =
            Store::on(crate::store::Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        crate::store::tables::create(&store).await.unwrap();
        let pattern = pattern();
        add(&store, &pattern, None).await;
        let kept = Duration::from_hours(1);
        let stale = follow_checks(&store, &pattern, 7, Standing::Failing, "", kept).await;
        assert!(matches!(stale, Err(ChangeError::Refused(Refusal::Absent(_)))), "{stale:?}");
        let done = follow_checks(&store, &pattern, 1, Standing::Failing, "leads away", kept).await.unwrap();
        assert_eq!(done.record.status, DomainStatus::Failing);
        let (tenant, day) = (DEFAULT_TENANT.parse().unwrap(), LogDay::of(Micros::of(clock::wall())));
        let records = state_table::audit(&store, &tenant, &day, None, 10).await.unwrap().records;
        let told: Vec<_> = records.iter().map(|record| (record.by.as_str(), record.changes.len())).collect();
        assert_eq!(told, [("uid 0", 3), (BY_CHECKS, 1)], "{records:?}");
        let events = state_table::events(&store, &day, None, 10, Consistency::Strong).await.unwrap().events;
        let told: Vec<_> = events.iter().map(|event| (event.kind.as_str(), &event.detail["by"])).collect();
        assert_eq!(told, [("domain.created", &"uid 0".into()), ("domain.failing", &BY_CHECKS.into())]);
        assert_eq!(events[1].detail["problem"], "leads away", "{events:?}");
    }

    async fn in_memory() -> Store {
        let store =
            Store::on(crate::store::Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        crate::store::tables::create(&store).await.unwrap();
        store
    }

    /// Events of the day of `now` and of the next.
    async fn events_about(store: &Store, now: Micros) -> Vec<state_table::Event> {
        let (day, mut found) = (LogDay::of(now), Vec::new());
        for day in [&day, &day.next()] {
            found
                .extend(state_table::events(store, day, None, 10, Consistency::Strong).await.unwrap().events);
        }
        found
    }

    #[tokio::test]
    async fn events_of_an_entry_sort_as_its_changes_whatever_the_clocks_say() {
        let hour = Duration::from_hours(1);
        for (ahead, is_behind) in [(Duration::from_mins(1), true), (hour, false)] {
            let (store, now) = (in_memory().await, Micros::of(clock::wall()));
            let before = now.more(ahead);
            let entry = DomainRecord { changed_at: Some(before), ..record("a.example") };
            domain_table::put(&store, &entry, 0).await.unwrap();
            let request = by_operator(&pattern(), Wanted::Suspended);
            let done = administer(&store, &request, TABLE, &lenient(), &Unknown).await.unwrap();
            let events = events_about(&store, now).await;
            let [event] = &*events else { panic!("{events:?}") };
            assert_eq!((event.kind.as_str(), &event.detail["version"]), ("domain.suspended", &2.into()));
            assert_eq!(done.record.version, 2);
            // A clock that is wrong by an hour would put it where nobody reads yet.
            assert_eq!(event.id.at > before, is_behind, "{ahead:?}");
            assert!(event.id.at < now.more(hour), "{ahead:?}");
        }
    }

    #[tokio::test]
    async fn who_loses_an_entry_to_another_tenant_is_told() {
        let (store, now) = (in_memory().await, Micros::of(clock::wall()));
        for tenant in ["acme", "zeta"] {
            let mut request = addition(&pattern(), None);
            if let Wanted::Present { tenant: of, .. } = &mut request.wanted {
                *of = tenant.parse().ok();
            }
            administer(&store, &request, TABLE, &lenient(), &Unknown).await.unwrap();
        }
        let events = events_about(&store, now).await;
        let told: Vec<_> = events
            .iter()
            .map(|event| {
                let seen = |tenant| event.clone().seen_by(tenant);
                (event.kind.as_str(), ["acme", "zeta", "other"].map(|tenant| seen(tenant).is_some()))
            })
            .collect();
        let expected = [("domain.created", [true, false, false]), ("domain.updated", [true, true, false])];
        assert_eq!(told, expected, "{events:?}");
        assert_eq!(events[1].detail["former_tenant"], "acme");
        let seen =
            |tenant| serde_json::to_string(&events[1].clone().seen_by(tenant).unwrap().detail).unwrap();
        assert!(!seen("acme").contains("zeta") && !seen("zeta").contains("acme"), "{events:?}");
        for (tenant, other) in [("acme", "zeta"), ("zeta", "acme")] {
            let day = LogDay::of(now);
            let records =
                state_table::audit(&store, &tenant.parse().unwrap(), &day, None, 10).await.unwrap().records;
            assert!(!format!("{records:?}").contains(other), "{records:?}");
            assert!(format!("{:?}", records.last()).contains(tenant), "{records:?}");
        }
    }

    #[tokio::test]
    async fn who_once_had_a_name_is_not_told_who_brings_it_next() {
        let (store, now) = (in_memory().await, Micros::of(clock::wall()));
        for tenant in ["acme", "zeta"] {
            let mut request = addition(&pattern(), Target::parse("http://10.0.0.7").ok());
            if let Wanted::Present { tenant: of, .. } = &mut request.wanted {
                *of = tenant.parse().ok();
            }
            administer(&store, &request, TABLE, &lenient(), &Unknown).await.unwrap();
            remove(&store, &pattern()).await;
        }
        let found = state_table::audit(&store, &"acme".parse().unwrap(), &LogDay::of(now), None, 10).await;
        let actions: Vec<_> = found.unwrap().records.into_iter().map(|record| record.action).collect();
        assert_eq!(actions, ["add", "remove"]);
    }

    #[tokio::test]
    async fn a_suspended_wildcard_is_not_escaped_by_a_name_below_it() {
        let store = in_memory().await;
        let (wildcard, below) =
            (Pattern::parse("*.a.example").unwrap(), Pattern::parse("login.a.example").unwrap());
        let by = |authority| admin::Requester { authority, name: "token 1".to_owned() };
        let own = by(admin::Authority::Tenant(DEFAULT_TENANT.parse().unwrap()));
        add(&store, &wildcard, None).await;
        let suspended = by_operator(&wildcard, Wanted::Suspended);
        administer(&store, &suspended, TABLE, &lenient(), &Unknown).await.unwrap();
        let asked = |by| Request { by, ..addition(&below, None) };
        let refused = administer(&store, &asked(own), TABLE, &lenient(), &Unknown).await;
        let is_refused = matches!(
            refused,
            Err(ChangeError::Refused(Refusal::Authority(admin::AuthorityRefusal::Suspension(_))))
        );
        assert!(is_refused, "{refused:?}");
        let operator = by(admin::Authority::Operator);
        administer(&store, &asked(operator), TABLE, &lenient(), &Unknown).await.unwrap();
    }

    #[tokio::test]
    async fn a_name_that_the_own_wildcard_serves_is_not_taken_down_by_an_entry_of_its_own() {
        use DomainStatus::{Active, Failing, Pending};
        let below = Pattern::parse("vip.a.example").unwrap();
        for (status, of, expected) in [
            (Active, "acme", Active),
            (Failing, "acme", Active),
            (Pending, "acme", Pending),
            (Active, "zeta", Pending),
        ] {
            for required in [RequiredProof::Dns, RequiredProof::Txt] {
                let store = in_memory().await;
                let wildcard = DomainRecord { status, tenant: of.to_owned(), ..record("*.a.example") };
                domain_table::put(&store, &wildcard, 0).await.unwrap();
                let mut request = addition(&below, Target::parse("http://10.0.0.7").ok());
                if let Wanted::Present { tenant, .. } = &mut request.wanted {
                    *tenant = "acme".parse().ok();
                }
                let rules = Rules { required, ..lenient() };
                let added = administer(&store, &request, TABLE, &rules, &Unknown).await.unwrap();
                assert_eq!(added.record.status, expected, "{required} below {status:?} of {of}");
                let is_warned = added.report.warnings.contains(&admin::Warning::Overlap.to_string());
                assert_eq!(is_warned, of == "zeta", "{:?}", added.report.warnings);
            }
        }
    }
}
