//! Counting the entries of tenants whose number is bounded.
//! Not here: which bound there is (`admin`), and how a count is kept (`store::state_table`).
//! Invariants: no addition passes the bound, whoever adds at the same time (`two_instances_together_pass_no_quota_and_a_count_is_mended`,
//! `a_count_that_was_read_too_early_permits_nothing`); what changes while it is counted is counted again
//! (`what_changes_while_it_is_counted_is_counted_again`); a preview reads all entries of a tenant once at most
//! (`previews_count_the_entries_of_a_tenant_once`).

use tokio::sync::{Semaphore, SemaphorePermit};

use super::admin::{OwnerChange, Quotas, Refusal};
use crate::{
    clock,
    store::{
        Store, StoreError, domain_table,
        instant::Micros,
        state_table::{CountChange, EntryCount, find_entry_count, put_entry_count},
    },
};

/// Why an entry is not counted, and so not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum CountError {
    /// There are as many as there may be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the counts of tenants follow a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counting<'a> {
    /// Where these have a bound.
    Bounded(&'a Quotas),
    /// It is not known which have: whoever loses an entry has one fewer.
    Unknown,
}

/// Changes of counts, and the turn in which they are made: transactions on one count would end each other.
pub(super) struct CountChanges<'a> {
    pub(super) changes: Vec<CountChange<'a>>,
    _turn: Option<SemaphorePermit<'static>>,
}

impl<'a> Counting<'_> {
    /// What is to be changed with an entry, unless the new one would be one too many.
    pub(super) async fn follow(
        self,
        store: &Store,
        owners: OwnerChange<'a>,
    ) -> Result<CountChanges<'a>, CountError> {
        let (fewer, more) = self.counted(owners);
        if fewer.is_none() && more.is_none() {
            return Ok(CountChanges { changes: Vec::new(), _turn: None });
        }
        if let Some((tenant, _)) = more {
            // Outside of the turn: counting takes a second, in which others' entries change.
            known_count(store, tenant).await?;
        }
        let turn = TURNS.acquire().await.ok();
        let mut changes: Vec<_> = fewer.map(|tenant| CountChange::Fewer { tenant }).into_iter().collect();
        if let Some((tenant, limit)) = more {
            let entries = find_entry_count(store, tenant).await?.entries.ok_or(StoreError::Conflict)?;
            refuse_beyond(tenant, entries, limit)?;
            changes.push(CountChange::More { tenant, limit });
        }
        Ok(CountChanges { changes, _turn: turn })
    }

    /// Whether the new entry would be one too many, as far as is known now. What nobody has counted is counted and kept, lest each preview read all
    /// entries of the tenant; of entries nothing is written.
    pub(super) async fn preview(self, store: &Store, owners: OwnerChange<'_>) -> Result<(), CountError> {
        let (_, Some((tenant, limit))) = self.counted(owners) else { return Ok(()) };
        Ok(refuse_beyond(tenant, known_count(store, tenant).await?, limit)?)
    }

    /// Whose count follows a change: who has one fewer, and who has one more, of how many at most.
    fn counted(self, owners: OwnerChange<'_>) -> (Option<&str>, Option<(&str, u64)>) {
        match self {
            Self::Bounded(quotas) => (
                owners.from.filter(|tenant| quotas.limit(tenant).is_some()),
                owners.to.and_then(|tenant| quotas.limit(tenant).map(|limit| (tenant, limit))),
            ),
            Self::Unknown => (owners.from, None),
        }
    }
}

fn refuse_beyond(tenant: &str, entries: u64, limit: u64) -> Result<(), Refusal> {
    if entries < limit { Ok(()) } else { Err(Refusal::Quota { tenant: tenant.to_owned(), limit }) }
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CountReport {
    /// Whose entries.
    pub tenant: String,
    /// How many there are.
    pub entries: u64,
    /// As they were counted before; absent, nobody had.
    pub before: Option<u64>,
}

/// Counts the entries of `tenant`, and keeps the count. The index that is counted may be a moment old, and what changes meanwhile is in no known
/// place of it: then they are counted again.
///
/// # Errors
/// [`StoreError::Conflict`] where they change all the time, besides those of the table.
pub async fn count(store: &Store, tenant: &str) -> Result<CountReport, StoreError> {
    for _ in 0..MOST_ROUNDS {
        let seen = find_entry_count(store, tenant).await?;
        let counted = Counted::after(store, tenant, seen).await?;
        if counted.keep(store, tenant).await? {
            let (entries, before) = (counted.entries, counted.seen.entries);
            return Ok(CountReport { tenant: tenant.to_owned(), entries, before });
        }
    }
    Err(StoreError::Conflict)
}

/// How many entries `tenant` has, counted unless somebody has.
async fn known_count(store: &Store, tenant: &str) -> Result<u64, StoreError> {
    if let Some(entries) = find_entry_count(store, tenant).await?.entries {
        return Ok(entries);
    }
    // The rows of an import ask at once: one counts, and the others find the count.
    let _turn = COUNTS.acquire().await;
    for _ in 0..MOST_ROUNDS {
        let seen = find_entry_count(store, tenant).await?;
        if let Some(entries) = seen.entries {
            return Ok(entries);
        }
        let counted = Counted::after(store, tenant, seen).await?;
        if counted.keep(store, tenant).await? {
            return Ok(counted.entries);
        }
    }
    Err(StoreError::Conflict)
}

/// A count that is not kept yet.
struct Counted {
    /// What was known before.
    seen: EntryCount,
    entries: u64,
}

impl Counted {
    /// Counts; `seen` was read just before.
    async fn after(store: &Store, tenant: &str, seen: EntryCount) -> Result<Self, StoreError> {
        // What was written just before is in the index then.
        tokio::time::sleep(INDEX_DELAY).await;
        Ok(Self { seen, entries: domain_table::count(store, tenant).await? })
    }

    /// Keeps it, unless something has changed since; whether it was kept.
    async fn keep(&self, store: &Store, tenant: &str) -> Result<bool, StoreError> {
        put_entry_count(store, tenant, self.entries, self.seen, Micros::of(clock::wall())).await
    }
}

const MOST_ROUNDS: u32 = 5;
const INDEX_DELAY: std::time::Duration = std::time::Duration::from_secs(1);
static TURNS: Semaphore = Semaphore::const_new(1);
static COUNTS: Semaphore = Semaphore::const_new(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        domains::{
            ChangeError,
            admin::{Existing, Proof, Request, Requester, Rules, Sources, Table, Wanted},
            change::{self, Unknown, tests::lenient},
        },
        name::Pattern,
        store::{Engine, FaultPlan, Faults, state_table::find_entry_count, tables},
    };

    async fn store() -> Store {
        let faults = Faults::new(FaultPlan::parse("seed=3,throttle=10,conflict=10").unwrap());
        let store = Store::on_faulty(Engine::in_memory().unwrap(), &StoreConfig::default(), faults);
        tables::create(&store).await.unwrap();
        store
    }

    fn rules(limit: u32) -> Rules {
        let config = crate::config::DomainsConfig { entries_per_tenant: Some(limit), ..Default::default() };
        Rules { quotas: Quotas::of(&config), ..lenient() }
    }

    async fn ask(store: &Store, rules: &Rules, name: &str, wanted: Wanted) -> Result<(), ChangeError> {
        let request = Request::new(Pattern::parse(name).unwrap(), wanted, Requester::operator("uid 0"));
        let sources = Sources::new(&[], Table::Read);
        change::administer(store, &request, sources, rules, &Unknown).await.map(drop)
    }

    fn present(tenant: &str) -> Wanted {
        Wanted::Present {
            target: None,
            settings: crate::config::DomainSettings::default(),
            tenant: Some(tenant.parse().unwrap()),
            existing: Existing::Replace,
            proof: Proof::Waived,
        }
    }

    async fn entries(store: &Store, tenant: &str) -> Option<u64> {
        find_entry_count(store, tenant).await.unwrap().entries
    }

    fn is_over(outcome: &Result<(), ChangeError>) -> bool {
        matches!(outcome, Err(ChangeError::Refused(Refusal::Quota { limit: 3, .. })))
    }

    #[tokio::test]
    async fn additions_at_once_never_pass_a_quota() {
        let store = store().await;
        let mut additions = tokio::task::JoinSet::new();
        for n in 0..8 {
            let store = store.clone();
            additions.spawn(async move {
                ask(&store, &rules(3), &format!("n{n}.example"), present("acme")).await
            });
        }
        let outcomes = additions.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "{outcomes:?}");
        assert!(outcomes.iter().all(|outcome| outcome.is_ok() || is_over(outcome)), "{outcomes:?}");
        assert_eq!(domain_table::count(&store, "acme").await.unwrap(), 3);
    }

    /// The condition of the transaction, where another instance was quicker than the look at the count.
    #[tokio::test]
    async fn a_count_that_was_read_too_early_permits_nothing() {
        let store = store().await;
        let (rules, name) = (rules(3), |n: u32| format!("n{n}.example"));
        for n in 0..2 {
            ask(&store, &rules, &name(n), present("acme")).await.unwrap();
        }
        let seen = find_entry_count(&store, "acme").await.unwrap();
        assert!(put_entry_count(&store, "acme", 3, seen, Micros::from_epoch(1)).await.unwrap());
        let record = change::tests::record("late.example");
        let record = domain_table::DomainRecord { tenant: "acme".into(), ..record };
        let late = [CountChange::More { tenant: "acme", limit: 3 }];
        let audit = change::tests::audit_of(&record);
        let written = domain_table::replace(&store, &record, None, &audit, &late).await;
        assert!(matches!(written, Err(StoreError::Conflict)), "{written:?}");
        assert_eq!(domain_table::get(&store, &record.pattern).await.unwrap(), None);
    }

    /// Another instance counts between them: as many as before are no sign that nothing changed.
    #[tokio::test]
    async fn what_changes_while_it_is_counted_is_counted_again() {
        let (store, rules) = (store().await, rules(9));
        for name in ["a.example", "b.example"] {
            ask(&store, &rules, name, present("acme")).await.unwrap();
        }
        ask(&store, &rules, "c.example", present("acme")).await.unwrap();
        let seen = find_entry_count(&store, "acme").await.unwrap();
        let counted = Counted::after(&store, "acme", seen).await.unwrap();
        assert_eq!((counted.entries, counted.seen.entries), (3, Some(3)));
        ask(&store, &rules, "c.example", Wanted::Absent).await.unwrap();
        ask(&store, &rules, "d.example", present("acme")).await.unwrap();
        // Of the index it had seen one change and not the other.
        assert!(!Counted { entries: 2, ..counted }.keep(&store, "acme").await.unwrap());
        assert_eq!(entries(&store, "acme").await, Some(3));

        // Nobody has counted those of another, and one is removed while somebody does.
        for name in ["x.example", "y.example"] {
            ask(&store, &lenient(), name, present("zeta")).await.unwrap();
        }
        let seen = find_entry_count(&store, "zeta").await.unwrap();
        let counted = Counted::after(&store, "zeta", seen).await.unwrap();
        assert_eq!((counted.entries, counted.seen.entries), (2, None));
        ask(&store, &rules, "x.example", Wanted::Absent).await.unwrap();
        assert!(!counted.keep(&store, "zeta").await.unwrap());
        assert_eq!(entries(&store, "zeta").await, None);
        assert_eq!(count(&store, "zeta").await.unwrap().entries, 1);
    }

    #[tokio::test]
    async fn previews_count_the_entries_of_a_tenant_once() {
        let store = store().await;
        for n in 0..3 {
            ask(&store, &lenient(), &format!("n{n}.example"), present("acme")).await.unwrap();
        }
        let preview = async |name: &str, limit| {
            let request =
                Request::new(Pattern::parse(name).unwrap(), present("acme"), Requester::operator("uid 0"));
            let sources = Sources::new(&[], Table::Read);
            change::preview(&store, &request, sources, &rules(limit), &Unknown).await.map(drop)
        };
        assert!(is_over(&preview("late.example", 3).await));
        assert_eq!(entries(&store, "acme").await, Some(3));
        // What nobody counts: who reads the index anew would find it.
        ask(&store, &lenient(), "uncounted.example", present("acme")).await.unwrap();
        preview("late.example", 4).await.unwrap();
        assert_eq!(entries(&store, "acme").await, Some(3));
        assert!(domain_table::get(&store, &Pattern::parse("late.example").unwrap()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn whoever_loses_an_entry_may_have_another_and_what_is_there_already_stays() {
        let (store, wide, narrow) = (store().await, rules(9), rules(3));
        for n in 0..4 {
            // From before there was a bound: nobody counts.
            ask(&store, &lenient(), &format!("n{n}.example"), present("acme")).await.unwrap();
        }
        assert_eq!(entries(&store, "acme").await, None);
        assert!(is_over(&ask(&store, &narrow, "b.example", present("acme")).await));
        assert_eq!(entries(&store, "acme").await, Some(4));
        // It is there: this changes nothing of how many there are.
        ask(&store, &narrow, "n0.example", present("acme")).await.unwrap();
        ask(&store, &narrow, "n0.example", Wanted::Suspended).await.unwrap();
        ask(&store, &narrow, "n0.example", Wanted::Absent).await.unwrap();
        ask(&store, &narrow, "n1.example", present("zeta")).await.unwrap();
        let counts = async || [entries(&store, "acme").await, entries(&store, "zeta").await];
        assert_eq!(counts().await, [Some(2), Some(1)]);
        ask(&store, &narrow, "b.example", present("acme")).await.unwrap();
        assert!(is_over(&ask(&store, &narrow, "n1.example", present("acme")).await));
        assert_eq!(counts().await, [Some(3), Some(1)]);
        ask(&store, &wide, "n1.example", present("acme")).await.unwrap();
        assert_eq!(counts().await, [Some(4), Some(0)]);

        // Settings without a bound change entries and count none; counting mends it.
        ask(&store, &lenient(), "c.example", present("acme")).await.unwrap();
        let report = count(&store, "acme").await.unwrap();
        assert_eq!((report.entries, report.before), (5, Some(4)));
        assert_eq!(counts().await, [Some(5), Some(0)]);
    }
}
