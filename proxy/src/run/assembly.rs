//! The order of a start: what a part needs is started before it.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, runtime::Handle, sync::watch};

use super::{
    RunError, Running,
    inheritance::Inheritance,
    local_copy::{self, CopyParts, CopyTask},
    manager::{self, Manager, NotifyMessage},
    memory::{Shortage, watch_over},
    phase::follow,
    reload::{ReloadTargets, RuntimeSettings, response_buffers},
    session_tickets::SessionTickets,
    sockets::{Capacity, Listeners, worker_count},
    startup_banner::StartupBanner,
    takeover::{every_worker_turns, first_phase, handover_sockets},
    upgrade::SocketUse,
};
use crate::{
    api,
    certificates::{self, Certificates, listing::issuer_keys},
    cleartext::CleartextService,
    clock,
    config::{Config, Endpoint},
    console,
    control::{
        Control, ControlContext, ControlPorts, ControlSocket, HandedSockets, Reload, ReloadRequests,
        RunFacts, Upgrade, UpgradeRequests, fleet::FleetReporter, setup_links::LinkSettings,
    },
    domains::{
        Domains,
        admin::{Issuance, Quotas, Rules},
    },
    ec2::{self, Ec2Facts, IdentitySource, LifecycleTarget},
    forward::{self, RelaySettings, RequestRates, Service, TrustedProxies, UpstreamSettings},
    guard::{GuardContext, GuardHandle, Heartbeat, OtherGuard, Ports},
    phase::{Phase, PhaseWatch},
    store::{Store, probe, tables},
    telemetry::{self, Telemetry},
    tls::{ServerConfigs, tickets::TicketKeys},
    transport::Backend,
    verification,
    webhooks::WebhooksEnd,
    worker::{self, Connections, Excess, HeldBytes, Shared},
};

/// What every step of a start is given.
pub(super) struct Assembly<'a> {
    pub(super) config: &'a Config,
    pub(super) telemetry: &'a Telemetry,
    pub(super) control: &'a Handle,
    pub(super) backend: Backend,
    pub(super) manager: &'a Manager,
    pub(super) watchdog: Option<Duration>,
    /// The program that a successor is started from.
    pub(super) program: &'a Path,
}

/// What a running instance is asked for by others.
pub(super) struct Requests {
    pub(super) reloads: ReloadRequests,
    pub(super) upgrades: UpgradeRequests,
}

/// What is started before a socket listens.
struct PreparedState {
    store: Store,
    domains: Domains,
    certificates: Certificates,
    tickets: TicketKeys,
    copy: Option<CopyTask>,
}

impl Assembly<'_> {
    /// Starts everything. Dropped or failed, it leaves nothing behind but the state directory, and that only if nothing was found
    /// wrong with the settings, the machine and the tables of a store elsewhere.
    pub(super) async fn start(
        &self,
        inheritance: Inheritance,
    ) -> Result<(Running, ReloadTargets, Requests), RunError> {
        let begun = clock::now();
        let config = self.config;
        self.probe(&inheritance)?;
        let Inheritance { listeners: inherited, control: mut handed, predecessor } = inheritance;
        let live = RuntimeSettings::read(config)?;
        let control_ports = ControlPorts::bind(&config.control, &mut handed).await?;
        let api_port = api::bind(config, &mut handed).await?;
        let threads = worker_count(&config.worker)?;
        let capacity = Capacity::claim(config, threads);
        let upstream = Arc::new(UpstreamSettings::new(&config.upstream, capacity.targets)?);
        self.backend.register(&self.telemetry.registry)?;
        let source = IdentitySource::of(&config.instance);
        let seen = source.see().await;
        let has_socket = handed.has_unix(&config.control_socket());
        let control_socket = if has_socket { SocketUse::Taken } else { SocketUse::Unused };
        // Boxed: much is waited for at once.
        let (known, mut socket) = Box::pin(self.know(&source, &mut handed)).await?;
        let (phase, watched) = watch::channel(first_phase(&known.domains, predecessor.as_ref()).await);
        // Whatever was opened and closed again from here on would cost requests.
        let listeners = Listeners::open(&config.listen, threads, inherited, self.manager)?;
        let https_port = listeners.public_https_port();
        let heartbeat = Arc::new(Heartbeat::new(listeners.workers(), begun));
        let other = predecessor.as_ref().map_or(OtherGuard::None, |_| OtherGuard::Predecessors);
        let guard = self.guard(&known.domains, &listeners, &heartbeat, other)?;
        let service = Arc::new(self.service(&known, &listeners, &live, Arc::clone(&upstream)));
        let shared =
            Arc::new(self.share(&known, service, Arc::clone(&heartbeat), watched, &live, capacity)?);
        let (reload, reloads) = Reload::channel();
        let (upgrade, upgrades) = Upgrade::channel(self.program);
        let identity = self.identity(begun, &listeners, (&control_ports, api_port.as_ref()), &seen);
        let instance = self.context(identity, &known, guard.clone(), &shared, &live, (reload, upgrade));
        let instance = Arc::new(instance);
        let certificates = known.certificates.clone();
        let root = certificates.internal_root();
        let banner = StartupBanner::of(config, &instance, &seen, root);
        let (sockets, mut handover) = listeners.into_sockets();
        let others = handover_sockets(&socket, &control_ports, api_port.as_ref());
        handover.extend(others.map_err(RunError::Share)?);
        let webhooks = self.start_jobs(&known, &shared, &live, https_port, &phase)?;
        self.decide_phase(source, &known.domains, &shared, &live, phase.clone());
        let registry = &self.telemetry.registry;
        let pages = console::pages(config)?;
        let api = api_port
            .map(|port| api::start(config, port, &instance, https_port, registry, pages))
            .transpose()?;
        let fleet = FleetReporter::start(&config.state_directory, &instance);
        let control = Control::open(&socket, instance, control_ports, registry);
        let control = control.map_err(RunError::Control)?;
        // Last, since who accepts must not fail any more.
        let workers = worker::spawn(&shared, self.backend, sockets).map_err(RunError::Spawn)?;
        if let Some(predecessor) = predecessor {
            every_worker_turns(&heartbeat).await;
            predecessor.ready(control_socket).await;
            self.manager.catch_up();
        }
        // Not before: a start that fails leaves it to the predecessor, which goes on.
        socket.take_over();
        banner.show(self.telemetry, config.log.format);
        // Ready means accepting connections and answering /health, even if nothing can be served.
        let attend = manager::attend(self.manager.clone(), phase.subscribe(), heartbeat, self.watchdog);
        self.manager.tell(&[NotifyMessage::Ready, NotifyMessage::Status(manager::status(*phase.borrow()))]);
        self.control.spawn(attend);
        let parts = ReloadTargets {
            domains: known.domains.clone(),
            guard: guard.clone(),
            connections: shared.connections.clone(),
            upstream,
            held: shared.held.clone(),
            workers: threads,
            live,
        };
        let running = Running {
            workers,
            phase,
            guard,
            domains: known.domains,
            certificates,
            api,
            fleet,
            webhooks,
            copy: known.copy,
            control: (control, socket),
            handover,
        };
        Ok((running, parts, Requests { reloads, upgrades }))
    }

    /// Starts what is not asked for by a client: checks of names, and webhooks.
    fn start_jobs(
        &self,
        known: &PreparedState,
        shared: &Shared,
        live: &RuntimeSettings,
        https_port: u16,
        phase: &watch::Sender<Phase>,
    ) -> Result<WebhooksEnd, RunError> {
        let (control, registry) = (self.control, &self.telemetry.registry);
        let permits = shared.service.relay.upstream.address_policy().entry_permits();
        let names = (&known.store, &known.domains);
        verification::start(self.config, https_port, permits, names, phase.subscribe(), control, registry)?;
        control.spawn(telemetry::tell_left_out());
        Ok(live.webhooks.start(&known.store, phase.subscribe(), control, registry)?)
    }

    /// Keeps `phase` in step with memory, the Auto Scaling group and the names.
    fn decide_phase(
        &self,
        source: IdentitySource,
        domains: &Domains,
        shared: &Shared,
        live: &RuntimeSettings,
        phase: watch::Sender<Phase>,
    ) {
        let (short, shortage) = watch::channel(Shortage::None);
        let (connections, excess) = (shared.connections.clone(), shared.excess.clone());
        let certificates = shared.certificates.clone();
        self.control.spawn(watch_over(live.limits.clone(), connections, excess, certificates, short));
        let (target_states, target_state) = watch::channel(LifecycleTarget::Serve);
        self.control.spawn(ec2::follow(source, *self.config.instance.lifecycle_poll, target_states));
        self.control.spawn(follow(domains.clone(), shortage, target_state, phase));
    }

    /// What can be found wrong without making anything.
    fn probe(&self, inheritance: &Inheritance) -> Result<(), RunError> {
        let config = self.config;
        ControlSocket::probe(&config.control_socket(), &inheritance.control)?;
        Listeners::probe(&config.listen, &inheritance.listeners)?;
        GuardHandle::probe(&config.guard)?;
        certificates::probe(&config.certificates).map_err(certificates::CertificatesStartError::from)?;
        Ok(())
    }

    /// Makes what is kept on this machine.
    fn settle(&self, handed: &mut HandedSockets) -> Result<ControlSocket, RunError> {
        make_directory(&self.config.state_directory)?;
        Ok(ControlSocket::bind(&self.config.control_socket(), handed)?)
    }

    /// Store, names and certificates, and the control socket. A store that does not answer does not end the start: the phase decides
    /// what is served. One that lacks a table, or refuses us, ends the start; where it is elsewhere, before anything is made here.
    async fn know(
        &self,
        source: &IdentitySource,
        handed: &mut HandedSockets,
    ) -> Result<(PreparedState, ControlSocket), RunError> {
        let Self { config, telemetry, control, .. } = *self;
        let is_embedded = config.store.endpoint == Endpoint::Embedded;
        let early = if is_embedded { Some(self.settle(handed)?) } else { None };
        let store = Store::connect(&config.store, source, &config.state_directory).await?;
        store.register_metrics(&telemetry.registry)?;
        if is_embedded {
            tables::create(&store).await?;
        }
        let domains = Domains::start(&config.domains, &store, control, &telemetry.registry)?;
        let needed = if config.domains.table {
            probe::DomainsTableUse::Needed
        } else {
            probe::DomainsTableUse::Unused
        };
        let tickets = TicketKeys::new(*config.tls.ticket_key_period, &telemetry.registry)?;
        let (reached, _, session_tickets) = tokio::join!(
            probe::reach(&store, needed),
            domains.settled(NAMES_PATIENCE),
            // Boxed: the future of an SDK call is large.
            Box::pin(SessionTickets::start(&config.tls, &store, tickets.clone()))
        );
        let seen = reached?;
        let socket = early.map_or_else(|| self.settle(handed), Ok)?;
        let certificates = Certificates::start(config, &store, &domains, control, &telemetry.registry)?;
        control.spawn(session_tickets.follow());
        let parts = CopyParts { store: &store, domains: &domains, certificates: &certificates };
        let copy = local_copy::start(&config.store, parts, seen, control, &telemetry.registry).await?;
        Ok((PreparedState { store, domains, certificates, tickets, copy }, socket))
    }

    fn guard(
        &self,
        domains: &Domains,
        listeners: &Listeners,
        heartbeat: &Arc<Heartbeat>,
        other: OtherGuard,
    ) -> Result<GuardHandle, RunError> {
        let around = GuardContext {
            names: domains.names(),
            denials: domains.denials(),
            last_use: domains.last_use(),
            heartbeat: Arc::clone(heartbeat),
            registry: &self.telemetry.registry,
            control: self.control,
            other,
        };
        let ports = Ports::of(&self.config.guard, &listeners.bound);
        Ok(GuardHandle::start(&self.config.guard, &ports, around)?)
    }

    fn share(
        &self,
        known: &PreparedState,
        service: Arc<Service>,
        heartbeat: Arc<Heartbeat>,
        phase: PhaseWatch,
        live: &RuntimeSettings,
        capacity: Capacity,
    ) -> Result<Shared, RunError> {
        let config = self.config;
        Ok(Shared {
            domains: known.domains.clone(),
            certificates: known.certificates.clone(),
            server_configs: ServerConfigs::new(known.tickets.clone()),
            minimum_tls: config.tls.minimum_version,
            default_name: config.tls.default_name.clone(),
            cleartext: Arc::new(CleartextService {
                domains: known.domains.clone(),
                certificates: known.certificates.clone(),
                phase: phase.clone(),
                error_pages: live.error_pages.clone(),
                edge: config.verification.edge_names.first().cloned(),
                public_https_port: service.relay.public_https_port,
                trusted_proxies: service.trusted_proxies.clone(),
            }),
            service,
            requests: forward::RequestMetrics::register(&self.telemetry.registry)?,
            access_log: self.telemetry.access_log.clone(),
            limits: live.limits.clone(),
            connections: Connections::new(capacity.clients, config.limits.connections_per_source),
            balancers: config.listen.proxy_protocol.clone(),
            held: HeldBytes::new(response_buffers(&config.limits)),
            excess: Excess::default(),
            heartbeat,
            phase,
            drain_deadline: live.drain_deadline.clone(),
            metrics: worker::WorkerMetrics::register(&self.telemetry.registry)?,
        })
    }

    fn service(
        &self,
        known: &PreparedState,
        listeners: &Listeners,
        live: &RuntimeSettings,
        upstream: Arc<UpstreamSettings>,
    ) -> Service {
        let followed = Arc::clone(&upstream);
        self.control.spawn(async move { followed.follow_own_addresses().await });
        Service {
            domains: known.domains.clone(),
            default_target: live.default_target.clone(),
            rates: RequestRates::default(),
            trusted_proxies: TrustedProxies::new(self.config.listen.trusted_proxies.clone()),
            relay: RelaySettings {
                limits: live.limits.clone(),
                headers: live.headers.clone(),
                compression: live.compression.clone(),
                compressed: forward::CompressedStreams::default(),
                error_pages: live.error_pages.clone(),
                upstream,
                control: self.control.clone(),
                public_https_port: listeners.public_https_port(),
            },
        }
    }

    /// What the control socket answers from.
    fn context(
        &self,
        identity: RunFacts,
        known: &PreparedState,
        guard: GuardHandle,
        shared: &Shared,
        live: &RuntimeSettings,
        (reload, upgrade): (Reload, Upgrade),
    ) -> ControlContext {
        let certificates = &self.config.certificates;
        ControlContext {
            identity,
            domains: known.domains.clone(),
            store: known.store.clone(),
            certificates: known.certificates.clone(),
            issuer_keys: issuer_keys(certificates),
            guard,
            phase: shared.phase.clone(),
            connections: shared.connections.clone(),
            reload,
            upgrade,
            default_target: shared.service.default_target.clone(),
            limits: shared.service.relay.limits.clone(),
            address_policy: shared.service.relay.upstream.address_policy(),
            issuance: Issuance::of(certificates),
            reserved: Rules::reserved(self.config),
            audit_kept: *self.config.domains.audit_kept,
            events: live.events.clone(),
            quotas: Quotas::of(&self.config.domains),
            required: self.config.verification.required,
            tickets: known.tickets.clone(),
            links: LinkSettings::of(self.config),
        }
    }

    fn identity(
        &self,
        started: Instant,
        listeners: &Listeners,
        (ports, api): (&ControlPorts, Option<&TcpListener>),
        seen: &Ec2Facts,
    ) -> RunFacts {
        let address = |listener: Option<&TcpListener>| listener?.local_addr().ok();
        let issuers = &self.config.certificates.issuers;
        let internal = issuers.is_empty().then(|| "internal".to_owned());
        RunFacts {
            started,
            backend: self.backend,
            workers: listeners.workers(),
            https: listeners.bound.https.clone(),
            http: listeners.bound.http.clone(),
            metrics: address(ports.metrics.as_ref()),
            ask_server: address(ports.ask.as_ref()),
            api: address(api),
            instance: seen.identity().cloned(),
            store: self.config.store.endpoint.to_string(),
            issuers: issuers.iter().map(|issuer| issuer.directory.clone()).chain(internal).collect(),
        }
    }
}

/// It will hold private keys.
fn make_directory(path: &Path) -> Result<(), RunError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RunError::StateDirectory { path: path.to_path_buf(), source })
}

/// How long a start waits for the table before it continues with what is known.
const NAMES_PATIENCE: Duration = Duration::from_secs(10);
