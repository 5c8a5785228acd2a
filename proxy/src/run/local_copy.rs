//! A copy, on this machine, of what the instance serves: when it is written, and that a start uses it at which the tables do not answer.
//! Not here: the file (`store::local_copy`), what entries and certificates mean (`domains`, `certificates`).
//! Invariants: nothing of the data plane waits for it, since it is a task of the control plane; it is written only while the tables are
//! known to say the same (`a_restart_without_table_and_ca_serves_what_was_served_before`); it never holds more than it may
//! (`names_used_last_are_copied_as_far_as_they_fit`).

mod composition;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use prometheus::{IntGauge, Registry};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::MissedTickBehavior,
};
use tracing::{debug, info, warn};

use self::composition::compose;
use crate::{
    certificates::{Certificates, HeldCertificate},
    clock,
    config::StoreConfig,
    domains::{CopiedNames, Domains},
    label,
    store::{
        Store,
        instant::Micros,
        local_copy::{self, CopyContents, LocalCopy, LocalCopyError, ReadCopy},
        probe::{self, TablesSeen},
    },
    telemetry::{
        admit_line,
        metrics::{Counters, gauge},
    },
};

/// The task that keeps the copy; dropped, it writes no more.
pub(super) struct CopyTask {
    task: JoinHandle<()>,
    ending: watch::Sender<bool>,
}

impl CopyTask {
    /// Writes what is served at the end, within `limit`.
    pub(super) async fn end(mut self, limit: Duration) {
        self.ending.send_replace(true);
        let _ = tokio::time::timeout(limit, &mut self.task).await;
    }
}

impl Drop for CopyTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a copy is made of, and restored to.
pub(super) struct CopyParts<'a> {
    pub(super) store: &'a Store,
    pub(super) domains: &'a Domains,
    pub(super) certificates: &'a Certificates,
}

/// Serves by the copy of `config` if the tables were `seen` to be silent, and keeps it; `None` where the settings want none.
pub(super) async fn start(
    config: &StoreConfig,
    parts: CopyParts<'_>,
    seen: TablesSeen,
    control: &Handle,
    registry: &Registry,
) -> Result<Option<CopyTask>, prometheus::Error> {
    let metrics = CopyMetrics::register(registry)?;
    let Some(folder) = config.local_copy.clone() else { return Ok(None) };
    let Some(copy) = parts.store.local_copy(&folder) else { return Ok(None) };
    let mut keeper = CopyKeeper {
        copy,
        folder,
        most_bytes: config.local_copy_size.bytes(),
        store: parts.store.clone(),
        domains: parts.domains.clone(),
        certificates: parts.certificates.clone(),
        metrics,
        usage: CopyUse::Undecided,
        written: None,
        due_at: clock::now() + LEAST_PAUSE,
    };
    keeper.decide(seen).await;
    let (ending, told) = watch::channel(false);
    Ok(Some(CopyTask { task: control.spawn(keeper.run(told)), ending }))
}

/// What becomes of the copy in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyUse {
    /// The tables were not seen to answer yet, and the copy is not used: they are being read, or what opens it does not answer.
    Undecided,
    /// The tables have answered, or there is nothing to use: it is written.
    Unneeded,
    /// The tables have not answered since the start: it is used, and stays as it is.
    InUse,
}

/// Whether the domains table, if there is one, was read whole since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NamesRead {
    No,
    Yes,
}

/// What follows from what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyStep {
    Stay,
    /// The copy is opened, and used if that can be done.
    Open,
    /// The tables say what is served from now on.
    End,
}

impl CopyUse {
    fn next(self, tables: TablesSeen, names: NamesRead) -> CopyStep {
        match (self, tables, names) {
            (Self::Unneeded, ..)
            | (Self::Undecided | Self::InUse, TablesSeen::Answering, NamesRead::No)
            | (Self::InUse, TablesSeen::Silent, _) => CopyStep::Stay,
            (Self::Undecided, TablesSeen::Silent, _) => CopyStep::Open,
            (Self::Undecided | Self::InUse, TablesSeen::Answering, NamesRead::Yes) => CopyStep::End,
        }
    }
}

struct CopyKeeper {
    copy: LocalCopy,
    folder: PathBuf,
    most_bytes: u64,
    store: Store,
    domains: Domains,
    certificates: Certificates,
    metrics: CopyMetrics,
    usage: CopyUse,
    written: Option<Written>,
    due_at: Instant,
}

/// What was written last.
struct Written {
    at: Instant,
    fingerprint: Fingerprint,
}

type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

impl CopyKeeper {
    async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_ending = tokio::select! {
                _ = ending.wait_for(|is_ending| *is_ending) => true,
                _ = ticks.tick() => false,
            };
            if self.usage != CopyUse::Unneeded && !is_ending {
                let seen = probe::look(&self.store, self.domains.table_use()).await;
                self.decide(seen).await;
            }
            if is_ending || self.due_at <= clock::now() {
                self.write().await;
            }
            if is_ending {
                return;
            }
        }
    }

    /// Once the tables have answered, what is in memory is followed as ever.
    async fn decide(&mut self, seen: TablesSeen) {
        let names = if self.domains.is_unread() { NamesRead::No } else { NamesRead::Yes };
        self.usage = match self.usage.next(seen, names) {
            CopyStep::Stay => self.usage,
            CopyStep::Open => self.open().await,
            CopyStep::End => {
                if self.usage == CopyUse::InUse {
                    info!("the tables answer: the local copy is not used any more");
                }
                CopyUse::Unneeded
            }
        };
        self.metrics.in_use.set(i64::from(self.usage == CopyUse::InUse));
    }

    async fn open(&self) -> CopyUse {
        match self.copy.read().await {
            Ok(Some(read)) => self.restore(read).await,
            Ok(None) => {
                info!(directory = %self.folder.display(), "the tables do not answer, and there is no local copy");
                CopyUse::Unneeded
            }
            Err(error) => {
                warn_of(&error, "the tables do not answer, and the local copy cannot be used");
                if error.may_pass() { CopyUse::Undecided } else { CopyUse::Unneeded }
            }
        }
    }

    async fn restore(&self, read: ReadCopy) -> CopyUse {
        let (certificates, domains, now) = (self.certificates.clone(), self.domains.clone(), clock::wall());
        let ReadCopy { contents: CopyContents { written_at, entries, certificates: copied }, left_out } =
            read;
        let are_current = is_current(written_at, Micros::of(now));
        // Each certificate is parsed and compared with its key: not on a thread that others wait for.
        let restored = spawn_blocking(move || {
            let presented = certificates.restore(&copied, now);
            (if are_current { domains.restore(&entries) } else { 0 }, presented)
        });
        let (entries, presented) = restored.await.unwrap_or_default();
        warn!(
            entries, certificates = presented, left_out, written_at = %written_at,
            "the tables do not answer: names of the local copy are served"
        );
        if !are_current {
            let days = OLDEST.as_secs() / DAY_SECONDS;
            warn!(written_at = %written_at, days, "the local copy is too old to say which names are served");
        }
        if left_out > 0 {
            warn!(
                left_out,
                "parts of the local copy were cut or changed since it was written, and are left out"
            );
        }
        CopyUse::InUse
    }

    async fn write(&mut self) {
        if self.usage != CopyUse::Unneeded || !self.domains.is_listed_now() {
            return;
        }
        self.due_at = clock::now() + LEAST_PAUSE;
        match self.write_if_changed().await {
            Ok(None) => {}
            Ok(Some((bytes, certificates))) => {
                self.due_at = clock::now() + pause_after(bytes);
                self.metrics.writes.bump(CopyWrite::Written);
                self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
                self.metrics.certificates.set(i64::try_from(certificates).unwrap_or(i64::MAX));
                debug!(bytes, certificates, "the local copy was written");
            }
            Err(error) => {
                self.metrics.writes.bump(CopyWrite::Failed);
                warn_of(&error, "the local copy could not be written");
            }
        }
    }

    /// Bytes and certificates of what was written; `None` if it would be the same.
    async fn write_if_changed(&mut self) -> Result<Option<(u64, usize)>, LocalCopyError> {
        let (now, domains) = (clock::wall(), self.domains.clone());
        let held = self.certificates.held_for_copy(now);
        let seen = spawn_blocking(move || {
            let patterns: Vec<_> = held.iter().map(|held| held.pattern.clone()).collect();
            let fingerprint = fingerprint(&held, &domains.copied_names(&patterns, &[]));
            (held, fingerprint)
        });
        let Ok((held, fingerprint)) = seen.await else { return Ok(None) };
        let is_there = local_copy::look(&self.folder).is_ok_and(|found| found.is_some());
        let is_same = self.written.as_ref().is_some_and(|written| {
            written.fingerprint == fingerprint
                && clock::now().saturating_duration_since(written.at) < LONGEST_PAUSE
        });
        if is_there && is_same {
            return Ok(None);
        }
        let former = match self.copy.read().await {
            Ok(read) => read.map(|read| read.contents),
            Err(error) if error.may_pass() => return Err(error),
            Err(error) => {
                warn_of(&error, "the local copy cannot be read, and is written anew");
                None
            }
        };
        let (domains, most) = (self.domains.clone(), self.most_bytes);
        let composed = spawn_blocking(move || {
            compose(held, former, most, Micros::of(now), |patterns, former| {
                domains.copied_names(patterns, former)
            })
        });
        let Ok(contents) = composed.await else { return Ok(None) };
        let bytes = self.copy.write(&contents).await?;
        self.written = Some(Written { at: clock::now(), fingerprint });
        Ok(Some((bytes, contents.certificates.len())))
    }
}

/// Whether entries that were written then may serve now.
fn is_current(written_at: Micros, now: Micros) -> bool {
    now.since(written_at) <= OLDEST
}

/// Says the same of what goes on failing once a minute.
fn warn_of(error: &LocalCopyError, what: &'static str) {
    if let Some(left_out) = admit_line(what, "") {
        let error: &dyn std::error::Error = error;
        warn!(error, left_out, "{what}");
    }
}

/// What is held, and by which entries it is served: the same as long as another copy would hold the same, times apart.
fn fingerprint(held: &[HeldCertificate], names: &CopiedNames) -> Fingerprint {
    let mut held: Vec<_> = held.iter().map(|held| (held.pattern.to_string(), held.leaf())).collect();
    held.sort();
    let mut context = digest::Context::new(&digest::SHA256);
    for (pattern, leaf) in held {
        // No name has a zero byte, and DER says its length.
        for part in [pattern.as_bytes(), &[0], leaf] {
            context.update(part);
        }
    }
    context.update(&serde_json::to_vec(&names.entries).unwrap_or_default());
    let mut hash = Fingerprint::default();
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

/// A disk is written to for a part of the time, however much is copied and however often it changes.
fn pause_after(bytes: u64) -> Duration {
    LEAST_PAUSE + Duration::from_secs(bytes / BYTES_PER_SECOND)
}

label! {
    /// How an attempt to write the local copy ended.
    enum CopyWrite["outcome"] {
        Written = "written",
        Failed = "failed",
    }
}

struct CopyMetrics {
    in_use: IntGauge,
    bytes: IntGauge,
    certificates: IntGauge,
    writes: Counters<CopyWrite>,
}

/// Registers this module's metrics for a list of all.
pub(super) fn declare_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    CopyMetrics::register(registry).map(drop)
}

impl CopyMetrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            in_use: gauge(
                registry,
                "gatehouse_local_copy_in_use",
                "1 while names are served by the local copy, since the tables have not answered since the start.",
            )?,
            bytes: gauge(
                registry,
                "gatehouse_local_copy_bytes",
                "Size of the local copy that this process wrote last; 0 before it has written one.",
            )?,
            certificates: gauge(
                registry,
                "gatehouse_local_copy_certificates",
                "Certificates in the local copy that this process wrote last; 0 before it has written one.",
            )?,
            writes: Counters::register(
                registry,
                "gatehouse_local_copy_writes_total",
                "Attempts to write the local copy.",
            )?,
        })
    }
}

/// Longer than tables are down unnoticed; an entry that was removed meanwhile is not followed for ever. As `domains` remembers entries.
const OLDEST: Duration = Duration::from_hours(7 * 24);
const DAY_SECONDS: u64 = 24 * 60 * 60;
const PERIOD: Duration = Duration::from_secs(10);
/// Between two copies, if they are small.
const LEAST_PAUSE: Duration = Duration::from_secs(30);
/// What stays the same is written again all the same, since its age counts.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
const BYTES_PER_SECOND: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn at(seconds_ago: u64) -> Micros {
        Micros::of_seconds(NOW - seconds_ago)
    }

    #[test]
    fn a_copy_is_used_only_until_the_tables_have_answered_once() {
        use CopyUse::{InUse, Undecided, Unneeded};
        use TablesSeen::{Answering, Silent};
        for (usage, tables, names, step) in [
            (Undecided, Silent, NamesRead::No, CopyStep::Open),
            // There is no table of names, or it was read and is gone again.
            (Undecided, Silent, NamesRead::Yes, CopyStep::Open),
            (Undecided, Answering, NamesRead::No, CopyStep::Stay),
            (Undecided, Answering, NamesRead::Yes, CopyStep::End),
            (InUse, Silent, NamesRead::No, CopyStep::Stay),
            (InUse, Silent, NamesRead::Yes, CopyStep::Stay),
            (InUse, Answering, NamesRead::No, CopyStep::Stay),
            (InUse, Answering, NamesRead::Yes, CopyStep::End),
            (Unneeded, Silent, NamesRead::No, CopyStep::Stay),
            (Unneeded, Silent, NamesRead::Yes, CopyStep::Stay),
            (Unneeded, Answering, NamesRead::Yes, CopyStep::Stay),
        ] {
            assert_eq!(usage.next(tables, names), step, "{usage:?} {tables:?} {names:?}");
        }
    }

    #[test]
    fn what_a_copy_says_of_names_is_believed_for_a_week() {
        let week = 7 * DAY_SECONDS;
        for (seconds_ago, is_used) in [(0, true), (week, true), (week + 1, false), (52 * week, false)] {
            assert_eq!(is_current(at(seconds_ago), at(0)), is_used, "{seconds_ago} s");
        }
        assert!(is_current(at(0), at(3_600)), "a clock that was set back");
    }

    #[test]
    fn what_is_large_is_written_seldom() {
        for (bytes, seconds) in [(0, 30), (1_000_000, 40), (64 << 20, 701)] {
            assert_eq!(pause_after(bytes), Duration::from_secs(seconds), "{bytes}");
        }
    }
}
