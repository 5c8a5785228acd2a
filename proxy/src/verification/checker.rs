//! The job of one instance of the fleet, under a lease: looks at names when they are due, and has their entries follow.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use super::{
    metrics::VerificationMetrics,
    name_check::{JOB, LEASE, NameCheck, RENEW, is_looked_at, say_changed},
    schedule::{DueName, Schedule},
};
use crate::{
    clock,
    config::RequiredProof,
    domains::Domains,
    name::Pattern,
    phase::PhaseWatch,
    store::{
        StoreError,
        domain_table::DomainRecord,
        instant::Micros,
        state_table::lease::{Holder, Lease},
    },
    telemetry::admit_line,
};

/// What the job needs.
pub(super) struct Checker {
    pub(super) names: NameCheck,
    pub(super) per_second: u32,
    pub(super) domains: Domains,
    pub(super) metrics: VerificationMetrics,
    pub(super) holder: Holder,
    /// Those of our CAs, once these have said them.
    pub(super) identities: ArcSwap<Option<Vec<String>>>,
    /// Names by when they are due; none while another instance has the lease.
    pub(super) schedule: Arc<Mutex<Option<Schedule>>>,
}

/// What became of a look.
struct Looked {
    name: DueName,
    /// The entry as it is now; none, it is gone or no longer served.
    next: Option<(u64, Option<Duration>)>,
}

impl Checker {
    /// Does the job whenever this instance has the lease, until `phase` says that it ends.
    pub(super) async fn run(self, mut phase: PhaseWatch) {
        let this = Arc::new(self);
        this.domains.observe(Box::new({
            let schedule = Arc::clone(&this.schedule);
            move |records| tell(&schedule, records)
        }));
        let ends = async move { phase.wait_for(|phase| phase.is_end()).await.map(drop) };
        let works = async {
            loop {
                let taken = Lease::take(&this.names.store, JOB, &this.holder, LEASE, clock::wall()).await;
                match taken {
                    Ok(Some(lease)) => Arc::clone(&this).hold(lease).await,
                    Ok(None) => {}
                    Err(error) => debug!(%error, "the lease for checks of names cannot be taken"),
                }
                tokio::time::sleep(TAKE).await;
            }
        };
        tokio::select! {
            _ = ends => {}
            () = works => {}
        }
        this.release().await;
    }

    /// Looks at names until the lease is lost.
    async fn hold(self: Arc<Self>, mut lease: Lease) {
        *self.lock() = Some(Schedule::new(self.names.rules.interval, AT_ONCE, now()));
        self.metrics.is_checker.set(1);
        self.domains.read_anew();
        info!("this instance checks the names of the fleet");
        self.look_while_held(&mut lease).await;
        *self.lock() = None;
        self.metrics.is_checker.set(0);
        info!("another instance checks the names of the fleet");
    }

    async fn look_while_held(self: &Arc<Self>, lease: &mut Lease) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut renew_at, mut refresh_at) = (clock::now() + RENEW, clock::now());
        // Both end with the lease.
        let (mut looks, mut asked) = (JoinSet::new(), JoinSet::new());
        // A CA that was not asked yet is not one that does not answer.
        let mut first_look_at = clock::now() + IDENTITIES_WAIT;
        loop {
            let now = tokio::select! {
                Some(looked) = looks.join_next() => {
                    self.note(looked.ok());
                    continue;
                }
                Some(identities) = asked.join_next() => {
                    first_look_at = clock::now();
                    match identities {
                        Ok(Some(identities)) => self.identities.store(Arc::new(Some(identities))),
                        // Those that are known stay until then.
                        Ok(None) | Err(_) => refresh_at = clock::now() + REFRESH_AGAIN,
                    }
                    continue;
                }
                _ = ticks.tick() => clock::now(),
            };
            if self.names.rules.required != RequiredProof::None {
                // Who has just added a name waits for this instance to hear of it.
                self.domains.last_use().mark(now);
            }
            if now >= renew_at {
                if !lease.hold_on(&self.names.store, LEASE).await {
                    return;
                }
                renew_at = now + RENEW;
            }
            if now >= refresh_at {
                let this = Arc::clone(self);
                asked.spawn(async move { this.names.looker.identities().await });
                refresh_at = now + REFRESH;
            }
            if now >= first_look_at {
                self.start_due(&mut looks);
            }
        }
    }

    fn start_due(self: &Arc<Self>, looks: &mut JoinSet<Looked>) {
        let per_tick = usize::try_from(self.per_second).unwrap_or(usize::MAX);
        for name in self.due(AT_ONCE.saturating_sub(looks.len()).min(per_tick)) {
            let (this, pattern) = (Arc::clone(self), name.pattern.clone());
            looks.spawn(async move {
                // A task of its own, so that one that panics does not keep its name from being looked at again; it ends with this one.
                let mut look = JoinSet::new();
                look.spawn(async move { Box::pin(this.look(&pattern)).await });
                let next = look.join_next().await.and_then(Result::ok).unwrap_or(AGAIN);
                Looked { name, next }
            });
        }
    }

    async fn release(&self) {
        if self.lock().take().is_none() {
            return;
        }
        // Taken once more by its holder, to be given back.
        let now = clock::wall();
        if let Ok(Some(lease)) =
            Lease::take(&self.names.store, JOB, &self.holder, Duration::from_secs(1), now).await
        {
            let _ = lease.release(&self.names.store).await;
        }
    }

    fn due(&self, most: usize) -> Vec<DueName> {
        let mut schedule = self.lock();
        let Some(schedule) = schedule.as_mut() else { return Vec::new() };
        let now = now();
        schedule.prune(now);
        let due = schedule.take(most, now);
        self.metrics.scheduled.set(i64::try_from(schedule.len()).unwrap_or(i64::MAX));
        due
    }

    fn note(&self, looked: Option<Looked>) {
        let mut schedule = self.lock();
        if let (Some(schedule), Some(Looked { name, next })) = (schedule.as_mut(), looked) {
            schedule.ended(&name, next, now());
        }
    }

    /// Looks at the name of an entry and has it follow; says of which version it is then, and after what pause it is looked at again.
    async fn look(&self, pattern: &Pattern) -> Option<(u64, Option<Duration>)> {
        match self.try_look(pattern).await {
            Ok(next) => next,
            Err(error) => {
                if let Some(left_out) = admit_line("verification_failed", "") {
                    let error: &dyn std::error::Error = &error;
                    warn!(%pattern, error, left_out, "a name cannot be checked now");
                }
                AGAIN
            }
        }
    }

    async fn try_look(&self, pattern: &Pattern) -> Result<Option<(u64, Option<Duration>)>, StoreError> {
        let Some(entry) = self.names.read(pattern).await? else { return Ok(None) };
        let (checks, standing) = self.names.look(&entry, self.identities.load().as_deref()).await?;
        for finding in &checks.findings {
            self.metrics.findings.bump(finding.check, finding.outcome);
        }
        let record = entry.record;
        let record = match standing {
            None => record,
            Some(standing) => {
                let why = self.names.rules.why(standing, &checks);
                match self.domains.follow_checks(pattern, record.version, standing, why).await {
                    Ok((report, record)) => {
                        say_changed(pattern, &report, why);
                        record
                    }
                    // Somebody has changed it meanwhile: the next look sees what it is now.
                    Err(error) => {
                        debug!(%pattern, %error, "an entry does not follow its checks");
                        return Ok(Some((record.version, Some(AFTER_FAILURE))));
                    }
                }
            }
        };
        if !is_looked_at(record.status) {
            return Ok(None);
        }
        let pause = match standing {
            // Soon: the look at its certificate.
            Some(_) => Some(AFTER_CHANGE),
            None => self.names.rules.pause(record.status, record.changed_at, &checks),
        };
        Ok(Some((record.version, pause)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Schedule>> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(schedule: &Mutex<Option<Schedule>>, records: &[DomainRecord]) {
    let mut schedule = schedule.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(schedule) = schedule.as_mut() else { return };
    let now = now();
    for record in records {
        schedule.told(record, now);
    }
}

fn now() -> Micros {
    Micros::of(clock::wall())
}

/// Looks at once: most wait for DNS servers that do not answer.
const AT_ONCE: usize = 256;
const TAKE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_secs(1);
/// How long what a CA says of itself is believed.
const REFRESH: Duration = Duration::from_hours(6);
/// How long the first look waits for the directories of our CAs.
const IDENTITIES_WAIT: Duration = Duration::from_secs(10);
/// Until one that did not answer is asked again.
const REFRESH_AGAIN: Duration = Duration::from_mins(1);
const AFTER_CHANGE: Duration = Duration::from_secs(5);
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// After a look that came to nothing: of version 0, so that what the feed tells of the entry is news.
const AGAIN: Option<(u64, Option<Duration>)> = Some((0, Some(AFTER_FAILURE)));
