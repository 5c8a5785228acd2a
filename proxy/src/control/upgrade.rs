//! The channel from the control socket to who starts a successor.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    route::problem,
    server::SocketPeer,
    wire::{UpgradeWanted, Upgraded, WireProblem},
};

/// Asks for a successor; one at a time.
#[derive(Debug, Clone)]
pub struct Upgrade {
    sender: mpsc::Sender<UpgradeRequest>,
    free: Arc<Semaphore>,
    /// What runs, or what has taken its place on the disk.
    installed: Arc<Path>,
}

/// Requests as they come.
pub type UpgradeRequests = mpsc::Receiver<UpgradeRequest>;

/// A request that may be carried out; no other is taken before it is dropped.
#[derive(Debug)]
pub struct UpgradeRequest {
    /// What to start.
    pub program: PathBuf,
    /// How long it may take until it is ready.
    pub within: Duration,
    answer: oneshot::Sender<Result<Upgraded, WireProblem>>,
    _turn: OwnedSemaphorePermit,
}

impl UpgradeRequest {
    /// Tells who asked.
    pub fn answer(self, answer: Result<Upgraded, WireProblem>) {
        // Who asked may have gone.
        let _ = self.answer.send(answer);
    }
}

impl Upgrade {
    /// The way, and its other end. `installed` is started unless another program is named.
    #[must_use]
    pub fn channel(installed: &Path) -> (Self, UpgradeRequests) {
        let (sender, requests) = mpsc::channel(1);
        let installed = Arc::from(installed);
        (Self { sender, free: Arc::new(Semaphore::new(1)), installed }, requests)
    }

    /// Asks for `caller`, and waits.
    ///
    /// # Cancel safety
    /// Once asked for, the successor starts all the same.
    pub(super) async fn ask(
        &self,
        wanted: UpgradeWanted,
        caller: SocketPeer,
    ) -> Result<Upgraded, WireProblem> {
        let within = within(wanted.within_seconds)?;
        let program = self.program(wanted.binary, caller)?;
        let turn = Arc::clone(&self.free).try_acquire_owned();
        let turn = turn.map_err(|_| {
            problem(
                StatusCode::CONFLICT,
                "an upgrade is under way; wait until it is done, and see `gatehouse status`",
            )
        })?;
        tracing::info!(program = %program.display(), %caller, "upgrade asked for");
        let (answer, told) = oneshot::channel();
        let ending = || problem(StatusCode::SERVICE_UNAVAILABLE, "the instance is ending");
        let request = UpgradeRequest { program, within, answer, _turn: turn };
        self.sender.send(request).await.map_err(|_| ending())?;
        told.await.map_err(|_| ending())?
    }

    fn program(&self, named: Option<PathBuf>, caller: SocketPeer) -> Result<PathBuf, WireProblem> {
        let Some(named) = named else { return Ok(self.installed.to_path_buf()) };
        if !named.is_absolute() {
            let detail = format!("binary: `{}` is not an absolute path", named.display());
            return Err(problem(StatusCode::BAD_REQUEST, detail));
        }
        let owner = self.installed.metadata().map(|found| found.uid()).ok();
        if may_name(caller, owner) {
            return Ok(named);
        }
        let installed = self.installed.display();
        let detail = format!(
            "binary: only root and the owner of `{installed}` may name another program, since it gets the instance's capabilities; repeat it as root"
        );
        Err(problem(StatusCode::FORBIDDEN, detail))
    }
}

/// Whether `caller` may have another program run with the capabilities of the instance: who could replace the installed one, whose owner
/// is `owner`.
fn may_name(caller: SocketPeer, owner: Option<u32>) -> bool {
    match caller {
        SocketPeer::Uid(uid) => uid == 0 || owner == Some(uid),
        SocketPeer::Unknown => false,
    }
}

fn within(seconds: u64) -> Result<Duration, WireProblem> {
    let within = Duration::from_secs(seconds);
    let fits = !within.is_zero() && within <= LONGEST_START;
    fits.then_some(within).ok_or_else(|| {
        let most = LONGEST_START.as_secs();
        problem(StatusCode::BAD_REQUEST, format!("within_seconds: write 1 to {most}"))
    })
}

/// Less than a connection to the control socket may be open.
pub const LONGEST_START: Duration = Duration::from_mins(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_replace_the_program_names_no_other() {
        for (caller, owner, may) in [
            (SocketPeer::Uid(0), Some(0), true),
            (SocketPeer::Uid(990), Some(0), false),
            (SocketPeer::Uid(1000), Some(1000), true),
            (SocketPeer::Uid(1000), None, false),
            (SocketPeer::Uid(0), None, true),
            (SocketPeer::Unknown, Some(0), false),
        ] {
            assert_eq!(may_name(caller, owner), may, "{caller:?} {owner:?}");
        }
    }

    #[test]
    fn a_start_has_a_bound() {
        for (seconds, fits) in [(0, false), (1, true), (240, true), (241, false), (u64::MAX, false)] {
            assert_eq!(within(seconds).is_ok(), fits, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_second_upgrade_is_refused_while_one_is_under_way_and_taken_after_it() {
        let (upgrade, mut requests) = Upgrade::channel(Path::new("/usr/bin/gatehouse"));
        let wanted = || UpgradeWanted { binary: None, within_seconds: 5 };
        let first = tokio::spawn({
            let upgrade = upgrade.clone();
            async move { upgrade.ask(wanted(), SocketPeer::Unknown).await }
        });
        let request = requests.recv().await.unwrap();
        assert_eq!(request.program, Path::new("/usr/bin/gatehouse"));
        let second = upgrade.ask(wanted(), SocketPeer::Unknown).await.unwrap_err();
        assert_eq!(second.status, 409, "{second:?}");
        // Whoever asked for the first is gone; it is under way all the same.
        first.abort();
        assert!(first.await.is_err());
        assert_eq!(upgrade.ask(wanted(), SocketPeer::Unknown).await.unwrap_err().status, 409);
        request.answer(Err(problem(StatusCode::BAD_GATEWAY, "it failed")));
        let third = tokio::spawn(async move { upgrade.ask(wanted(), SocketPeer::Unknown).await });
        requests.recv().await.unwrap().answer(Err(problem(StatusCode::BAD_GATEWAY, "it failed")));
        assert_eq!(third.await.unwrap().unwrap_err().detail, "it failed");
    }

    #[tokio::test]
    async fn a_program_has_an_absolute_path() {
        let (upgrade, _requests) = Upgrade::channel(Path::new("/usr/bin/gatehouse"));
        for (binary, caller, status) in
            [("gatehouse", SocketPeer::Uid(0), 400), ("/bin/sh", SocketPeer::Unknown, 403)]
        {
            let wanted = UpgradeWanted { binary: Some(binary.into()), within_seconds: 5 };
            assert_eq!(upgrade.ask(wanted, caller).await.unwrap_err().status, status, "{binary}");
        }
    }
}
