//! What a start does beside a predecessor that serves, and for a successor to come.

use std::{io, time::Duration};

use tokio::net::TcpListener;
use tracing::warn;

use super::{
    phase::first,
    upgrade::{HandoverSocket, Predecessor},
};
use crate::{
    api, clock,
    control::{ControlPorts, ControlSocket, LONGEST_START},
    domains::Domains,
    guard::Heartbeat,
    phase::Phase,
};

/// A successor begins in the phase that it is in as soon as it accepts, so that health never says `starting` while a predecessor serves; it
/// waits until that is known, and until the predecessor permits it to accept.
pub(super) async fn first_phase(domains: &Domains, predecessor: Option<&Predecessor>) -> Phase {
    let Some(predecessor) = predecessor else { return Phase::Starting };
    let phase = first(domains.settled(LONGEST_START).await, domains.static_entries().len());
    predecessor.prepared(phase, domains.listed_count()).await;
    phase
}

/// The predecessor closes its sockets when it hears that this process accepts.
pub(super) async fn every_worker_turns(heartbeat: &Heartbeat) {
    let turning = async {
        while !heartbeat.is_whole(clock::now(), WORKERS_PATIENCE) {
            tokio::time::sleep(STEP).await;
        }
    };
    if tokio::time::timeout(WORKERS_PATIENCE, turning).await.is_err() {
        warn!("not every worker has begun");
    }
}

/// A descriptor of each socket of the control plane, for a successor.
pub(super) fn handover_sockets(
    socket: &ControlSocket,
    ports: &ControlPorts,
    api: Option<&TcpListener>,
) -> io::Result<Vec<HandoverSocket>> {
    let mut all = ports.share()?;
    all.push(socket.share()?);
    all.extend(api::share(api)?);
    Ok(all.into_iter().map(|(name, socket)| HandoverSocket { name: name.to_owned(), socket }).collect())
}

/// How long workers may take until each of their loops has turned.
const WORKERS_PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(5);
