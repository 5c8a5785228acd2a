//! A running instance: what is started in which order, and how it ends.
//! Not here: what the parts do. This module only assembles them.
//! Invariants: wrong settings, or a machine that does not suit them, end the start with one error before a socket listens
//! (`proxy/tests/cli.rs`), and the service manager gets it (`a_start_that_fails_tells_the_manager_what_to_do`); at the end, health turns
//! 503 first (`nothing_but_the_end_follows_draining`); a restart under a service manager loses no connection
//! (`a_restart_with_kept_sockets_loses_no_connection`).

mod assembly;
mod error;
mod inherited;
mod manager;
mod memory;
mod metric_reference;
mod phase;
pub(crate) mod ports;
mod reload;
mod session_tickets;
mod sockets;
mod startup_banner;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

pub use error::RunError;
pub use metric_reference::metric_reference;
pub use reload::ReloadFn;

use self::{
    assembly::Assembly,
    inherited::Inherited,
    manager::{Environment, Manager, NotifyMessage},
    reload::Reloader,
};
use crate::{
    api::ApiServer,
    certificates::Certificates,
    config::{Config, Loaded},
    control::{Control, ControlSocket, ReloadRequests, fleet::FleetReporter, wire::Reloaded},
    guard::GuardHandle,
    phase::{Phase, PhaseWatch},
    telemetry::Telemetry,
    transport::Backend,
    webhooks::WebhooksEnd,
    worker::Workers,
};

/// Serves until SIGTERM or SIGINT, and returns when requests in flight have finished.
///
/// `again` reads the settings once more, upon SIGHUP or `gatehouse reload`.
pub fn run(loaded: &Loaded, again: ReloadFn<'_>) -> Result<(), RunError> {
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
    let manager = Manager::of(&environment);
    let watchdog = environment.watchdog;
    let start = Start { config, telemetry: &telemetry, manager, watchdog, inherited, again };
    let outcome = start.serve(&runtime);
    runtime.shutdown_timeout(LAST_CALLS);
    outcome
}

/// Tells the service manager why there is no instance, if one started this process; it shows that until the next start.
/// Settings that cannot be read end the process before [`run`].
pub fn last_words(error: &str) {
    let environment = Environment::read(|name| std::env::var_os(name), std::process::id());
    let failed = manager::one_line(&format!("Failed: {error}"));
    Manager::of(&environment).tell(&[NotifyMessage::Status(&failed)]);
}

/// What a start is given.
struct Start<'a> {
    config: &'a Config,
    telemetry: &'a Telemetry,
    manager: Manager,
    watchdog: Option<Duration>,
    inherited: Vec<Inherited>,
    again: ReloadFn<'a>,
}

impl Start<'_> {
    fn serve(self, runtime: &Runtime) -> Result<(), RunError> {
        let Self { config, telemetry, manager, watchdog, inherited, again } = self;
        // The ring is tested on a runtime of its own, so not inside this one.
        let backend = Backend::choose(config.worker.io)?;
        let assembly =
            Assembly { config, telemetry, control: runtime.handle(), backend, manager: &manager, watchdog };
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            // A signal that comes while the store is slow to answer ends the start.
            let running = tokio::select! {
                running = assembly.start(inherited) => running?,
                () = signals.told() => return Ok(()),
            };
            let (running, parts, asks) = running;
            let reloader = Reloader { again, in_force: config.clone(), parts, telemetry };
            let reloads = Reloads { reloader, asks, manager: &manager, phase: running.phase.subscribe() };
            reloads.until_told(&mut signals).await;
            running.drain(&mut signals, &manager).await
        })?;
        info!("ended");
        Ok(())
    }
}

/// The running parts, and what keeps them running.
struct Running {
    workers: Workers,
    phase: watch::Sender<Phase>,
    guard: GuardHandle,
    certificates: Certificates,
    api: Option<ApiServer>,
    fleet: Option<FleetReporter>,
    webhooks: WebhooksEnd,
    /// Answers until the last worker has ended.
    _control: (Control, ControlSocket),
}

impl Running {
    /// Drains, and returns when the workers have ended; a signal cuts that short.
    async fn drain(self, signals: &mut Signals, manager: &Manager) -> Result<(), RunError> {
        manager.tell(&[NotifyMessage::Stopping]);
        self.phase.send_replace(Phase::Draining);
        self.guard.drain();
        info!("draining: health says 503, requests in flight finish");
        let workers = tokio::task::spawn_blocking(|| self.workers.join());
        let drained = async {
            let api_drained = async {
                if let Some(api) = self.api {
                    api.drain(LAST_REQUESTS).await;
                }
            };
            tokio::join!(workers, api_drained).0.map_err(|_| RunError::Workers)
        };
        let drained = tokio::select! {
            drained = drained => drained,
            () = signals.told() => {
                warn!("second signal: open connections are closed");
                Ok(())
            }
        };
        self.webhooks.wait(LAST_EVENTS).await;
        if let Some(fleet) = self.fleet {
            fleet.end().await;
        }
        // Dropped with the runtime, an order would keep its lease until it ends by itself.
        self.certificates.close(LAST_ORDERS).await;
        drained
    }
}

/// Reloads settings for as long as the instance serves.
struct Reloads<'a> {
    reloader: Reloader<'a>,
    asks: ReloadRequests,
    manager: &'a Manager,
    phase: PhaseWatch,
}

impl Reloads<'_> {
    /// Reloads on SIGHUP and `gatehouse reload`, until the end.
    async fn until_told(mut self, signals: &mut Signals) {
        loop {
            let asked = tokio::select! {
                told = signals.next() => match told {
                    SignalRequest::End => return,
                    SignalRequest::Reload => None,
                },
                Some(asked) = self.asks.recv() => Some(asked),
            };
            let reloaded = tokio::select! {
                reloaded = self.reload() => reloaded,
                // A parameter may take seconds to be read; the end does not wait for it.
                () = signals.end() => return,
            };
            // The task that asked may have ended.
            let _ = asked.map(|asked| asked.send(reloaded));
        }
    }

    async fn reload(&mut self) -> Result<Reloaded, String> {
        self.manager.tell(&[NotifyMessage::Reloading { monotonic: monotonic() }]);
        let reloaded = self.reloader.reload().await;
        self.manager
            .tell(&[NotifyMessage::Ready, NotifyMessage::Status(manager::status(*self.phase.borrow()))]);
        reloaded
    }
}

/// `sd_notify(3)`, RELOADING: `CLOCK_MONOTONIC` at the beginning.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// SIGTERM and SIGINT, which end, and SIGHUP, which reloads.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignalRequest {
    End,
    Reload,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next of them.
    ///
    /// # Cancel safety
    /// Safe: a signal that nobody awaited goes to the next who does.
    async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.terminate.recv() => SignalRequest::End,
            _ = self.interrupt.recv() => SignalRequest::End,
            _ = self.hangup.recv() => SignalRequest::Reload,
        }
    }

    /// The next that ends; one to reload waits.
    ///
    /// # Cancel safety
    /// As [`Signals::next`].
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The next that ends; to reload is too late or too early.
    async fn told(&mut self) {
        while self.next().await != SignalRequest::End {}
    }
}

const CONTROL_THREADS: usize = 2;
/// How long requests of the API may take to be answered.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// How long events on their way may take to be answered, and the lease to be released.
const LAST_EVENTS: Duration = Duration::from_secs(5);
/// How long orders that nobody waits for any more may go on; what most CAs need.
const LAST_ORDERS: Duration = Duration::from_secs(3);
/// Time for the control plane's blocking calls.
const LAST_CALLS: Duration = Duration::from_secs(2);
