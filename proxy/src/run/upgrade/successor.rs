//! The successor as its predecessor sees it.

use std::{
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Failure, FromPredecessor, FromSuccessor, HandoverSocket, SocketUse, UpgradeError,
    channel::{self, Channel},
    last_lines::LastLines,
    process,
};
use crate::control::wire::PhaseWord;

/// A process that is to take over. Dropped before it has, it is told to end.
pub(super) struct Successor {
    program: PathBuf,
    child: Child,
    channel: Channel,
    lines: Option<LastLines>,
    standing: Standing,
}

/// What a successor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing without us.
    Starting,
    /// The instance.
    Serving,
}

impl Successor {
    /// Starts `program`. Call it on the control runtime.
    pub(super) fn start(program: &Path) -> Result<Self, UpgradeError> {
        let (ours, theirs) = channel::pair()?;
        let channel = Channel::over(ours)?;
        let mut child = process::start(program, theirs)
            .map_err(|source| UpgradeError::Start { program: program.to_owned(), source })?;
        let lines = child.stderr.take().map(|pipe| LastLines::follow(pipe, io::stderr())).transpose();
        let program = program.to_owned();
        let mut successor = Self { program, child, channel, lines: None, standing: Standing::Starting };
        successor.lines = lines?;
        Ok(successor)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Hands it a descriptor of each of `sockets`.
    pub(super) async fn give(&self, sockets: &[HandoverSocket]) -> Result<(), Failure> {
        for HandoverSocket { name, socket } in sockets {
            let message = FromPredecessor::Socket { name: name.clone() };
            self.channel.send(&message, Some(socket.as_fd())).await?;
        }
        self.tell(&FromPredecessor::EndOfSockets).await
    }

    pub(super) async fn tell(&self, message: &FromPredecessor) -> Result<(), Failure> {
        Ok(self.channel.send(message, None).await?)
    }

    /// Waits until nothing is left to do but to accept; in which phase it would be, and how many names its lists allow, if it says that.
    pub(super) async fn prepared(&self) -> Result<(PhaseWord, Option<usize>), Failure> {
        match self.hear().await? {
            FromSuccessor::Prepared { phase, names } => Ok((phase, names)),
            FromSuccessor::Ready { .. } => Err(Failure::Gone),
        }
    }

    /// Waits until it accepts: its release, and what became of our control socket.
    pub(super) async fn ready(&self) -> Result<(String, SocketUse), Failure> {
        match self.hear().await? {
            FromSuccessor::Ready { version, control_socket } => Ok((version, control_socket)),
            FromSuccessor::Prepared { .. } => Err(Failure::Gone),
        }
    }

    async fn hear(&self) -> Result<FromSuccessor, Failure> {
        self.channel.receive().await?.ok_or(Failure::Gone)
    }

    /// It is the instance, and none of our business any more.
    pub(super) fn release(&mut self) {
        self.standing = Standing::Serving;
    }

    /// Returns when it has ended otherwise than in order.
    pub(super) async fn lost(&mut self) {
        if self.ended().await.success() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends it, and says why it has not taken over.
    pub(super) async fn end(mut self, failure: Failure) -> UpgradeError {
        // One that closed its end is about to end by itself; how it does is worth waiting for.
        let by_itself = matches!(failure, Failure::Gone).then_some(GRACE);
        let status = match self.ended_within(by_itself.unwrap_or_default()).await {
            Some(status) => Some(status),
            None => self.end_by_signals().await,
        };
        let lines = match self.lines.take() {
            Some(lines) => lines.at_the_end().await,
            None => Vec::new(),
        };
        let program = self.program.clone();
        match (failure, status) {
            (Failure::Told(error), _) => error,
            (Failure::Gone, Some(status)) => UpgradeError::Ended { program, status, lines },
            // It has closed its end and lives on: no release of ours does that.
            (Failure::Gone, None) => UpgradeError::Late { program, within: GRACE, lines },
            (Failure::Late(within), _) => UpgradeError::Late { program, within, lines },
        }
    }

    async fn end_by_signals(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        if let Some(status) = self.ended_within(GRACE).await {
            return Some(status);
        }
        self.signal(Signal::SIGKILL);
        self.ended_within(GRACE).await
    }

    async fn ended_within(&mut self, span: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(span, self.ended()).await.ok()
    }

    async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Nobody else has its number before it was waited for.
    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.standing == Standing::Starting && matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
        }
    }
}

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);
