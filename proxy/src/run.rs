//! A running instance: what is started in which order, and how it ends.
//! Not here: what the parts do. This module only assembles them.
//! Invariants: wrong settings, or a machine that does not suit them, end the start with one error before a socket listens
//! (`proxy/tests/cli.rs`), and the service manager gets it (`a_start_that_fails_tells_the_manager_what_to_do`); at the end, health turns
//! 503 first (`nothing_but_the_end_follows_draining`), unless a successor serves; a restart under a service manager loses no connection
//! (`a_restart_with_kept_sockets_loses_no_connection`), nor does an upgrade (`upgrade`). What a client sends in the very moment in which its idle
//! connection over HTTP/1.1 is closed nobody can save.

mod assembly;
mod datagram;
mod error;
mod inheritance;
mod inherited;
mod local_copy;
mod manager;
mod memory;
mod metric_reference;
mod phase;
pub(crate) mod ports;
mod reload;
mod session_tickets;
mod sockets;
mod startup_banner;
mod takeover;
mod upgrade;

use std::{path::Path, time::Duration};

use nix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

pub use error::RunError;
pub use metric_reference::metric_reference;
pub use reload::ReloadFn;

use self::{
    assembly::{Assembly, Requests},
    inheritance::Inheritance,
    local_copy::CopyTask,
    manager::{Environment, Manager, NotifyMessage},
    reload::Reloader,
    upgrade::{HandoverSocket, Predecessor, Replacement, SocketUse, Upgrader, installed_program},
};
use crate::{
    api::ApiServer,
    certificates::Certificates,
    config::{Config, Loaded},
    control::{Control, ControlSocket, NotReloaded, fleet::FleetReporter, wire::Reloaded},
    domains::Domains,
    forward::LOOKUP_THREADS,
    guard::GuardHandle,
    phase::{Phase, PhaseWatch},
    telemetry::Telemetry,
    transport::Backend,
    webhooks::WebhooksEnd,
    worker::Workers,
};

/// Serves until SIGTERM or SIGINT, or until a successor has taken over, and returns when requests in flight have finished.
///
/// `again` reads the settings once more, upon SIGHUP or `gatehouse reload`.
pub fn run(loaded: &Loaded, again: ReloadFn<'_>) -> Result<(), RunError> {
    let config = &loaded.config;
    let environment = Environment::read(|name| std::env::var_os(name), std::process::id());
    let telemetry = Telemetry::start(&config.log)?;
    let program = installed_program().map_err(RunError::Program)?;
    // While nothing else has these numbers.
    let inherited = inherited::take(&environment.descriptors);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .max_blocking_threads(LOOKUP_THREADS + OTHER_BLOCKING_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let manager = Manager::of(&environment);
    let watchdog = environment.watchdog;
    let inheritance = {
        let _entered = runtime.enter();
        Inheritance::take(inherited)?
    };
    if inheritance.predecessor.is_some() {
        manager.hold_back();
    }
    let start =
        Start { config, telemetry: &telemetry, manager, watchdog, inheritance, again, program: &program };
    let outcome = start.serve(&runtime);
    runtime.shutdown_timeout(LAST_CALLS);
    outcome
}

/// Tells the service manager why there is no instance, if one started this process; it shows that until the next start.
/// Settings that cannot be read end the process before [`run`]. A successor's reason goes to its predecessor, by standard error: there is an
/// instance.
pub fn last_words(error: &str) {
    if Predecessor::is_there() {
        return;
    }
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
    inheritance: Inheritance,
    again: ReloadFn<'a>,
    program: &'a Path,
}

impl Start<'_> {
    fn serve(self, runtime: &Runtime) -> Result<(), RunError> {
        let Self { config, telemetry, manager, watchdog, inheritance, again, program } = self;
        // The ring is tested on a runtime of its own, so not inside this one.
        let backend = Backend::choose(config.worker.io)?;
        let assembly = Assembly {
            config,
            telemetry,
            control: runtime.handle(),
            backend,
            manager: &manager,
            watchdog,
            program,
        };
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            // A signal that comes while the store is slow to answer ends the start.
            let running = tokio::select! {
                running = assembly.start(inheritance) => running?,
                () = signals.told() => return Ok(()),
            };
            let (mut running, parts, requests) = running;
            let reloader = Reloader { again, in_force: config.clone(), parts, telemetry };
            let phase = running.phase.subscribe();
            let upgrader = running.upgrader(&manager);
            let serving = Serving { reloader, upgrader, requests, manager: &manager, phase };
            match serving.until_the_end(&mut signals).await {
                Ending::Told => running.stop(&mut signals, &manager).await,
                Ending::Replaced(replacement) => running.give_way(replacement, &mut signals).await,
            }
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
    domains: Domains,
    certificates: Certificates,
    api: Option<ApiServer>,
    fleet: Option<FleetReporter>,
    webhooks: WebhooksEnd,
    copy: Option<CopyTask>,
    /// Answers until the last worker has ended, or a successor does.
    control: (Control, ControlSocket),
    handover: Vec<HandoverSocket>,
}

impl Running {
    /// What has a successor take over. It holds every listening socket open for as long as it is there.
    fn upgrader<'a>(&mut self, manager: &'a Manager) -> Upgrader<'a> {
        Upgrader {
            sockets: std::mem::take(&mut self.handover),
            guard: self.guard.clone(),
            phase: self.phase.subscribe(),
            domains: self.domains.clone(),
            manager,
        }
    }

    /// Drains since this instance is told to end, and returns when the workers have ended; a signal cuts that short.
    async fn stop(self, signals: &mut Signals, manager: &Manager) -> Result<(), RunError> {
        manager.tell(&[NotifyMessage::Stopping]);
        self.phase.send_replace(Phase::Draining);
        self.guard.drain();
        info!("draining: health says 503, requests in flight finish");
        let Self { workers, certificates, api, fleet, webhooks, copy, control: _answers, .. } = self;
        let drained = drain(workers, api, signals).await;
        if let Some(copy) = copy {
            copy.end(LAST_COPY).await;
        }
        webhooks.wait(LAST_EVENTS).await;
        if let Some(fleet) = fleet {
            fleet.end().await;
        }
        // Dropped with the runtime, an order would keep its lease until it ends by itself.
        certificates.close(LAST_ORDERS).await;
        drained
    }

    /// Drains since a successor serves at the same sockets, under the same identity.
    async fn give_way(self, mut replacement: Replacement, signals: &mut Signals) -> Result<(), RunError> {
        let Self { workers, phase, guard, certificates, api, fleet, webhooks, copy, control, .. } = self;
        // What the successor says of this instance in the fleet holds, and what it copies.
        drop((fleet, copy));
        guard.release();
        phase.send_replace(Phase::Replaced);
        info!("a successor serves: nothing more is accepted, requests in flight finish");
        let (control, socket) = control;
        match replacement.control_socket {
            SocketUse::Taken => socket.leave(),
            SocketUse::Unused => drop(socket),
        }
        // The upgrade's own answer among them.
        control.drain(LAST_ANSWERS).await;
        let drained = tokio::select! {
            drained = drain(workers, api, signals) => drained,
            () = replacement.lost() => {
                error!("the successor is lost: open connections are closed, since the service manager starts another at our end");
                Ok(())
            }
        };
        webhooks.wait(LAST_EVENTS).await;
        certificates.close(LAST_ORDERS).await;
        drained
    }
}

/// Returns when workers and API have ended; a signal cuts that short.
async fn drain(workers: Workers, api: Option<ApiServer>, signals: &mut Signals) -> Result<(), RunError> {
    let workers = tokio::task::spawn_blocking(|| workers.join());
    let drained = async {
        let api_drained = async {
            if let Some(api) = api {
                api.drain(LAST_REQUESTS).await;
            }
        };
        tokio::join!(workers, api_drained).0.map_err(|_| RunError::Workers)
    };
    tokio::select! {
        drained = drained => drained,
        () = signals.told() => {
            warn!("second signal: open connections are closed");
            Ok(())
        }
    }
}

/// Why an instance serves no longer.
enum Ending {
    /// By a signal.
    Told,
    /// A successor serves.
    Replaced(Replacement),
}

/// Does what is asked for as long as the instance serves.
struct Serving<'a> {
    reloader: Reloader<'a>,
    upgrader: Upgrader<'a>,
    requests: Requests,
    manager: &'a Manager,
    phase: PhaseWatch,
}

impl Serving<'_> {
    /// Reloads on SIGHUP and `gatehouse reload`, and has a successor take over on `gatehouse upgrade`, until the end.
    async fn until_the_end(mut self, signals: &mut Signals) -> Ending {
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    SignalRequest::End => return Ending::Told,
                    SignalRequest::Reload => tokio::select! {
                        _ = self.reload() => {}
                        // A parameter may take seconds to be read; the end does not wait for it.
                        () = signals.end() => return Ending::Told,
                    },
                },
                Some(asked) = self.requests.reloads.recv() => tokio::select! {
                    // The task that asked may have ended.
                    reloaded = self.reload() => drop(asked.send(reloaded)),
                    () = signals.end() => return Ending::Told,
                },
                Some(asked) = self.requests.upgrades.recv() => tokio::select! {
                    replaced = self.upgrader.upgrade(asked, &self.reloader.in_force) => {
                        if let Some(replacement) = replaced {
                            return Ending::Replaced(replacement);
                        }
                    }
                    () = signals.end() => return Ending::Told,
                },
            }
        }
    }

    async fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
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
/// Threads for calls that block, beside those of names of targets: as many as tokio's pool has by itself.
const OTHER_BLOCKING_THREADS: usize = 512;
/// How long requests of the API may take to be answered.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// How long commands that are being carried out may take to be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long events on their way may take to be answered, and the lease to be released.
const LAST_EVENTS: Duration = Duration::from_secs(5);
/// How long the last copy of what was served may take to be written.
const LAST_COPY: Duration = Duration::from_secs(3);
/// How long orders that nobody waits for any more may go on; what most CAs need.
const LAST_ORDERS: Duration = Duration::from_secs(3);
/// Time for the control plane's blocking calls.
const LAST_CALLS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_permits_the_threads_of_two_instances() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packer/package/gatehouse.service");
        let text = std::fs::read_to_string(file).unwrap();
        let most = text.lines().find_map(|line| line.strip_prefix("TasksMax=")).unwrap();
        // Beside those that block: workers, the control plane, log and guard.
        let of_one = LOOKUP_THREADS + OTHER_BLOCKING_THREADS + CONTROL_THREADS + 256;
        assert!(most.parse::<usize>().unwrap() >= 2 * of_one, "{most}");
    }
}
