//! Whether memory runs out: looked at twice a second by the control plane, heeded by the workers as one atomic.
//!
//! A process that meets its cgroup's `memory.max` is killed with all its connections. Before that it takes no more: new
//! connections to TLS ports are refused, and those that are open go on. The cleartext port stays open, since health is asked
//! there; it says 503 when the shortage lasts, so that a balancer looks elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::warn;

use crate::{
    config::{self, Live},
    telemetry::resident_bytes,
    worker::Connections,
};

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    None,
    /// New connections are refused.
    Begun,
    /// For so long that health says it.
    Lasting,
}

/// Keeps `connections` and `shortage` in step with what is used.
pub(super) async fn watch_over(
    limits: Live<config::Limits>,
    connections: Connections,
    shortage: watch::Sender<Shortage>,
) {
    let cgroup = Cgroup::own();
    let uses = || {
        let set = limits.now().memory.map(config::ByteSize::bytes);
        let process = set.and_then(|limit| Some(Use { used: resident_bytes()?, limit }));
        process.into_iter().chain(cgroup.as_ref().and_then(Cgroup::usage))
    };
    let (mut since, mut given_back) = (None, None);
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        let now = ticks.tick().await.into_std();
        let mut short = begun(since, uses(), now);
        if short.is_some() && is_due(given_back, now) {
            give_back_freed();
            given_back = Some(now);
            short = begun(since, uses(), now);
        }
        since = short;
        let next = judge(since, now);
        connections.shed(next != Shortage::None);
        shortage.send_if_modified(|told| {
            if *told == Shortage::None && next != Shortage::None {
                warn!("memory is nearly used up; new connections to TLS ports are refused");
            }
            std::mem::replace(told, next) != next
        });
    }
}

/// What is used of what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    used: u64,
    limit: u64,
}

impl Use {
    fn is_above(self, percent: u64) -> bool {
        self.used.saturating_mul(100) >= self.limit.saturating_mul(percent)
    }
}

/// Since when it has been short: it begins at nine tenths, and ends only when there is some room again.
fn begun(since: Option<Instant>, uses: impl Iterator<Item = Use>, now: Instant) -> Option<Instant> {
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

fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= GIVE_BACK_PERIOD)
}

/// Has the allocator give freed pages back to the kernel (`malloc_trim(3)`). By itself it keeps them: what a peak had taken
/// would count as used for ever, and the instance would never take a connection again.
#[expect(unsafe_code, reason = "libc only declares it")]
fn give_back_freed() {
    // SAFETY: it takes each arena's own lock, and touches free memory only.
    unsafe { libc::malloc_trim(0) };
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
    fn usage(&self) -> Option<Use> {
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
        Some(Use { used: current.saturating_sub(spare), limit })
    }
}

const PERIOD: Duration = Duration::from_millis(500);
/// A balancer that took an instance out at every peak would only move the peak.
const LASTING: Duration = Duration::from_secs(10);
/// It holds up whoever allocates meanwhile: of 346 MB in pieces 98 ms the first time, and 11 ms when little was left to give.
const GIVE_BACK_PERIOD: Duration = Duration::from_secs(5);
const BEGINS_AT: u64 = 90;
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
            since = begun(since, [Use { used, limit: 100 }].into_iter(), at(second));
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
        assert_eq!(cgroup.usage(), Some(Use { used: 650, limit: 2000 }));
    }
}
