//! A successor takes over from a running instance at the same sockets.
//!
//! The running instance (predecessor) starts the new program (successor) as its child. Its standard input is a socket between the two, by
//! which it gets a descriptor of each listening socket, the very sockets that the predecessor accepts at: what waits in their queues is
//! accepted by whichever of both comes first, and by the successor when the predecessor has closed its own. Then:
//!
//! | successor | predecessor |
//! |---|---|
//! | reads settings, tables and names, opens nothing at which clients connect | serves |
//! | says [`FromSuccessor::Prepared`], with its phase and how many names it knows | refuses one that would serve worse; stops to write names to the guard's maps |
//! | | says [`FromPredecessor::TakeOver`] |
//! | opens further sockets, takes the guard over, accepts | accepts, too |
//! | says [`FromSuccessor::Ready`] once every worker's loop has turned | names the successor to the service manager, which hears nobody but the main process |
//! | | says [`FromPredecessor::Released`], drains and ends |
//! | tells the service manager what it has held back | |
//!
//! Until `Ready` whatever goes wrong ends the successor, and the predecessor goes on. Once a successor is prepared, a predecessor that is lost is no
//! reason to end: it goes on alone.
//! Not here: what an instance does while it drains (`run`, `worker`), who may ask for a successor (`control`).
//! Invariants: no request under way fails for an upgrade, and health stays 200 (`upgrades_and_reloads_under_load_fail_no_request`); a successor that
//! fails or is late changes nothing (`a_successor_that_fails_changes_nothing_and_is_told`); one that would serve worse does not take
//! over (`who_would_serve_worse_does_not_take_over`).

mod channel;
mod last_lines;
mod message;
mod predecessor;
mod process;
mod successor;

use std::{net::TcpListener, os::fd::OwnedFd, path::PathBuf, process::ExitStatus, time::Duration};

use hyper::StatusCode;

pub(super) use self::predecessor::NoPredecessor;
pub(super) use self::{message::SocketUse, predecessor::Predecessor, process::installed_program};
use self::{
    message::{FromPredecessor, FromSuccessor},
    successor::Successor,
};
use super::manager::Manager;
use crate::{
    config::{Config, Endpoint},
    control::{
        UpgradeRequest,
        wire::{Fault, PhaseWord, Upgraded, WireProblem},
    },
    domains::Domains,
    guard::GuardHandle,
    phase::{Phase, PhaseWatch},
    telemetry::error_chain,
};

/// A listening socket for a successor, under a name that says which address it serves.
#[derive(Debug)]
pub(super) struct HandoverSocket {
    pub(super) name: String,
    pub(super) socket: OwnedFd,
}

impl HandoverSocket {
    pub(super) fn of(name: String, listener: &TcpListener) -> std::io::Result<Self> {
        Ok(Self { name, socket: listener.try_clone()?.into() })
    }
}

/// What an instance needs to have a successor. Dropped, it closes its descriptors of the listening sockets: those that accept have others.
pub(super) struct Upgrader<'a> {
    pub(super) sockets: Vec<HandoverSocket>,
    pub(super) guard: GuardHandle,
    pub(super) phase: PhaseWatch,
    pub(super) domains: Domains,
    pub(super) manager: &'a Manager,
}

/// A successor serves.
pub(super) struct Replacement {
    /// Whether it answers on this instance's control socket.
    pub(super) control_socket: SocketUse,
    successor: Successor,
}

impl Replacement {
    /// Returns when the successor has ended otherwise than in order. Its parent is this process: until that ends, no service manager hears of it.
    ///
    /// # Cancel safety
    /// Safe: an end is seen again.
    pub(super) async fn lost(&mut self) {
        self.successor.lost().await;
    }
}

/// Why there is no successor.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    #[error(
        "store.endpoint: `embedded` is a store that one process has at a time, so no successor can start beside this one; restart instead"
    )]
    EmbeddedStore,
    #[error("this instance is process 1, with whose end its container ends; replace the container instead")]
    FirstProcess,
    #[error("`{}` cannot be started; name a program that the instance's user may execute", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("the successor cannot be spoken to")]
    Channel(#[from] std::io::Error),
    #[error(
        "the successor would say `{}`, and this instance says `{}`: it would serve worse; see why with `gatehouse doctor`, and repeat the upgrade",
        .theirs.as_str(),
        .ours.as_str()
    )]
    Worse { ours: PhaseWord, theirs: PhaseWord },
    #[error(
        "the successor's lists allow {theirs} names, and this instance's {ours}; check `domains` and `store` in the settings. If it is \
         meant, put it in force with `gatehouse reload` first, or restart instead"
    )]
    FewerNames { ours: usize, theirs: usize },
    #[error("`{}` ended before it was ready: {status}{}", program.display(), shown(lines))]
    Ended { program: PathBuf, status: ExitStatus, lines: Vec<String> },
    #[error(
        "`{}` was not ready within {} s, and was ended; `--within` gives it longer{}",
        program.display(),
        within.as_secs(),
        shown(lines)
    )]
    Late { program: PathBuf, within: Duration, lines: Vec<String> },
}

impl Upgrader<'_> {
    /// Starts `request`'s program as the successor, and answers the request when it serves or has failed.
    ///
    /// # Cancel safety
    /// Dropped, it ends the successor.
    pub(super) async fn upgrade(&self, request: UpgradeRequest, in_force: &Config) -> Option<Replacement> {
        let outcome = self.replace(&request, in_force).await;
        let (replacement, answer) = match outcome {
            Ok((replacement, upgraded)) => (Some(replacement), Ok(upgraded)),
            Err(error) => {
                tracing::error!(
                    error = error_chain(&error),
                    "no successor has taken over; this instance goes on"
                );
                (None, Err(problem(&error)))
            }
        };
        request.answer(answer);
        replacement
    }

    async fn replace(
        &self,
        request: &UpgradeRequest,
        in_force: &Config,
    ) -> Result<(Replacement, Upgraded), UpgradeError> {
        if in_force.store.endpoint == Endpoint::Embedded {
            return Err(UpgradeError::EmbeddedStore);
        }
        if std::process::id() == 1 {
            return Err(UpgradeError::FirstProcess);
        }
        let mut successor = Successor::start(&request.program)?;
        tracing::info!(pid = successor.id(), program = %request.program.display(), "a successor starts");
        let attempt = tokio::time::timeout(request.within, self.hand_over(&mut successor)).await;
        match attempt.unwrap_or(Err(Failure::Late(request.within))) {
            Ok((control_socket, upgraded)) => Ok((Replacement { control_socket, successor }, upgraded)),
            Err(failure) => {
                // First, so that nobody attaches another program any more, or writes to the same maps.
                let error = successor.end(failure).await;
                self.guard.resume_names();
                Err(error)
            }
        }
    }

    async fn hand_over(&self, successor: &mut Successor) -> Result<(SocketUse, Upgraded), Failure> {
        successor.give(&self.sockets).await?;
        let theirs = successor.prepared().await?;
        let ours = (*self.phase.borrow(), self.domains.listed_count());
        if let Some(worse) = worse(ours, theirs) {
            return Err(Failure::Told(worse));
        }
        self.guard.pause_names().await;
        successor.tell(&FromPredecessor::TakeOver).await?;
        let (version, control_socket) = successor.ready().await?;
        self.manager.hand_over(successor.id());
        // One that is gone is no successor, and the service manager starts another: nothing is left to go on with here.
        let _ = successor.tell(&FromPredecessor::Released).await;
        let (pid, predecessor) = (successor.id(), std::process::id());
        tracing::info!(pid, version, "a successor has taken over");
        successor.release();
        Ok((control_socket, Upgraded { pid, version, predecessor }))
    }
}

/// What goes wrong on the way.
#[derive(Debug)]
enum Failure {
    /// Known already.
    Told(UpgradeError),
    /// The successor's end of the channel is closed: it has ended, or is about to.
    Gone,
    /// It takes longer than this.
    Late(Duration),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => Self::Gone,
            _ => Self::Told(error.into()),
        }
    }
}

/// Whether a successor of the phase and number of listed names that `theirs` says would serve worse than an instance of `ours`. While the table is
/// down a successor knows none of the names that this one has in memory, and with settings that name another table none at all; where this
/// one does not serve either, nothing is lost.
fn worse(ours: (Phase, usize), theirs: (PhaseWord, Option<usize>)) -> Option<UpgradeError> {
    let ((phase, names), (their_phase, their_names)) = (ours, theirs);
    if !phase.is_healthy() {
        return None;
    }
    if their_phase != PhaseWord::Serving {
        return Some(UpgradeError::Worse { ours: phase.into(), theirs: their_phase });
    }
    // Names come and go while it reads.
    let lost = their_names.filter(|theirs| theirs.saturating_mul(10) < names.saturating_mul(9));
    lost.map(|theirs| UpgradeError::FewerNames { ours: names, theirs })
}

fn problem(error: &UpgradeError) -> WireProblem {
    let status = match error {
        UpgradeError::EmbeddedStore
        | UpgradeError::FirstProcess
        | UpgradeError::Worse { .. }
        | UpgradeError::FewerNames { .. } => StatusCode::CONFLICT,
        UpgradeError::Start { .. }
        | UpgradeError::Channel(_)
        | UpgradeError::Ended { .. }
        | UpgradeError::Late { .. } => StatusCode::BAD_GATEWAY,
    };
    WireProblem { status: status.as_u16(), detail: error_chain(error), fault: Fault::default() }
}

fn shown(lines: &[String]) -> String {
    if lines.is_empty() {
        return "; it wrote nothing to its standard error".to_owned();
    }
    lines.iter().fold("; it wrote last:".to_owned(), |text, line| format!("{text}\n  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_serve_worse_does_not_take_over() {
        use PhaseWord::{Degraded, Overloaded, Restored, Serving, Starting, Unable};
        for (ours, theirs, may) in [
            (Phase::Serving, Serving, true),
            (Phase::Serving, Degraded, false),
            (Phase::Serving, Starting, false),
            (Phase::Degraded, Degraded, false),
            (Phase::Degraded, Serving, true),
            (Phase::Degraded, Restored, false),
            (Phase::Restored, Restored, false),
            (Phase::Restored, Serving, true),
            (Phase::Unable, Restored, true),
            (Phase::Unable, Unable, true),
            (Phase::Starting, Starting, true),
            (Phase::Overloaded, Overloaded, true),
            (Phase::Leaving, Serving, true),
        ] {
            assert_eq!(worse((ours, 9), (theirs, Some(9))).is_none(), may, "{ours:?} {theirs:?}");
        }
        for (ours, theirs, may) in [
            (0, Some(0), true),
            (1, Some(0), false),
            (1000, Some(900), true),
            (1000, Some(899), false),
            (1000, Some(2000), true),
            (1000, None, true),
        ] {
            let worse = worse((Phase::Serving, ours), (Serving, theirs));
            assert_eq!(worse.is_none(), may, "{ours} {theirs:?}");
        }
        assert!(worse((Phase::Unable, 9), (Serving, Some(0))).is_none());
    }

    #[test]
    fn a_failure_says_what_the_program_wrote_last() {
        assert_eq!(shown(&[]), "; it wrote nothing to its standard error");
        assert_eq!(shown(&["a".into(), "b".into()]), "; it wrote last:\n  a\n  b");
    }
}
