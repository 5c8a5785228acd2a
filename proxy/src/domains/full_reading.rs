//! The domains table read whole: part by part, so that a million entries are not held beside what is made of them, and from where it
//! failed, so that a table that throttles is read all the same.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::spawn_blocking;

use super::{DomainsInner, seen_patterns::SeenPatterns};
use crate::{
    backoff::Backoff,
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{self, DomainRecord, FeedPage, FeedPlace, SHARDS, Shard},
        instant::Micros,
    },
};

/// What a full reading saw beside the records it took over.
#[derive(Debug)]
pub(super) struct FullReading {
    /// The latest change of each shard.
    pub(super) latest: [Micros; SHARDS.len()],
    /// Items that are no entries; of many, the first.
    pub(super) faults: Vec<StoreError>,
}

/// Reads the feed from its beginning and takes it over, `rows` at most in a call.
pub(super) async fn read_whole(
    inner: Arc<DomainsInner>,
    store: Store,
    began: Micros,
    rows: u16,
) -> Result<FullReading, StoreError> {
    let seen = Arc::new(Mutex::new(SeenPatterns::default()));
    let read = |shard| read_shard(Arc::clone(&inner), store.clone(), shard, Arc::clone(&seen), rows);
    let [a, b, c, d] = SHARDS;
    let (a, b, c, d) = tokio::try_join!(read(a), read(b), read(c), read(d))?;
    let shards = [a, b, c, d];
    let latest = shards.each_ref().map(|shard| shard.latest);
    let faults = shards.into_iter().flat_map(|shard| shard.faults).collect();
    on_a_thread(move || {
        inner.registry.end_reading(&seen.lock().unwrap_or_else(PoisonError::into_inner), began);
    })
    .await?;
    Ok(FullReading { latest, faults })
}

#[derive(Default)]
struct ShardReading {
    latest: Micros,
    faults: Vec<StoreError>,
}

async fn read_shard(
    inner: Arc<DomainsInner>,
    store: Store,
    shard: Shard,
    seen: Arc<Mutex<SeenPatterns>>,
    rows: u16,
) -> Result<ShardReading, StoreError> {
    let (mut reading, mut batch, mut place) = (ShardReading::default(), Vec::new(), None);
    loop {
        let FeedPage { records, faults, next } = page(&store, shard, place, rows).await?;
        reading.note(&records, &faults, &mut seen.lock().unwrap_or_else(PoisonError::into_inner));
        reading.faults.extend(faults.into_iter().take(MOST_FAULTS.saturating_sub(reading.faults.len())));
        batch.extend(records);
        if batch.len() >= BATCH || next.is_none() {
            let (inner, batch) = (Arc::clone(&inner), std::mem::take(&mut batch));
            // Each change of the snapshot copies a part of it: seldom, and on a thread of its own.
            on_a_thread(move || inner.registry.take_part(&batch)).await?;
        }
        place = match next {
            Some(next) => Some(next),
            None => return Ok(reading),
        };
    }
}

impl ShardReading {
    fn note(&mut self, records: &[DomainRecord], faults: &[StoreError], seen: &mut SeenPatterns) {
        for record in records {
            seen.insert(&record.pattern);
            self.latest = self.latest.max(record.changed_at.unwrap_or_default());
        }
        for pattern in faults.iter().filter_map(pattern_of) {
            seen.insert(&pattern);
        }
    }
}

/// A table that throttles for a while answers after it. One that does not answer at all is told at once: there is nothing to go on from.
async fn page(
    store: &Store,
    shard: Shard,
    place: Option<FeedPlace>,
    rows: u16,
) -> Result<FeedPage, StoreError> {
    let mut failures = 0;
    loop {
        // Boxed: four of them are read at once.
        let page = Box::pin(domain_table::feed_page(store, shard, Micros::default(), place.clone(), rows));
        match page.await {
            Err(error) if place.is_some() && error.is_unavailable() && failures < MOST_FAILURES => {
                failures += 1;
                tokio::time::sleep(PAUSES.after(failures)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whose item `fault` was found in.
fn pattern_of(fault: &StoreError) -> Option<Pattern> {
    match fault {
        StoreError::Misshapen { key, .. } => Pattern::parse(key).ok(),
        StoreError::Unavailable(_)
        | StoreError::NotDynamoDb(_)
        | StoreError::NoCredentials
        | StoreError::DiskFull(_)
        | StoreError::Conflict
        | StoreError::Denied(_)
        | StoreError::NoTable(_)
        | StoreError::Refused(_)
        | StoreError::Sealing(_) => None,
    }
}

async fn on_a_thread(work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    spawn_blocking(work).await.map_err(|ended| StoreError::Unavailable(ended.into()))
}

/// Rows of a call: it ends after a megabyte at the latest ("Query", API reference).
pub(super) const ROWS: u16 = 4_000;
/// Records that are held at most, in each shard: a copy of the snapshot for a million entries costs some ten milliseconds.
const BATCH: usize = 32_768;
/// More than are told.
const MOST_FAULTS: usize = 1_000;
/// Together a minute.
const MOST_FAILURES: u32 = 10;
const PAUSES: Backoff = Backoff::doubling(Duration::from_millis(200), Duration::from_secs(10));
