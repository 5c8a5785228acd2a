//! The guard as other modules hold it, whether it is on or off.

use std::sync::Arc;

use tracing::info;

use super::{
    Guard, GuardContext, GuardError, GuardStatus, NamesLate, Ports,
    explain::{GuardFacts, GuardQuestion},
    interface::Interface,
    object,
};
use crate::{
    config,
    domains::{NameSet, Revision},
};

/// The guard as other modules hold it, on or off; cheap to clone.
#[derive(Clone)]
pub enum GuardHandle {
    /// `guard.interfaces` is empty.
    Off,
    /// The program is attached.
    On(Arc<Guard>),
}

impl GuardHandle {
    /// Starts the guard when interfaces are configured; says so when none are.
    pub fn start(
        config: &config::GuardConfig,
        ports: &Ports,
        around: GuardContext<'_>,
    ) -> Result<Self, GuardError> {
        if config.interfaces.is_empty() {
            info!(
                "guard off: `guard.interfaces` is empty, so unknown names are refused in the TLS handshake"
            );
            return Ok(Self::Off);
        }
        Guard::start(config, ports, around).map(Arc::new).map(Self::On)
    }

    /// Whether a guard by `config` can be thought of here: its interfaces are there, and its program is in this binary.
    /// Changes nothing.
    pub fn probe(config: &config::GuardConfig) -> Result<(), GuardError> {
        for name in &config.interfaces {
            Interface::find(name)?;
        }
        match object::object() {
            None if !config.interfaces.is_empty() => Err(GuardError::NoProgram),
            _ => Ok(()),
        }
    }

    /// Waits until no name allowed at `revision` is rejected in the kernel, and none withdrawn by then passes as allowed.
    pub async fn holds(&self, revision: Revision) -> Result<(), NamesLate> {
        match self {
            Self::Off => Ok(()),
            Self::On(guard) => guard.holds(revision).await,
        }
    }

    /// Ends enforcement for good; the program stays attached.
    pub fn drain(&self) {
        if let Self::On(guard) = self {
            guard.drain();
        }
    }

    /// Writes no names until [`GuardHandle::resume_names`], since a successor does: of two that write differences, each would undo the other's.
    /// Returns when nothing is being written.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the names paused, or about to be.
    pub async fn pause_names(&self) {
        if let Self::On(guard) = self {
            guard.enforcer.begin_hand_over();
            guard.following.pause().await;
        }
    }

    /// Writes names again, and first all that differs: the successor that had begun to is gone.
    pub fn resume_names(&self) {
        if let Self::On(guard) = self {
            guard.enforcer.end_hand_over();
            guard.rewrite_policy();
            guard.following.resume();
        }
    }

    /// Leaves maps, names and enforcement to a successor, which has them already; nothing is written any more.
    pub fn release(&self) {
        if let Self::On(guard) = self {
            guard.follower.abort();
            guard.enforcer.release();
        }
    }

    /// Applies mode, budgets and denied networks of `config` from the next packet on; nothing where the program is another process's by now,
    /// or this process drains.
    ///
    /// # Errors
    /// Where the kernel refuses, or another process is just taking its place; what was in force is in force still.
    pub fn set_policy(&self, config: &config::GuardConfig) -> Result<(), GuardError> {
        match self {
            Self::Off => Ok(()),
            Self::On(guard) => guard.set_policy(config),
        }
    }

    /// What there is to say of names and sources, by the kernel's maps and by `known`, which they follow.
    ///
    /// # Cancel safety
    /// Dropped, it lets what it reads be read on, and forgets it.
    pub(crate) async fn facts(
        &self,
        question: GuardQuestion,
        known: NameSet,
    ) -> Result<GuardFacts, GuardError> {
        match self {
            Self::Off => Ok(GuardFacts::of_names(&question, &known)),
            Self::On(guard) => {
                let guard = Arc::clone(guard);
                // Lists of a hundred thousand networks are gone through, and maps are asked by system calls.
                let asked = tokio::task::spawn_blocking(move || guard.facts(&question, &known));
                asked.await.map_err(|error| GuardError::Thread(error.into()))?
            }
        }
    }

    /// What `gatehouse status` shows.
    #[must_use]
    pub fn status(&self) -> GuardStatus {
        match self {
            Self::Off => GuardStatus::Off,
            Self::On(guard) => GuardStatus::On(Box::new(guard.report())),
        }
    }
}
