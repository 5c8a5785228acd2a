//! One pass over the names that are due, for a program that is started now and then and ends: what an instance does all the time
//! (`checker`), under the same lease. Names that a pass has no time for are the next one's.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, interval_at, sleep_until, timeout},
};
use tracing::warn;

use super::{
    course::CourseRules,
    dns::NoResolver,
    due::{Backlog, Candidate, Candidates, earliest, is_due, is_unsettled, settled_after},
    look::Looker,
    name_check::{JOB, LEASE, NameCheck, RENEW, say_changed},
};
use crate::{
    clock,
    config::Config,
    domains::{
        ChangeError,
        admin::{Decision, Permits},
        follow_checks,
    },
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{SHARDS, feed_page},
        instant::Micros,
        state_table::{
            checks_settled,
            lease::{Holder, Lease},
            put_checks_settled,
        },
    },
};

/// Makes passes.
pub struct Pass {
    names: NameCheck,
    per_second: u32,
    audit_kept: Duration,
    holder: Holder,
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PassReport {
    /// Whether it had the lease.
    pub lease: LeaseState,
    /// Names that were looked at.
    pub looked_at: usize,
    /// Entries that were changed by it.
    pub changed: usize,
    /// Entries that were read, and whose names were not due.
    pub not_due: usize,
    /// Names that could not be looked at, since a table failed or the program did; the log says why.
    pub failed: usize,
    /// Names that are left to the next pass.
    pub left: usize,
    /// Rows of the index that are no entries.
    pub malformed: usize,
    /// Whether the index was read to its end.
    pub is_index_read: bool,
}

/// Whether a pass had the lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// To its end.
    Held,
    /// Another has it, who does the work.
    #[default]
    Elsewhere,
    /// It was lost before the end, so that another goes on.
    Lost,
}

/// What became of a candidate.
enum Looked {
    /// Gone, or in a state that no look changes.
    Gone,
    NotDue {
        is_unsettled: bool,
    },
    Done {
        is_changed: bool,
        is_unsettled: bool,
    },
    Failed,
}

/// A pass under way.
#[derive(Default)]
struct Tally {
    report: PassReport,
    /// Candidates that nothing is known of yet.
    open: HashMap<Pattern, Micros>,
    unsettled: Option<Micros>,
}

impl Pass {
    /// By `config`; `None` where the edge has no name, so that nothing is checked. `permits` says which addresses may be connected to.
    pub fn new(
        config: &Config,
        permits: Permits,
        store: Store,
        holder: Holder,
    ) -> Result<Option<Self>, NoResolver> {
        let looker = Looker::new(config, config.listen.public_port(), permits)?;
        let rules = CourseRules::of(&config.verification);
        Ok(looker.map(|looker| Self {
            names: NameCheck { looker, rules, store },
            per_second: config.verification.per_second,
            audit_kept: *config.domains.audit_kept,
            holder,
        }))
    }

    /// Looks at what is due, until `until` at the latest, if nobody else has the lease.
    ///
    /// # Cancel safety
    /// What was found is written; the lease ends by itself.
    pub async fn run(self: &Arc<Self>, until: SystemTime) -> Result<PassReport, StoreError> {
        let until = clock::now() + until.duration_since(clock::wall()).unwrap_or_default();
        let store = &self.names.store;
        let taken = Lease::take(store, JOB, &self.holder, LEASE, clock::wall()).await?;
        let Some(mut lease) = taken else { return Ok(PassReport::default()) };
        let outcome = self.run_under(&mut lease, until).await;
        let released = lease.release(store).await;
        let report = outcome?;
        released.map(|()| report)
    }

    async fn run_under(
        self: &Arc<Self>,
        lease: &mut Lease,
        until: Instant,
    ) -> Result<PassReport, StoreError> {
        let (store, began) = (&self.names.store, Micros::of(clock::wall()));
        let before = checks_settled(store).await?;
        let settled = before.unwrap_or_default();
        let mut tally = Tally::default();
        let candidates = self.candidates(settled, began, until, &mut tally.report).await?;
        let beyond = candidates.beyond;
        tally.report.lease = self.look_at(candidates.in_order(), lease, until, &mut tally).await;
        tally.report.left = tally.open.len();
        if tally.report.lease == LeaseState::Held && tally.report.is_index_read {
            let left = tally.open.values().copied().min();
            put_checks_settled(store, settled_after(began, earliest(left, beyond), tally.unsettled)).await?;
        }
        Ok(tally.report)
    }

    /// The names that may be due, by the index from its beginning.
    async fn candidates(
        &self,
        settled: Micros,
        now: Micros,
        until: Instant,
        report: &mut PassReport,
    ) -> Result<Candidates, StoreError> {
        let mut candidates = Candidates::default();
        for shard in SHARDS {
            let mut place = None;
            loop {
                if clock::now() >= until {
                    return Ok(candidates);
                }
                let page = feed_page(&self.names.store, shard, Micros::default(), place, ROWS).await?;
                report.malformed += page.faults.len();
                for record in &page.records {
                    candidates.consider(record, settled, self.names.rules.interval, now);
                }
                place = page.next;
                if place.is_none() {
                    break;
                }
            }
        }
        report.is_index_read = true;
        Ok(candidates)
    }

    async fn look_at(
        self: &Arc<Self>,
        order: Vec<Candidate>,
        lease: &mut Lease,
        until: Instant,
        tally: &mut Tally,
    ) -> LeaseState {
        tally.open = order.iter().map(|one| (one.pattern.clone(), one.since)).collect();
        if order.is_empty() || clock::now() >= until {
            return LeaseState::Held;
        }
        // Unknown, where a CA does not say it in time: what may be permitted is not taken for forbidden.
        let limit = IDENTITIES.min(until.saturating_duration_since(clock::now()));
        let identities = timeout(limit, self.names.looker.identities()).await.unwrap_or_default();
        let (identities, pace) = (Arc::new(identities), Arc::new(Mutex::new(self.pace())));
        let (mut backlog, mut looks) = (Backlog::new(order, AT_ONCE), JoinSet::new());
        let mut renewals = interval_at((clock::now() + RENEW).into(), RENEW);
        let end = sleep_until(until.into());
        tokio::pin!(end);
        loop {
            while looks.len() < AT_ONCE
                && let Some(Candidate { pattern, tenant, .. }) = backlog.take()
            {
                let (this, identities, pace) = (Arc::clone(self), Arc::clone(&identities), Arc::clone(&pace));
                looks.spawn(async move {
                    let looked = this.look(&pattern, identities.as_deref(), &pace).await;
                    (pattern, tenant, looked)
                });
            }
            // Those that are under way at the end are dropped with `looks`.
            tokio::select! {
                looked = looks.join_next() => match looked {
                    None => return LeaseState::Held,
                    Some(Ok((pattern, tenant, looked))) => {
                        backlog.ended(&tenant);
                        tally.note(Some((pattern, looked)));
                    }
                    Some(Err(_)) => tally.note(None),
                },
                () = &mut end => return LeaseState::Held,
                _ = renewals.tick() => {
                    if !lease.hold_on(&self.names.store, LEASE).await {
                        return LeaseState::Lost;
                    }
                }
            }
        }
    }

    /// Looks begin at this pace; what is merely read does not count.
    fn pace(&self) -> Interval {
        let mut pace = interval(Duration::from_secs(1) / self.per_second.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace
    }

    async fn look(&self, pattern: &Pattern, identities: Option<&[String]>, pace: &Mutex<Interval>) -> Looked {
        match self.try_look(pattern, identities, pace).await {
            Ok(looked) => looked,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                warn!(%pattern, error, "a name cannot be checked now");
                Looked::Failed
            }
        }
    }

    async fn try_look(
        &self,
        pattern: &Pattern,
        identities: Option<&[String]>,
        pace: &Mutex<Interval>,
    ) -> Result<Looked, StoreError> {
        let Some(entry) = self.names.read(pattern).await? else { return Ok(Looked::Gone) };
        if !is_due(&entry.record, entry.old.as_ref(), self.names.rules, Micros::of(clock::wall())) {
            let is_unsettled = entry.old.is_some_and(|old| is_unsettled(entry.record.status, &old));
            return Ok(Looked::NotDue { is_unsettled });
        }
        pace.lock().await.tick().await;
        let (checks, standing) = self.names.look(&entry, identities).await?;
        let Some(standing) = standing else {
            let is_unsettled = is_unsettled(entry.record.status, &checks);
            return Ok(Looked::Done { is_changed: false, is_unsettled });
        };
        let (store, version, why) =
            (&self.names.store, entry.record.version, self.names.rules.why(standing, &checks));
        match follow_checks(store, pattern, version, standing, why, self.audit_kept).await {
            Ok(Decision { report, .. }) => {
                Ok(Looked::Done { is_changed: say_changed(pattern, &report, why), is_unsettled: false })
            }
            Err(ChangeError::Store(error)) => Err(error),
            // Somebody has changed it meanwhile: the next look sees what it is now.
            Err(ChangeError::Refused(_) | ChangeError::Contended(_)) => {
                Ok(Looked::Done { is_changed: false, is_unsettled: true })
            }
        }
    }
}

impl Tally {
    /// A look that panicked leaves its name open.
    fn note(&mut self, looked: Option<(Pattern, Looked)>) {
        let report = &mut self.report;
        let Some((pattern, looked)) = looked else {
            report.failed += 1;
            return;
        };
        let since = self.open.remove(&pattern);
        let is_unsettled = match looked {
            Looked::Gone => false,
            Looked::NotDue { is_unsettled } => {
                report.not_due += 1;
                is_unsettled
            }
            Looked::Done { is_changed, is_unsettled } => {
                report.looked_at += 1;
                report.changed += usize::from(is_changed);
                is_unsettled
            }
            Looked::Failed => {
                report.failed += 1;
                true
            }
        };
        if is_unsettled {
            self.unsettled = earliest(self.unsettled, since);
        }
    }
}

/// Looks at once. A function has 1,024 files, and a look may take seven: three questions to two DNS servers each, and the table.
const AT_ONCE: usize = 128;
/// Rows of a call, which ends after a megabyte anyway.
const ROWS: u16 = 4_000;
/// For the directories of all CAs.
const IDENTITIES: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_settled_holds_turns_open_and_what_is_not_known_of_is_left() {
        let pattern = |i: u64| Pattern::parse(&format!("site-{i}.example")).unwrap();
        let open = (0..7).map(|i| (pattern(i), Micros::from_epoch(i))).collect();
        let mut tally = Tally { open, ..Tally::default() };
        for (i, looked) in [
            (0, Looked::Gone),
            (1, Looked::NotDue { is_unsettled: false }),
            (2, Looked::Done { is_changed: true, is_unsettled: false }),
        ] {
            tally.note(Some((pattern(i), looked)));
        }
        assert_eq!(tally.unsettled, None);
        for (i, looked) in [
            (5, Looked::Failed),
            (4, Looked::Done { is_changed: false, is_unsettled: true }),
            (3, Looked::NotDue { is_unsettled: true }),
        ] {
            tally.note(Some((pattern(i), looked)));
            assert_eq!(tally.unsettled, Some(Micros::from_epoch(i)));
        }
        // A look that panicked.
        tally.note(None);
        assert_eq!(tally.open.into_keys().collect::<Vec<_>>(), [pattern(6)]);
        let PassReport { looked_at, changed, not_due, failed, .. } = tally.report;
        assert_eq!((looked_at, changed, not_due, failed), (2, 1, 2, 2));
    }
}
