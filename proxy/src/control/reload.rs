//! The channel from the control socket to the owner of the settings.

use hyper::StatusCode;
use tokio::sync::{mpsc, oneshot};

use super::{
    route::problem,
    wire::{Reloaded, WireProblem},
};

/// Asks for a reload of the settings; one at a time.
#[derive(Debug, Clone)]
pub struct Reload(mpsc::Sender<Asked>);

/// Requests as they come.
pub type ReloadRequests = mpsc::Receiver<Asked>;

/// Where the answer goes.
pub type Asked = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Why the settings in force stay, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReloaded {
    /// The new ones are wrong.
    Wrong(String),
    /// The new ones are right, and this machine cannot follow them now.
    Impossible(String),
}

impl From<NotReloaded> for WireProblem {
    fn from(not_reloaded: NotReloaded) -> Self {
        match not_reloaded {
            NotReloaded::Wrong(why) => problem(StatusCode::UNPROCESSABLE_ENTITY, why),
            NotReloaded::Impossible(why) => problem(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

impl Reload {
    /// The way, and its other end.
    #[must_use]
    pub fn channel() -> (Self, ReloadRequests) {
        let (sender, asks) = mpsc::channel(1);
        (Self(sender), asks)
    }

    /// Asks and waits.
    ///
    /// # Cancel safety
    /// The settings are read all the same.
    pub(super) async fn ask(&self) -> Result<Reloaded, WireProblem> {
        let (sender, answer) = oneshot::channel();
        let ending = || problem(StatusCode::SERVICE_UNAVAILABLE, "the instance is ending");
        self.0.send(sender).await.map_err(|_| ending())?;
        let told = answer.await.map_err(|_| ending())?;
        told.map_err(WireProblem::from)
    }
}
