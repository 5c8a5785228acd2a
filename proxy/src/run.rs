//! A running instance: what is started in which order, and how it ends.
//! Not here: what the parts do. This room only puts them together.
//! Invariants: what is wrong with settings or the machine ends the start with one error, before a socket listens
//! (`proxy/tests/cli.rs`); health turns 503 before anything else of the end (`nothing_but_the_end_follows_draining`); a restart under
//! a service manager loses no connection (`a_restart_with_kept_sockets_loses_no_connection`).

mod assembly;
mod error;
mod phase;
mod screen;
mod sockets;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

pub use error::RunError;

use self::assembly::Assembly;
use crate::{
    config::{Config, Loaded},
    control::{Control, ControlSocket},
    guard::GuardHandle,
    phase::{Phase, PhaseWatch},
    telemetry::Telemetry,
    transport::Backend,
    worker::Workers,
};

/// Serves until SIGTERM or SIGINT, and returns when requests in flight have finished.
pub fn run(loaded: &Loaded) -> Result<(), RunError> {
    let config = &loaded.config;
    let environment = Environment::read(|name| std::env::var_os(name), std::process::id());
    let telemetry = Telemetry::start(&config.log)?;
    // While nothing else has these numbers.
    let inherited = inherited::take(&environment.descriptors);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = serve(config, &telemetry, &runtime);
    runtime.shutdown_timeout(LAST_CALLS);
    outcome
}

fn serve(config: &Config, telemetry: &Telemetry, runtime: &Runtime) -> Result<(), RunError> {
    sockets::raise_descriptor_limit(config.limits.connections);
    // The ring is proved on a runtime of its own, and so outside this one.
    let backend = Backend::choose(config.worker.io)?;
    let assembly = Assembly { config, telemetry, control: runtime.handle(), backend };
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        // A signal that comes while the store is slow to answer ends the start.
        tokio::select! {
            running = assembly.start() => running?.until_told(&mut signals).await,
            () = signals.told() => Ok(()),
        }
    })?;
    info!("ended");
    Ok(())
}

/// What runs, and what holds it open.
struct Running {
    workers: Workers,
    phase: watch::Sender<Phase>,
    guard: GuardHandle,
    /// Answers until the last worker has ended.
    _control: (Control, ControlSocket),
}

impl Running {
    /// Drains, and returns when the workers have ended; a signal cuts that short.
    async fn drain(self, signals: &mut Signals, manager: &Manager) -> Result<(), RunError> {
        manager.tell(&[Word::Stopping]);
        self.phase.send_replace(Phase::Draining);
        self.guard.drain();
        info!("draining: health says 503, requests in flight finish");
        let workers = tokio::task::spawn_blocking(|| self.workers.join());
        tokio::select! {
            joined = workers => joined.map_err(|_| RunError::Workers),
            () = signals.told() => {
                warn!("told again: open connections are cut");
                Ok(())
            }
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The next of them.
    ///
    /// # Cancel safety
    /// Safe: a signal that nobody awaited is told to the next who does.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

const CONTROL_THREADS: usize = 2;
/// For what the control plane has begun and should finish: a lease to give back, a lookup to remember.
const LAST_CALLS: Duration = Duration::from_secs(2);
