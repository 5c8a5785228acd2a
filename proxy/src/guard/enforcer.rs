//! The enforcement thread: separate, so that a runtime that hangs ends enforcement instead of prolonging it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    attachment::{Attachment, Replacement, Runs, Standing},
    enforcement::{Conditions, Enforcement},
    error::GuardError,
    following::OtherGuard,
    heartbeat::Heartbeat,
    kernel_time::KernelTime,
    maps::EnforceUntilMap,
    metrics::GuardMetrics,
    names_state::{Names, NamesCell},
    policy::Policy,
    rejections::Rejections,
};
use crate::{clock, config::Attach};

/// What threads of other modules send to the enforcement thread.
#[derive(Debug)]
struct EnforcementInputs {
    names: NamesCell,
    draining: AtomicBool,
    replacement: Mutex<Replacement>,
    ended: AtomicBool,
    /// A successor enforces.
    released: AtomicBool,
    /// A successor may have replaced our program, and may fail still.
    handing_over: AtomicBool,
    enforcement: AtomicU8,
}

impl EnforcementInputs {
    fn new(names: NamesCell) -> Self {
        Self {
            names,
            draining: AtomicBool::new(false),
            replacement: Mutex::default(),
            ended: AtomicBool::new(false),
            released: AtomicBool::new(false),
            handing_over: AtomicBool::new(false),
            enforcement: AtomicU8::new(Enforcement::NamesUnread as u8),
        }
    }

    fn enforcement(&self) -> Enforcement {
        let index = usize::from(self.enforcement.load(Ordering::Relaxed));
        let all = <Enforcement as crate::telemetry::metrics::Label>::ALL;
        all.get(index).copied().unwrap_or(Enforcement::NamesUnread)
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire) || self.ended.load(Ordering::Acquire) || self.is_released()
    }

    fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    fn conditions(&self, heartbeat: &Heartbeat, replaced: bool, now: Instant) -> Conditions {
        Conditions {
            names: self.names.get(),
            worker_alive: heartbeat.is_alive(now, SILENCE),
            draining: self.draining(),
            replaced,
        }
    }

    /// Where the program stands whose links run this.
    fn standing(&self, runs: impl Iterator<Item = Runs>, now: Instant) -> Standing {
        if self.handing_over.load(Ordering::Acquire) {
            return Standing::InForce;
        }
        self.replacement.lock().unwrap_or_else(PoisonError::into_inner).look(runs, now)
    }
}

/// The enforcing thread; dropped, it ends enforcement and itself.
pub(super) struct Enforcer {
    board: Arc<EnforcementInputs>,
    attachment: Attachment,
    thread: Mutex<Option<JoinHandle<()>>>,
    waker: Thread,
}

/// What the enforcing thread reads and writes.
pub(super) struct Enforced {
    pub(super) attachment: Attachment,
    pub(super) attach: Attach,
    pub(super) policy: Arc<Mutex<Policy>>,
    pub(super) until: EnforceUntilMap,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) metrics: GuardMetrics,
    pub(super) rejections: Rejections,
    pub(super) other: OtherGuard,
}

impl Enforcer {
    pub(super) fn start(names: NamesCell, enforced: Enforced) -> Result<Self, GuardError> {
        let board = Arc::new(EnforcementInputs::new(names));
        let (turning, attachment) = (Arc::clone(&board), enforced.attachment.clone());
        let thread = thread::Builder::new()
            .name("guard-enforce".into())
            .spawn(move || run(&turning, enforced))
            .map_err(GuardError::Thread)?;
        let waker = thread.thread().clone();
        Ok(Self { board, attachment, thread: Mutex::new(Some(thread)), waker })
    }

    /// The names can be followed no longer; takes effect at once.
    pub(super) fn fail_names(&self) {
        self.board.names.set(Names::Failed);
        self.wake();
    }

    /// What was decided last.
    pub(super) fn enforcement(&self) -> Enforcement {
        self.board.enforcement()
    }

    /// Whether this process may write what the program reads, by a look at the links: a process that drains may not either.
    pub(super) fn standing(&self) -> Standing {
        if self.board.draining() {
            return Standing::Over;
        }
        self.board.standing(self.attachment.look(), clock::now())
    }

    /// Ends enforcement for good.
    pub(super) fn drain(&self) {
        self.board.draining.store(true, Ordering::Release);
        self.wake();
    }

    /// Lets a successor replace our program, and goes on to enforce by the maps that both have.
    pub(super) fn begin_hand_over(&self) {
        self.board.handing_over.store(true, Ordering::Release);
    }

    /// The successor has failed.
    pub(super) fn end_hand_over(&self) {
        self.attachment.adopt();
        self.board.handing_over.store(false, Ordering::Release);
        self.wake();
    }

    /// Leaves enforcement to a successor: nothing is written any more, at the end neither.
    pub(super) fn release(&self) {
        self.board.released.store(true, Ordering::Release);
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

    /// Looks at once whether anything has changed.
    pub(super) fn wake(&self) {
        self.waker.unpark();
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(board: &EnforcementInputs, enforced: Enforced) {
    let Enforced { attachment, attach, policy, mut until, heartbeat, metrics, mut rejections, other } =
        enforced;
    let mut last = Last::default();
    loop {
        let ended = board.ended.load(Ordering::Acquire);
        if board.is_released() {
            return;
        }
        let runs: Vec<_> = attachment.look().collect();
        metrics.attached(attach, runs.iter().filter(|runs| **runs == Runs::Ours).count());
        let now = clock::now();
        let standing = board.standing(runs.into_iter(), now);
        // Nothing is decided while it is open who enforces: the time written last lasts longer.
        if standing != Standing::Contested {
            let is_replaced = standing == Standing::Over;
            let conditions = board.conditions(&heartbeat, is_replaced, now);
            let enforcement = conditions.enforcement();
            board.enforcement.store(enforcement as u8, Ordering::Relaxed);
            metrics.enforcement(enforcement, policy.lock().unwrap_or_else(PoisonError::into_inner).rejects());
            // A lease is renewed each time, an end written once: the successor that adopted the map may enforce by now.
            if last.leaves_to(other, enforcement) {
                last.written = None;
            } else if enforcement.is_on() || last.written != Some(enforcement) {
                // What another process's program reads is for that process to write.
                let written = is_replaced
                    || KernelTime::now().is_ok_and(|now| until.write(conditions.enforce_until(now)).is_ok());
                last.wrote(enforcement, written);
            }
        }
        if ended {
            return;
        }
        rejections.check(clock::now());
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
    /// Whether a predecessor still extends the time, since our own workers have only to begin: an end would leave a moment unguarded.
    fn leaves_to(&self, other: OtherGuard, enforcement: Enforcement) -> bool {
        other == OtherGuard::Predecessors && enforcement == Enforcement::WorkersSilent && !self.enforced
    }

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
                warn!("the guard enforces by its predecessor's names until the lists are read");
            }
            (Enforcement::WorkersSilent, true) if !self.enforced => info!("the guard waits for the workers"),
            (Enforcement::Draining | Enforcement::NamesUnread, true) => {
                info!(?enforcement, "the guard lets unknown names pass");
            }
            (Enforcement::Replaced, true) => {
                warn!(
                    "another process's program is on the guard's interfaces, or ours was detached; this instance rejects nothing any more"
                );
            }
            (Enforcement::WorkersSilent | Enforcement::NamesFull | Enforcement::NamesFailed, true) => {
                warn!(?enforcement, "the guard lets unknown names pass");
            }
        }
        self.enforced |= enforcement.is_on();
    }
}

/// How often the lease is renewed.
const PERIOD: Duration = Duration::from_millis(250);
/// How long the workers may be silent.
const SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predecessor_enforces_until_our_workers_have_begun() {
        let mut last = Last::default();
        for (other, enforcement, leaves) in [
            (OtherGuard::Predecessors, Enforcement::WorkersSilent, true),
            (OtherGuard::None, Enforcement::WorkersSilent, false),
            (OtherGuard::Predecessors, Enforcement::NamesFull, false),
            (OtherGuard::Predecessors, Enforcement::On, false),
        ] {
            assert_eq!(last.leaves_to(other, enforcement), leaves, "{other:?} {enforcement:?}");
        }
        last.wrote(Enforcement::On, true);
        assert!(!last.leaves_to(OtherGuard::Predecessors, Enforcement::WorkersSilent), "it was our turn");
    }

    #[test]
    fn a_silent_worker_is_seen_after_five_seconds() {
        let epoch = Instant::now();
        let at = |seconds| epoch + Duration::from_secs(seconds);
        let (board, heartbeat) =
            (EnforcementInputs::new(NamesCell::new(Names::Unread)), Heartbeat::new(1, epoch));
        board.names.set(Names::Held);
        heartbeat.beat(0, at(1));
        for (now, expected) in [(1, Enforcement::On), (6, Enforcement::On), (7, Enforcement::WorkersSilent)] {
            assert_eq!(board.conditions(&heartbeat, false, at(now)).enforcement(), expected, "{now} s");
        }
    }
}
