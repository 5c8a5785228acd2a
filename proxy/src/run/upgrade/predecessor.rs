//! The predecessor as its successor sees it.

use std::{fs::File, io, os::fd::AsFd as _, time::Duration};

use nix::unistd::{dup2_stderr, dup2_stdin};
use socket2::Socket;
use tracing::{info, warn};

use super::{
    FromPredecessor, FromSuccessor, HandoverSocket, SocketUse,
    channel::{self, Channel},
    process,
};
use crate::phase::Phase;

/// The process that this one is to take over from.
#[derive(Debug)]
pub(in crate::run) struct Predecessor(Channel);

/// Why a process that was started as a successor can be none.
#[derive(Debug, thiserror::Error)]
pub enum NoPredecessor {
    /// The socket to the predecessor.
    #[error("the predecessor cannot be heard; repeat the upgrade")]
    Channel(#[from] io::Error),
    /// It is gone.
    #[error("the predecessor has ended before it handed its sockets over; start an instance instead")]
    Gone,
    /// Something else came.
    #[error(
        "the predecessor has handed over no sockets but said something else; upgrade by way of a release between both"
    )]
    Strange,
}

impl Predecessor {
    /// Whether one has started this process.
    pub(in crate::run) fn is_there() -> bool {
        process::predecessor(|name| std::env::var_os(name), std::os::unix::process::parent_id()).is_some()
    }

    /// The predecessor, and the sockets that it hands over. Waits for them; call it on the control runtime, once.
    pub(in crate::run) fn meet() -> Result<(Self, Vec<HandoverSocket>), NoPredecessor> {
        let socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Else the predecessor would not see our end for as long as any child of ours lives.
        dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let sockets = receive(&socket)?;
        Ok((Self(Channel::over(socket)?), sockets))
    }

    /// Says that nothing is left to do but to accept, and waits until that is permitted. One that refuses ends this process by a signal; one that is
    /// gone leaves it alone.
    pub(in crate::run) async fn prepared(&self, phase: Phase, names: usize) {
        let prepared = FromSuccessor::Prepared { phase: phase.into(), names: Some(names) };
        let permitted = async {
            self.0.send(&prepared, None).await?;
            self.0.receive::<FromPredecessor>().await
        };
        if let Ok(Some(_)) = permitted.await {
            info!("taking over from the predecessor");
        } else {
            warn!("the predecessor has ended; this process goes on alone");
        }
    }

    /// Says that this process accepts, and waits until it is the instance, to the service manager, too.
    pub(in crate::run) async fn ready(self, control_socket: SocketUse) {
        // From here on the predecessor reads it no more.
        if let Err(error) = dup2_stderr(io::stdout().as_fd()) {
            warn!(%error, "standard error stays a pipe to the predecessor, and ends with it");
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let released = async {
            self.0.send(&FromSuccessor::Ready { version, control_socket }, None).await?;
            self.0.receive::<FromPredecessor>().await
        };
        if let Ok(Ok(Some(_))) = tokio::time::timeout(PATIENCE, released).await {
            info!("the predecessor drains");
        } else {
            warn!("the predecessor says nothing; this process goes on alone");
        }
    }
}

fn receive(socket: &Socket) -> Result<Vec<HandoverSocket>, NoPredecessor> {
    let mut sockets = Vec::new();
    for _ in 0..MOST_SOCKETS {
        match channel::receive(socket)?.ok_or(NoPredecessor::Gone)? {
            (FromPredecessor::Socket { name }, Some(socket)) => {
                sockets.push(HandoverSocket { name, socket });
            }
            (FromPredecessor::EndOfSockets, _) => return Ok(sockets),
            _ => return Err(NoPredecessor::Strange),
        }
    }
    Err(NoPredecessor::Strange)
}

/// More than any number of workers and addresses makes.
const MOST_SOCKETS: usize = 16_384;
/// For what the predecessor does without waiting for anybody.
const PATIENCE: Duration = Duration::from_secs(10);
