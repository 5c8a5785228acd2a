//! Until when the guard enforces: decided each second, and written by a thread of its own so that a runtime that hangs ends
//! enforcement instead of prolonging it.
//! Invariant: whatever stops this thread, the last instant it wrote passes within [`LEASE`]
//! (`what_is_written_never_outlives_the_lease`).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use tracing::{error, info, warn};

use super::{
    error::GuardError, handover::MapsOrigin, heartbeat::Heartbeat, maps::EnforceUntil, metrics::GuardMetrics,
};

/// `CLOCK_MONOTONIC` in nanoseconds: the program's `bpf_ktime_get_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KernelTime(u64);

impl KernelTime {
    pub(super) fn now() -> nix::Result<Self> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Nanoseconds at `after` this instant.
    pub(super) fn plus(self, after: Duration) -> u64 {
        self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// How far the kernel's map of names is from the domain set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Names {
    /// The domain set has not been read yet.
    Unread = 0,
    /// The map holds it.
    Held = 1,
    /// It is larger than the map.
    Full = 2,
    /// The kernel refused an entry.
    Failed = 3,
    /// The domain set has not been read yet, and the map holds the whole one that a predecessor left.
    Inherited = 4,
}

impl Names {
    /// What is known of names found in the kernel, by where their maps are from and what `ENFORCE_UNTIL` said.
    pub(super) fn left_by(origin: MapsOrigin, until: u64) -> Self {
        match origin {
            MapsOrigin::Adopted if until != NOT_WHOLE => Self::Inherited,
            MapsOrigin::Adopted | MapsOrigin::Built => Self::Unread,
        }
    }

    /// Whether every name that is allowed, or was by the end of a predecessor, is in the map.
    fn are_whole(self) -> bool {
        match self {
            Self::Held | Self::Inherited => true,
            Self::Unread | Self::Full | Self::Failed => false,
        }
    }
}

/// What enforcement depends on at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    pub(super) names: Names,
    pub(super) worker_alive: bool,
    pub(super) draining: bool,
}

crate::label! {
    /// Whether the guard enforces, and if not, why.
    pub enum Enforcement["state"] {
        /// It does.
        On = "on",
        /// It does, by the names a predecessor left: the lists could not be read yet.
        Inherited = "inherited",
        /// This process drains.
        Draining = "draining",
        /// No worker turned its loop lately.
        WorkersSilent = "workers_silent",
        /// The names are not in the map yet.
        NamesUnread = "names_unread",
        /// There are more names than the map holds.
        NamesFull = "names_full",
        /// The kernel refused a name.
        NamesFailed = "names_failed",
    }
}

impl Conditions {
    fn enforcement(self) -> Enforcement {
        match self {
            Self { draining: true, .. } => Enforcement::Draining,
            Self { names: Names::Unread, .. } => Enforcement::NamesUnread,
            Self { names: Names::Full, .. } => Enforcement::NamesFull,
            Self { names: Names::Failed, .. } => Enforcement::NamesFailed,
            Self { worker_alive: false, .. } => Enforcement::WorkersSilent,
            Self { names: Names::Held, .. } => Enforcement::On,
            Self { names: Names::Inherited, .. } => Enforcement::Inherited,
        }
    }

    /// The value of `ENFORCE_UNTIL`: a lease from `now`, or how the names are left.
    fn enforce_until(self, now: KernelTime) -> u64 {
        match self.enforcement() {
            enforcement if enforcement.is_on() => now.plus(LEASE),
            _ if self.names.are_whole() => RESTING,
            _ => NOT_WHOLE,
        }
    }
}

impl Enforcement {
    /// Whether unknown names are rejected.
    pub(super) fn is_on(self) -> bool {
        match self {
            Self::On | Self::Inherited => true,
            Self::Draining
            | Self::WorkersSilent
            | Self::NamesUnread
            | Self::NamesFull
            | Self::NamesFailed => false,
        }
    }
}

/// What other modules' threads tell the enforcing one.
#[derive(Debug)]
struct EnforcementInputs {
    names: AtomicU8,
    draining: AtomicBool,
    ended: AtomicBool,
    enforcement: AtomicU8,
}

impl EnforcementInputs {
    fn new(names: Names) -> Self {
        Self {
            names: AtomicU8::new(names as u8),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            enforcement: AtomicU8::new(Enforcement::NamesUnread as u8),
        }
    }

    fn enforcement(&self) -> Enforcement {
        let index = usize::from(self.enforcement.load(Ordering::Relaxed));
        let all = <Enforcement as crate::telemetry::metrics::Label>::ALL;
        all.get(index).copied().unwrap_or(Enforcement::NamesUnread)
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire) || self.ended.load(Ordering::Acquire)
    }

    fn names(&self) -> Names {
        match self.names.load(Ordering::Acquire) {
            1 => Names::Held,
            2 => Names::Full,
            3 => Names::Failed,
            4 => Names::Inherited,
            _ => Names::Unread,
        }
    }

    fn conditions(&self, heartbeat: &Heartbeat, now: Instant) -> Conditions {
        Conditions {
            names: self.names(),
            worker_alive: heartbeat.is_alive(now, SILENCE),
            draining: self.draining(),
        }
    }
}

/// The enforcing thread; dropped, it ends enforcement and itself.
pub(super) struct Enforcer {
    board: Arc<EnforcementInputs>,
    thread: Mutex<Option<JoinHandle<()>>>,
    waker: Thread,
}

impl Enforcer {
    pub(super) fn start(
        names: Names,
        until: EnforceUntil,
        heartbeat: Arc<Heartbeat>,
        metrics: GuardMetrics,
    ) -> Result<Self, GuardError> {
        let board = Arc::new(EnforcementInputs::new(names));
        let turning = Arc::clone(&board);
        let thread = thread::Builder::new()
            .name("guard-enforce".into())
            .spawn(move || run(&turning, until, &heartbeat, &metrics))
            .map_err(GuardError::Thread)?;
        let waker = thread.thread().clone();
        Ok(Self { board, thread: Mutex::new(Some(thread)), waker })
    }

    /// Says how far the map of names is; takes effect at once.
    pub(super) fn names(&self, names: Names) {
        self.board.names.store(names as u8, Ordering::Release);
        self.wake();
    }

    /// What was decided last.
    pub(super) fn enforcement(&self) -> Enforcement {
        self.board.enforcement()
    }

    /// Whether enforcement has ended for good.
    pub(super) fn draining(&self) -> bool {
        self.board.draining()
    }

    /// Ends enforcement for good.
    pub(super) fn drain(&self) {
        self.board.draining.store(true, Ordering::Release);
        self.wake();
    }

    /// Ends enforcement and the thread, and waits for both.
    pub(super) fn end(&self) {
        self.board.ended.store(true, Ordering::Release);
        self.wake();
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            error!("the guard's thread panicked; enforcement ends by itself");
        }
    }

    fn wake(&self) {
        self.waker.unpark();
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(board: &EnforcementInputs, mut until: EnforceUntil, heartbeat: &Heartbeat, metrics: &GuardMetrics) {
    let mut last = Last::default();
    loop {
        let ended = board.ended.load(Ordering::Acquire);
        let conditions = board.conditions(heartbeat, Instant::now());
        let enforcement = conditions.enforcement();
        board.enforcement.store(enforcement as u8, Ordering::Relaxed);
        metrics.enforcement(enforcement);
        // A lease is renewed each time, an end written once: the successor that adopted the map may enforce by now.
        if enforcement.is_on() || last.written != Some(enforcement) {
            let written =
                KernelTime::now().is_ok_and(|now| until.write(conditions.enforce_until(now)).is_ok());
            last.wrote(enforcement, written);
        }
        if ended {
            return;
        }
        thread::park_timeout(PERIOD);
    }
}

/// What was written and logged last: a state is logged when it begins.
#[derive(Default)]
struct Last {
    written: Option<Enforcement>,
    said: Option<(Enforcement, bool)>,
    enforced: bool,
}

impl Last {
    fn wrote(&mut self, enforcement: Enforcement, written: bool) {
        self.written = written.then_some(enforcement);
        if self.said.replace((enforcement, written)) == Some((enforcement, written)) {
            return;
        }
        match (enforcement, written) {
            (_, false) => {
                error!(?enforcement, "the guard's state was not written; enforcement ends by itself");
            }
            (Enforcement::On, true) => info!("the guard enforces"),
            (Enforcement::Inherited, true) => {
                warn!("the guard enforces by the names that were left here, until the lists can be read");
            }
            (Enforcement::WorkersSilent, true) if !self.enforced => info!("the guard waits for the workers"),
            (Enforcement::Draining | Enforcement::NamesUnread, true) => {
                info!(?enforcement, "the guard lets foreign names pass");
            }
            (Enforcement::WorkersSilent | Enforcement::NamesFull | Enforcement::NamesFailed, true) => {
                warn!(?enforcement, "the guard lets foreign names pass");
            }
        }
        self.enforced |= enforcement.is_on();
    }
}

/// Nobody enforces, and the map lacks names: a successor must not enforce by it.
const NOT_WHOLE: u64 = 0;
/// Nobody enforces, since long ago by any clock, and the map holds all names there were.
const RESTING: u64 = 1;
/// How long the program enforces without hearing from this process.
const LEASE: Duration = Duration::from_secs(10);
/// How often the lease is renewed.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the workers may be silent.
const SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_enforces_only_while_all_is_well() {
        let lease = KernelTime(5).plus(LEASE);
        for (names, worker_alive, draining, expected, until) in [
            (Names::Held, true, false, Enforcement::On, lease),
            (Names::Inherited, true, false, Enforcement::Inherited, lease),
            (Names::Held, true, true, Enforcement::Draining, RESTING),
            (Names::Inherited, true, true, Enforcement::Draining, RESTING),
            (Names::Full, true, true, Enforcement::Draining, NOT_WHOLE),
            (Names::Held, false, false, Enforcement::WorkersSilent, RESTING),
            (Names::Unread, true, false, Enforcement::NamesUnread, NOT_WHOLE),
            (Names::Full, true, false, Enforcement::NamesFull, NOT_WHOLE),
            (Names::Failed, true, false, Enforcement::NamesFailed, NOT_WHOLE),
        ] {
            let conditions = Conditions { names, worker_alive, draining };
            assert_eq!(conditions.enforcement(), expected, "{conditions:?}");
            assert_eq!(conditions.enforce_until(KernelTime(5)), until, "{conditions:?}");
        }
    }

    #[test]
    fn names_are_inherited_only_from_a_whole_map() {
        for (origin, until, expected) in [
            (MapsOrigin::Adopted, RESTING, Names::Inherited),
            (MapsOrigin::Adopted, 77_000_000_000, Names::Inherited),
            (MapsOrigin::Adopted, NOT_WHOLE, Names::Unread),
            (MapsOrigin::Built, RESTING, Names::Unread),
        ] {
            assert_eq!(Names::left_by(origin, until), expected, "{origin:?} {until}");
        }
    }

    #[test]
    fn what_is_written_never_outlives_the_lease() {
        for (now, until) in [(0, 10_000_000_000), (5, 10_000_000_005), (u64::MAX, u64::MAX)] {
            let conditions = Conditions { names: Names::Held, worker_alive: true, draining: false };
            assert_eq!(conditions.enforce_until(KernelTime(now)), until, "at {now}");
        }
    }

    #[test]
    fn a_silent_worker_is_seen_after_five_seconds() {
        let epoch = Instant::now();
        let at = |seconds| epoch + Duration::from_secs(seconds);
        let (board, heartbeat) = (EnforcementInputs::new(Names::Unread), Heartbeat::new(1, epoch));
        board.names.store(Names::Held as u8, Ordering::Release);
        heartbeat.beat(0, at(1));
        for (now, expected) in [(1, Enforcement::On), (6, Enforcement::On), (7, Enforcement::WorkersSilent)] {
            assert_eq!(board.conditions(&heartbeat, at(now)).enforcement(), expected, "{now} s");
        }
    }
}
