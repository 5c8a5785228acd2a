//! Following the table's feed of changes: at first and every hour all of it, and each second what came since.
//! Invariant: a full read delays no change, since it is a task of its own.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinError, JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    DomainsInner, ListingProgress,
    full_reading::{FullReading, ROWS, read_whole},
    metrics::FeedReading,
};
use crate::{
    clock,
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{self, DomainRecord, SHARDS, Shard},
        instant::{CLOCK_SKEW, Micros},
    },
    telemetry::admit_line,
};

/// The task that follows the feed; it ends with its last owner.
pub(super) struct Feed(JoinHandle<()>);

impl Feed {
    pub(super) fn follow(inner: Arc<DomainsInner>, table: Option<Store>) -> Self {
        let control = inner.control.clone();
        Self(control.spawn(async move { FeedFollower::new(inner, table).run().await }))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct FeedFollower {
    inner: Arc<DomainsInner>,
    table: Option<Store>,
    course: FeedPosition,
    /// The full reading under way, if there is one.
    full: JoinSet<Result<(ReadingStart, FullReading), StoreError>>,
    read_at: Instant,
    is_down: bool,
    reported: HashSet<String>,
}

/// The latest change of each shard.
type Latest = [Micros; SHARDS.len()];

#[derive(Debug, Clone, Copy)]
struct ReadingStart {
    at: Instant,
    clock: Micros,
}

/// How far the feed was read.
#[derive(Debug, Clone, Copy, Default)]
struct FeedPosition {
    /// Up to where, shard by shard.
    cursors: Latest,
    full_at: Option<Instant>,
    looked_back_at: Option<Instant>,
}

impl FeedPosition {
    fn is_full_due(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| now.saturating_duration_since(at) >= FULL_PERIOD)
    }

    /// A full reading failed: what is known is enough for another while. The first is tried again at once.
    fn postpone(&mut self) {
        self.full_at = self.full_at.map(|at| at + FULL_RETRY);
    }

    /// Where to read changes from: an index shows them late and not in their order.
    fn from(&self) -> Latest {
        self.cursors.map(|cursor| cursor.less(OVERLAP))
    }

    /// The same, at `now`; now and then from so far back that no clock of the fleet has dated a change before it: one that was written with
    /// a clock that is behind shows up before the cursor.
    fn next_from(&mut self, now: Instant) -> Latest {
        if self.looked_back_at.is_some_and(|at| now.saturating_duration_since(at) < LOOK_BACK_PERIOD) {
            return self.from();
        }
        self.looked_back_at = Some(now);
        self.from().map(|from| from.less(CLOCK_SKEW))
    }

    /// The latest change that was read carries the cursor; one dated ahead of our clock does not carry it past changes to come. When
    /// nothing comes it follows our clock from afar, or what came together at last would be read again each second for ever.
    fn advance(&mut self, latest: Latest, now: Micros) {
        for (cursor, latest) in self.cursors.iter_mut().zip(latest) {
            *cursor = (*cursor).max(latest.min(now)).max(now.less(QUIET));
        }
    }
}

impl FeedFollower {
    fn new(inner: Arc<DomainsInner>, table: Option<Store>) -> Self {
        let (course, full, reported) = (FeedPosition::default(), JoinSet::new(), HashSet::new());
        Self { inner, table, course, full, read_at: clock::now(), is_down: false, reported }
    }

    async fn run(mut self) {
        let mut ticks = interval((*self.inner.config.poll).max(MIN_POLL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                Some(full) = self.full.join_next() => Some(self.take_full(full)),
                _ = ticks.tick() => self.read_if_due(ReadingStart { at: clock::now(), clock: Micros::of(clock::wall()) }).await,
            };
            self.heed(outcome);
            self.follow_outage().await;
            if self.table.is_some() {
                let lag = i64::try_from(self.read_at.elapsed().as_secs()).unwrap_or(i64::MAX);
                self.inner.metrics.lag_seconds.set(lag);
            }
        }
    }

    async fn read_if_due(&mut self, now: ReadingStart) -> Option<Result<(), StoreError>> {
        // Names that the ask endpoint allowed are published at the same interval, with or without the table.
        self.inner.registry.publish_remembered(now.at);
        let store = self.table.clone()?;
        if self.full.is_empty() && (self.is_relisted() || self.course.is_full_due(now.at)) {
            let (inner, store) = (Arc::clone(&self.inner), store.clone());
            self.full.spawn(async move { Ok((now, read_whole(inner, store, now.clock, ROWS).await?)) });
        }
        // Until the first full reading nothing says where changes begin.
        self.course.full_at?;
        let since_read = now.at.saturating_duration_since(self.read_at);
        let is_due = is_due(self.inner.last_use.since(now.at), since_read, *self.inner.config.idle_poll);
        if is_due { Some(self.read_changes(&store, now).await) } else { None }
    }

    /// The table's entries of names that left the configuration's list are known to the table only.
    fn is_relisted(&self) -> bool {
        self.inner.relisted.swap(false, Ordering::AcqRel)
    }

    async fn read_changes(&mut self, store: &Store, now: ReadingStart) -> Result<(), StoreError> {
        let shards = read_shards(store, self.course.next_from(now.at)).await?;
        self.course.advance(shards.each_ref().map(ShardContents::latest), now.clock);
        self.read_at = now.at;
        let (records, faults) = sorted(shards);
        self.inner.registry.apply(&records);
        self.inner.metrics.readings.bump(FeedReading::Changes);
        self.report(&faults);
        Ok(())
    }

    fn take_full(
        &mut self,
        full: Result<Result<(ReadingStart, FullReading), StoreError>, JoinError>,
    ) -> Result<(), StoreError> {
        let full = full.unwrap_or_else(|ended| Err(StoreError::Unavailable(ended.into())));
        let (began, seen) = full.inspect_err(|_| self.course.postpone())?;
        self.course.advance(seen.latest, began.clock);
        self.course.full_at = Some(began.at);
        self.read_at = self.read_at.max(began.at);
        self.inner.metrics.readings.bump(FeedReading::Full);
        self.inner.metrics.loaded.set(1);
        self.inner.progress.send_replace(ListingProgress::Loaded);
        self.reported.clear();
        self.report(&seen.faults);
        Ok(())
    }

    /// Checks whether look-ups that failed work again, and reports the state of the table.
    async fn follow_outage(&self) {
        if let (Some(store), Ok(nobody)) = (&self.table, Pattern::parse(NOBODY))
            && self.inner.with_outage(|outage| outage.lookups_alone_fail())
        {
            let found = domain_table::find(store, &[nobody]).await;
            self.inner.with_outage(|outage| outage.looked_up(found.is_err(), clock::now()));
        }
        let lasts = self.inner.with_outage(|outage| outage.lasts(clock::now()));
        self.inner.metrics.readable.set(i64::from(!lasts));
        self.inner.progress.send_if_modified(|progress| progress.follow(lasts));
    }

    /// Logs at once and then each minute that the table cannot be read, and once that it can again.
    fn heed(&mut self, outcome: Option<Result<(), StoreError>>) {
        let Some(outcome) = outcome else { return };
        let was_down = std::mem::replace(&mut self.is_down, outcome.is_err());
        self.inner.with_outage(|outage| outage.feed_read(outcome.is_err(), clock::now()));
        match outcome {
            Err(error) => {
                self.inner.metrics.readings.bump(FeedReading::Failed);
                self.inner.progress.send_if_modified(ListingProgress::fail);
                if let Some(left_out) = admit_line("domains_table_unread", "") {
                    let error: &dyn std::error::Error = &error;
                    warn!(error, left_out, "the domains table cannot be read; known names are still served");
                }
            }
            Ok(()) if was_down => info!("the domains table can be read again"),
            Ok(()) => {}
        }
    }

    /// Each fault once between full readings: the end of the feed is read again and again.
    fn report(&mut self, faults: &[StoreError]) {
        for fault in faults {
            let is_new = self.reported.len() < MAX_REPORTED && self.reported.insert(fault.to_string());
            if is_new {
                self.inner.metrics.malformed.inc();
                warn!(%fault, "an item of the domains table is not served");
            }
        }
    }
}

/// Whether changes are to be read: at each turn while the instance is in use, seldom when nobody comes to it. The first who comes
/// is a sign, and what changed meanwhile is there with the next turn.
fn is_due(since_use: Duration, since_read: Duration, idle_poll: Duration) -> bool {
    since_use < idle_poll * 2 || since_read >= idle_poll
}

/// What a shard was seen to hold.
#[derive(Default)]
struct ShardContents {
    records: Vec<DomainRecord>,
    faults: Vec<StoreError>,
}

impl ShardContents {
    fn latest(&self) -> Micros {
        self.records.iter().filter_map(|record| record.changed_at).max().unwrap_or_default()
    }
}

fn sorted(shards: [ShardContents; SHARDS.len()]) -> (Vec<DomainRecord>, Vec<StoreError>) {
    let (mut records, mut faults) = (Vec::new(), Vec::new());
    for shard in shards {
        records.extend(shard.records);
        faults.extend(shard.faults);
    }
    (records, faults)
}

async fn read_shards(store: &Store, from: Latest) -> Result<[ShardContents; SHARDS.len()], StoreError> {
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

async fn read_shard(store: &Store, shard: Shard, after: Micros) -> Result<ShardContents, StoreError> {
    let (mut contents, mut place) = (ShardContents::default(), None);
    loop {
        // Boxed: four of them are read at once.
        let page = Box::pin(domain_table::feed_page(store, shard, after, place, ROWS)).await?;
        contents.records.extend(page.records);
        contents.faults.extend(page.faults);
        place = match page.next {
            Some(next) => Some(next),
            None => return Ok(contents),
        };
    }
}

/// A name that nobody has (RFC 6761 §6.4).
const NOBODY: &str = "gatehouse-reach.invalid";
const FULL_PERIOD: Duration = Duration::from_hours(1);
const FULL_RETRY: Duration = Duration::from_mins(1);
/// Beyond so many, somebody fills the table with something else.
const MAX_REPORTED: usize = 1000;
const OVERLAP: Duration = Duration::from_secs(15);
const LOOK_BACK_PERIOD: Duration = Duration::from_secs(30);
/// Twice [`CLOCK_SKEW`].
const QUIET: Duration = Duration::from_mins(10);
const MIN_POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feed_is_read_whole_at_first_and_every_hour() {
        let start = Instant::now();
        let mut course = FeedPosition::default();
        course.postpone();
        assert!(course.is_full_due(start));
        course.full_at = Some(start);
        for (seconds, due) in [(1, false), (3599, false), (3600, true)] {
            assert_eq!(course.is_full_due(start + Duration::from_secs(seconds)), due, "{seconds} s");
        }
        course.postpone();
        for (seconds, due) in [(3600, false), (3660, true)] {
            assert_eq!(
                course.is_full_due(start + Duration::from_secs(seconds)),
                due,
                "{seconds} s, postponed"
            );
        }
    }

    #[test]
    fn the_cursor_follows_changes_and_from_afar_the_clock() {
        let at = |seconds: u64| Micros::from_epoch(seconds * 1_000_000);
        let mut course = FeedPosition::default();
        for (what, latest, now, from) in [
            ("a change", 100, 100, 85),
            ("one dated ahead", 9_999, 120, 105),
            ("one that shows late", 110, 121, 105),
            ("the next", 130, 130, 115),
            ("nothing for a while", 0, 700, 115),
            ("nothing for long", 0, 1_330, 715),
        ] {
            course.advance([at(latest); SHARDS.len()], at(now));
            assert_eq!(course.from(), [at(from); SHARDS.len()], "{what}");
        }
    }

    #[test]
    fn a_change_by_a_clock_that_is_behind_is_found_within_half_a_minute() {
        let (start, at) = (Instant::now(), |seconds: u64| Micros::from_epoch(seconds * 1_000_000));
        let mut course = FeedPosition::default();
        course.advance([at(1_000); SHARDS.len()], at(1_000));
        let behind = at(1_000).less(CLOCK_SKEW);
        let mut found = Vec::new();
        for second in 0..=60 {
            let [from, ..] = course.next_from(start + Duration::from_secs(second));
            if from < behind {
                found.push(second);
            }
        }
        assert_eq!(found, [0, 30, 60]);
    }

    #[test]
    fn who_is_not_used_reads_seldom_and_the_first_client_ends_that() {
        let seconds = Duration::from_secs;
        for (since_use, since_read, due) in [
            (0, 1, true),
            (59, 1, true),
            (60, 1, false),
            (3_600, 29, false),
            (3_600, 30, true),
            (0, 30, true),
        ] {
            let found = is_due(seconds(since_use), seconds(since_read), seconds(30));
            assert_eq!(found, due, "used {since_use} s ago, read {since_read} s ago");
        }
    }
}
