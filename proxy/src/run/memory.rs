//! Whether memory is short: measured ten times a second by the control plane, read by the workers as atomics.
//!
//! A process that reaches its cgroup's `memory.max` is killed with all its connections. From three quarters of it on, workers free what
//! they hold for clients that do not read (`worker::relief`), and certificates that nobody has asked for lately are dropped. If that is
//! not enough, new connections are refused: from nine tenths on those of sources with several, at least as many as others have, from 95 % on
//! all to TLS ports. Cleartext ports stay open for health checks, for few connections; the answer is 503 when the shortage lasts, so that
//! a load balancer sends its traffic elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::warn;

use crate::{
    certificates::Certificates,
    config::{self, Reloadable},
    telemetry::resident_bytes,
    worker::{Connections, Excess, Shedding},
};

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    None,
    /// New connections are refused.
    Begun,
    /// The same, for so long that health answers 503.
    Lasting,
}

/// Keeps `connections` and `shortage` in step with what is used.
pub(super) async fn watch_over(
    limits: Reloadable<config::LimitsConfig>,
    connections: Connections,
    excess: Excess,
    certificates: Certificates,
    shortage: watch::Sender<Shortage>,
) {
    let cgroup = Cgroup::own();
    let uses = || {
        let set = limits.load().memory.map(config::ByteSize::bytes);
        let process = set.and_then(|limit| Some(MemoryUse { used: resident_bytes()?, limit }));
        process.into_iter().chain(cgroup.as_ref().and_then(Cgroup::usage)).collect::<Vec<_>>()
    };
    let (mut since, mut published) = (None, None);
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        let now = ticks.tick().await.into_std();
        let measured = uses();
        since = begun(since, measured.iter().copied(), now);
        let to_free = measured.iter().map(|memory| memory.excess()).max().unwrap_or(0);
        if to_free > 0 && published.is_none_or(|at| now.saturating_duration_since(at) >= RELIEF_PERIOD) {
            excess.publish(usize::try_from(to_free).unwrap_or(usize::MAX));
            let certificates = certificates.clone();
            // A hundred thousand are looked through.
            drop(tokio::task::spawn_blocking(move || certificates.release(to_free)));
            published = Some(now);
        }
        let next = judge(since, now);
        connections.shed(match next {
            Shortage::None => Shedding::None,
            _ if measured.iter().any(|memory| memory.is_above(ALL_FROM)) => Shedding::All,
            Shortage::Begun | Shortage::Lasting => Shedding::Crowds,
        });
        shortage.send_if_modified(|told| {
            if *told == Shortage::None && next != Shortage::None {
                warn!("memory is nearly used up; new connections of sources that have many are refused");
            }
            std::mem::replace(told, next) != next
        });
    }
}

/// The memory this process may use, where that is bounded.
pub(super) fn limit(limits: &config::LimitsConfig) -> Option<u64> {
    let cgroup = Cgroup::own().and_then(|cgroup| cgroup.usage());
    let set = limits.memory.map(config::ByteSize::bytes);
    set.into_iter().chain(cgroup.map(|memory| memory.limit)).min()
}

/// Memory in use, and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MemoryUse {
    used: u64,
    limit: u64,
}

impl MemoryUse {
    /// What has to be freed, once three quarters are used, so that a third is free: a flood grows while memory is being freed.
    fn excess(self) -> u64 {
        let target = self.limit / 100 * RELIEVES_TO;
        if self.is_above(RELIEVES_AT) { self.used.saturating_sub(target) } else { 0 }
    }

    fn is_above(self, percent: u64) -> bool {
        self.used.saturating_mul(100) >= self.limit.saturating_mul(percent)
    }
}

/// Since when memory has been short: from nine tenths on, and until it has fallen clearly below.
fn begun(since: Option<Instant>, uses: impl Iterator<Item = MemoryUse>, now: Instant) -> Option<Instant> {
    let bound = if since.is_some() { ENDS_BELOW } else { BEGINS_AT };
    let short = uses.into_iter().any(|memory| memory.is_above(bound));
    short.then(|| since.unwrap_or(now))
}

fn judge(since: Option<Instant>, now: Instant) -> Shortage {
    match since {
        None => Shortage::None,
        Some(since) if now.saturating_duration_since(since) >= LASTING => Shortage::Lasting,
        Some(_) => Shortage::Begun,
    }
}

/// The control group of this process (cgroup v2), when its memory is bounded.
struct Cgroup(PathBuf);

impl Cgroup {
    fn own() -> Option<Self> {
        let line = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = line.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(Self(Path::new("/sys/fs/cgroup").join(path)))
    }

    /// None where there is no bound. Pages of files are left out, since the kernel takes them back before it kills; but not
    /// those that are mapped: the program itself is among them, and lives on if it is taken, too slowly for the watchdog.
    fn usage(&self) -> Option<MemoryUse> {
        let read = |file: &str| fs::read_to_string(self.0.join(file)).ok();
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let (limit, current) = (number("memory.max")?, number("memory.current")?);
        let stat = read("memory.stat")?;
        let field = |name: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let files = field("inactive_file").saturating_add(field("active_file"));
        let spare = files.saturating_sub(field("file_mapped"));
        Some(MemoryUse { used: current.saturating_sub(spare), limit })
    }
}

const PERIOD: Duration = Duration::from_millis(100);
/// A load balancer that took an instance out at every peak would only move the peak.
const LASTING: Duration = Duration::from_secs(10);
/// What was freed shows a little later: acted upon at once, the same excess would be freed twice.
const RELIEF_PERIOD: Duration = Duration::from_millis(250);
const RELIEVES_AT: u64 = 75;
const RELIEVES_TO: u64 = 65;
const BEGINS_AT: u64 = 90;
const ALL_FROM: u64 = 95;
const ENDS_BELOW: u64 = 85;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_begins_at_nine_tenths_and_ends_with_some_room() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut since = None;
        for (second, used, wanted) in [
            (0, 89, Shortage::None),
            (1, 90, Shortage::Begun),
            (2, 87, Shortage::Begun),
            (11, 86, Shortage::Lasting),
            (12, 84, Shortage::None),
            (13, 89, Shortage::None),
        ] {
            since = begun(since, [MemoryUse { used, limit: 100 }].into_iter(), at(second));
            assert_eq!(judge(since, at(second)), wanted, "{used} % at {second} s");
        }
        assert_eq!(begun(None, std::iter::empty(), start), None, "nothing bounds it");
    }

    #[test]
    fn pages_of_files_are_counted_only_where_they_are_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("memory.current", "1000\n");
        write("memory.stat", "anon 500\nfile 450\nfile_mapped 50\ninactive_file 300\nactive_file 100\n");
        write("memory.max", "max\n");
        let cgroup = Cgroup(folder.path().to_owned());
        assert_eq!(cgroup.usage(), None);
        write("memory.max", "2000\n");
        assert_eq!(cgroup.usage(), Some(MemoryUse { used: 650, limit: 2000 }));
    }
}
