//! Following the table's feed of changes: at first and every hour all of it, in between each second what came since.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{Inner, Progress, metrics::Reading};
use crate::store::{
    Store, StoreError,
    domain_table::{self, Record, SHARDS, Shard},
    instant::Micros,
};

/// The task that follows the feed; it ends with its last owner.
pub(super) struct Feed(JoinHandle<()>);

impl Feed {
    pub(super) fn follow(inner: Arc<Inner>, table: Option<Store>) -> Self {
        let control = inner.control.clone();
        Self(control.spawn(async move { Follower::new(inner, table).run().await }))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Follower {
    inner: Arc<Inner>,
    table: Option<Store>,
    course: Course,
    read_at: Instant,
    reported: HashSet<String>,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Full,
    Changes,
}

/// How far the feed was read.
#[derive(Debug, Clone, Copy)]
struct Course {
    /// The latest change seen, shard by shard.
    cursors: [Micros; SHARDS.len()],
    full_at: Option<Instant>,
}

impl Course {
    fn next(&self, now: Instant) -> Step {
        match self.full_at {
            Some(at) if now.saturating_duration_since(at) < FULL_PERIOD => Step::Changes,
            _ => Step::Full,
        }
    }

    /// Where to read from: an index shows changes late and not in their order.
    fn from(&self, step: Step) -> [Micros; SHARDS.len()] {
        match step {
            Step::Full => [Micros::default(); SHARDS.len()],
            Step::Changes => self.cursors.map(|cursor| cursor.less(OVERLAP)),
        }
    }

    /// Shard by shard the latest change that was read. One dated ahead of our clock does not carry the cursor past changes to come.
    fn advance(&mut self, latest: [Micros; SHARDS.len()], now: Micros) {
        for (cursor, latest) in self.cursors.iter_mut().zip(latest) {
            *cursor = (*cursor).max(latest.min(now));
        }
    }
}

impl Follower {
    fn new(inner: Arc<Inner>, table: Option<Store>) -> Self {
        let course = Course { cursors: Default::default(), full_at: None };
        Self { inner, table, course, read_at: Instant::now(), reported: HashSet::new() }
    }

    async fn run(mut self) {
        let mut ticks = interval((*self.inner.config.poll).max(MIN_POLL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_down = false;
        loop {
            ticks.tick().await;
            // Names the ask endpoint allowed are told on the same beat, table or no table.
            self.inner.ledger.publish_remembered(Instant::now());
            let Some(store) = self.table.clone() else { continue };
            let read = self.read(&store, Instant::now(), SystemTime::now()).await;
            match &read {
                Err(error) if !was_down => {
                    let error: &dyn std::error::Error = error;
                    warn!(error, "the domains table cannot be read; names that are known go on being served");
                }
                Ok(()) if was_down => info!("the domains table can be read again"),
                Ok(()) | Err(_) => {}
            }
            was_down = read.is_err();
            let lag = i64::try_from(self.read_at.elapsed().as_secs()).unwrap_or(i64::MAX);
            self.inner.metrics.lag_seconds.set(lag);
        }
    }

    async fn read(&mut self, store: &Store, now: Instant, clock: SystemTime) -> Result<(), StoreError> {
        let (step, clock) = (self.course.next(now), Micros::of(clock));
        let shards = match read_shards(store, self.course.from(step)).await {
            Ok(shards) => shards,
            Err(error) => {
                self.inner.metrics.readings.bump(Reading::Failed);
                self.inner.progress.send_if_modified(Progress::fail);
                return Err(error);
            }
        };
        let latest = shards.each_ref().map(Contents::latest);
        self.course.advance(latest, clock);
        self.read_at = now;
        self.report(step, &shards);
        let records: Vec<_> = shards.into_iter().flat_map(|shard| shard.records).collect();
        match step {
            Step::Full => {
                self.inner.ledger.reconcile(&records, clock);
                self.course.full_at = Some(now);
                self.inner.metrics.readings.bump(Reading::Full);
                self.inner.metrics.loaded.set(1);
                self.inner.progress.send_replace(Progress::Loaded);
            }
            Step::Changes => {
                self.inner.ledger.apply(&records);
                self.inner.metrics.readings.bump(Reading::Changes);
            }
        }
        Ok(())
    }

    /// Each fault once between full readings: the end of the feed is read again and again.
    fn report(&mut self, step: Step, shards: &[Contents]) {
        if step == Step::Full {
            self.reported.clear();
        }
        for fault in shards.iter().flat_map(|shard| &shard.faults) {
            let is_new = self.reported.len() < MAX_REPORTED && self.reported.insert(fault.to_string());
            if is_new {
                self.inner.metrics.misshapen.inc();
                warn!(%fault, "an item of the domains table is not served");
            }
        }
    }
}

/// What a shard was seen to hold.
#[derive(Default)]
struct Contents {
    records: Vec<Record>,
    faults: Vec<StoreError>,
}

impl Contents {
    fn latest(&self) -> Micros {
        self.records.iter().filter_map(|record| record.changed_at).max().unwrap_or_default()
    }
}

async fn read_shards(
    store: &Store,
    from: [Micros; SHARDS.len()],
) -> Result<[Contents; SHARDS.len()], StoreError> {
    let [a, b, c, d] = SHARDS;
    let [from_a, from_b, from_c, from_d] = from;
    let (a, b, c, d) = tokio::try_join!(
        read_shard(store, a, from_a),
        read_shard(store, b, from_b),
        read_shard(store, c, from_c),
        read_shard(store, d, from_d),
    )?;
    Ok([a, b, c, d])
}

async fn read_shard(store: &Store, shard: Shard, after: Micros) -> Result<Contents, StoreError> {
    let mut contents = Contents::default();
    domain_table::read_feed(store, shard, after, |read| match read {
        Ok(record) => contents.records.push(record),
        Err(fault) => contents.faults.push(fault),
    })
    .await?;
    Ok(contents)
}

const FULL_PERIOD: Duration = Duration::from_hours(1);
/// Beyond so many, somebody fills the table with something else.
const MAX_REPORTED: usize = 1000;
const OVERLAP: Duration = Duration::from_secs(15);
const MIN_POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feed_is_read_whole_at_first_and_every_hour() {
        let start = Instant::now();
        let mut course = Course { cursors: Default::default(), full_at: None };
        assert_eq!(course.next(start), Step::Full);
        course.full_at = Some(start);
        for (seconds, step) in [(1, Step::Changes), (3599, Step::Changes), (3600, Step::Full)] {
            assert_eq!(course.next(start + Duration::from_secs(seconds)), step, "{seconds} s");
        }
    }

    #[test]
    fn a_change_dated_ahead_does_not_hide_those_to_come() {
        let at = |seconds: u64| Micros::from_epoch(seconds * 1_000_000);
        let mut course = Course { cursors: Default::default(), full_at: None };
        for (latest, now, from) in [(100, 100, 85), (9_999, 120, 105), (110, 121, 105), (130, 130, 115)] {
            course.advance([at(latest); SHARDS.len()], at(now));
            assert_eq!(course.from(Step::Changes), [at(from); SHARDS.len()], "{latest} at {now}");
        }
        assert_eq!(course.from(Step::Full), [at(0); SHARDS.len()]);
    }
}
