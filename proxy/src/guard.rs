//! The guard's user space: loads, attaches, pins and replaces the program; keeps its names up to date; reads its counters.
//! Not here: verdicts (`proxy_common`), which names are allowed (`domains`), whether workers run (they report to [`Heartbeat`]).
//! Invariants: fails open: whatever stops here, enforcement ends within seconds (`what_is_written_never_outlives_the_lease`); one link
//! per interface, updated and never detached (`a_second_start_adopts_maps_link_names_and_counters`); while a successor takes over from a process
//! that serves, enforcement does not end (`a_successor_takes_over_without_a_moment_unguarded`).

mod attach;
mod attachment;
mod difference;
mod enforce_until;
mod enforcement;
mod enforcer;
mod error;
pub(crate) mod explain;
mod following;
mod handle;
mod handover;
pub mod heartbeat;
mod interface;
mod kernel_names;
mod kernel_time;
mod lingering;
mod link;
mod maps;
pub(crate) mod metrics;
mod names;
mod names_state;
mod object;
mod pins;
mod policy;
mod ports;
mod recent_rejections;
mod rejections;
mod source_networks;
mod status;
mod undo;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aya::programs::links::LinkInfo;
use prometheus::Registry;
use proxy_common::maps::Verdict;
use tokio::{
    runtime::Handle,
    sync::{broadcast, watch},
    task::JoinHandle,
    time::timeout,
};
use tracing::{error, info};

use self::{
    attachment::{Attachment, Standing},
    enforcer::{Enforced, Enforcer},
    explain::{GuardFacts, GuardQuestion, GuardRules, sources_by},
    following::Following,
    handover::{Attached, AttachedState, take_over},
    interface::Interface,
    kernel_names::KernelNames,
    link::link_info,
    metrics::GuardMetrics,
    names::NamesFollower,
    pins::Pins,
    recent_rejections::RecentRejections,
    rejections::Rejections,
};
pub use self::{
    enforcement::Enforcement,
    error::GuardError,
    following::OtherGuard,
    handle::GuardHandle,
    handover::Program,
    heartbeat::Heartbeat,
    names_state::MapsOrigin,
    ports::Ports,
    recent_rejections::{RejectedRow, RejectingRow, TopRejected},
    status::{GuardReport, GuardStatus, GuardedInterface, VerdictRow},
};
use crate::{
    clock,
    config::{self, Reloadable},
    domains::{Denied, LastUse, NameSet, Revision},
    telemetry::metrics::Label,
};

/// What the guard depends on.
pub struct GuardContext<'a> {
    /// The allowed names; without a revision they have not been read yet.
    pub names: watch::Receiver<NameSet>,
    /// Denials as they happen.
    pub denials: broadcast::Receiver<Denied>,
    /// Set when a name is rejected: it may have been added meanwhile.
    pub last_use: LastUse,
    /// Signs of life of the workers.
    pub heartbeat: Arc<Heartbeat>,
    /// Where metrics are registered.
    pub registry: &'a Registry,
    /// The runtime the names are followed on.
    pub control: &'a Handle,
    /// Whether another process guards until this one does.
    pub other: OtherGuard,
}

/// The attached program. Dropped, it ends enforcement and leaves the program attached, so that its successor adopts it.
pub struct Guard {
    config: Reloadable<config::GuardConfig>,
    interfaces: Vec<Interface>,
    state: AttachedState,
    capacity: usize,
    metrics: GuardMetrics,
    enforcer: Arc<Enforcer>,
    rejected: Arc<Mutex<RecentRejections>>,
    held: watch::Receiver<Option<Revision>>,
    following: Following,
    follower: JoinHandle<()>,
}

/// The kernel's map of names lags behind the domain set.
#[derive(Debug, thiserror::Error)]
#[error("the guard holds {} of the domain set, not yet revision {wanted}; `gatehouse status` shows why", revision_or_none(*.held))]
pub struct NamesLate {
    wanted: Revision,
    held: Option<Revision>,
}

fn revision_or_none(held: Option<Revision>) -> String {
    held.map_or_else(|| "no revision".to_owned(), |held| format!("revision {held}"))
}

impl Guard {
    /// Attaches the program to the configured interfaces, or replaces the one that a predecessor left there, and begins to
    /// follow the domain set. Names known by now are in new maps before the program sees a packet, and in a predecessor's, which
    /// hold its names already, as soon as it does.
    pub fn start(
        config: &config::GuardConfig,
        ports: &Ports,
        around: GuardContext<'_>,
    ) -> Result<Self, GuardError> {
        let object = object::object().ok_or(GuardError::NoProgram)?;
        let interfaces =
            config.interfaces.iter().map(|name| Interface::find(name)).collect::<Result<Vec<_>, _>>()?;
        let known = around.names.borrow().clone();
        let attached = take_over(object, config, ports, &interfaces, around.other, |table| {
            table.follow(&known, clock::now());
        })?;
        Self::settle_in(config.clone(), interfaces, attached, known.revision, around)
    }

    /// Starts what runs as long as the guard: the enforcing thread, and the task that follows the names.
    fn settle_in(
        config: config::GuardConfig,
        interfaces: Vec<Interface>,
        Attached { state, names: table, until, told }: Attached,
        revision: Option<Revision>,
        around: GuardContext<'_>,
    ) -> Result<Self, GuardError> {
        let capacity = table.capacity();
        let metrics = GuardMetrics::register(around.registry, Arc::clone(&state.verdicts))
            .map_err(GuardError::Metrics)?;
        metrics.capacity(capacity);
        metrics.configured(interfaces.len());
        metrics.attached(config.attach, interfaces.len());
        let rejected = Arc::new(Mutex::new(RecentRejections::default()));
        let rejections = Rejections {
            verdicts: Arc::clone(&state.verdicts),
            last_use: around.last_use,
            told,
            recent: Arc::clone(&rejected),
            sampled: metrics.sampled_rejections(),
            seen: 0,
        };
        let links = interfaces
            .iter()
            .map(|interface| (interface.clone(), state.pins.link(interface.index, config.attach)));
        let thread = Enforced {
            attachment: Attachment::new(state.program.id, &state.pins, links),
            attach: config.attach,
            policy: Arc::clone(&state.policy),
            until,
            heartbeat: around.heartbeat,
            metrics: metrics.clone(),
            rejections,
            other: around.other,
        };
        let enforcer = Arc::new(Enforcer::start(table.cell(), thread)?);
        let (sender, held) = watch::channel(None);
        let following = Following::default();
        let follower = NamesFollower {
            names: around.names,
            denials: around.denials,
            denial_ttl: config.denial_ttl.map(|ttl| *ttl),
            enforcer: Arc::clone(&enforcer),
            metrics: metrics.clone(),
            held: sender,
            following: following.clone(),
        };
        follower.publish(&table, revision);
        info!(program = state.program.id, maps = ?state.origin, mode = ?config.mode, "guard on");
        let follower = around.control.spawn(follower.follow(table));
        let config = Reloadable::new(config);
        Ok(Self {
            config,
            interfaces,
            state,
            capacity,
            metrics,
            enforcer,
            rejected,
            held,
            following,
            follower,
        })
    }

    /// As [`GuardHandle::holds`].
    ///
    /// # Cancel safety
    /// Dropped, it leaves nothing behind.
    pub async fn holds(&self, revision: Revision) -> Result<(), NamesLate> {
        if self.enforcer.standing() == Standing::Over {
            return Ok(());
        }
        let mut held = self.held.clone();
        let waited = timeout(PATIENCE, held.wait_for(|held| *held >= Some(revision))).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NamesLate { wanted: revision, held: *self.held.borrow() }),
        }
    }

    /// As [`GuardHandle::drain`].
    pub fn drain(&self) {
        self.enforcer.drain();
        // A successor may have adopted the maps: two that write differences would undo each other's.
        self.follower.abort();
    }

    /// Removes every link and map pinned in `pin_path`, and the bpffs there if the guard mounted it; returns what was removed.
    pub fn detach(pin_path: &Path) -> Result<Vec<PathBuf>, GuardError> {
        Pins::existing(pin_path).map_or_else(|| Ok(Vec::new()), Pins::remove_all)
    }

    /// As [`GuardHandle::set_policy`].
    pub fn set_policy(&self, config: &config::GuardConfig) -> Result<(), GuardError> {
        match self.enforcer.standing() {
            Standing::InForce => {}
            Standing::Contested => return Err(GuardError::Contested),
            Standing::Over => return Ok(()),
        }
        if let Err(refused) = self.write_policy(config) {
            if let Err(error) = self.write_policy(&self.config.load_full()) {
                error!(error = &error as &dyn std::error::Error, "the guard's settings are new in part");
            }
            return Err(refused);
        }
        self.config.replace(config.clone());
        Ok(())
    }

    /// Networks first: there may be no room for them.
    fn write_policy(&self, config: &config::GuardConfig) -> Result<(), GuardError> {
        let mut guarded = self.state.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        guarded.write(&self.state.ports, config)?;
        drop(guarded);
        self.state.policy.lock().unwrap_or_else(PoisonError::into_inner).configure(config)
    }

    /// Writes all of it, whatever a successor that has failed may have written.
    fn rewrite_policy(&self) {
        self.state.policy.lock().unwrap_or_else(PoisonError::into_inner).compare_next();
        let compared = self.state.guarded.lock().unwrap_or_else(PoisonError::into_inner).compare();
        if let Err(error) = compared.and_then(|()| self.set_policy(&self.config.load_full())) {
            error!(error = &error as &dyn std::error::Error, "the guard's settings are a failed successor's");
        }
    }

    fn facts(&self, question: &GuardQuestion, known: &NameSet) -> Result<GuardFacts, GuardError> {
        let config = self.config.load_full();
        let kernel = KernelNames::open(&self.state.pins.maps())?;
        let settings = self.state.policy.lock().unwrap_or_else(PoisonError::into_inner).in_force();
        let left = kernel.unknown_left(&settings)?;
        let (enforcement, ports) = (self.enforcer.enforcement(), self.state.ports.clone());
        let rules = GuardRules::new(settings, enforcement, ports, !config.deny.is_empty(), Some(left));
        let mut facts = GuardFacts::of_names(question, known);
        for name in &mut facts.names {
            kernel.find(name)?;
        }
        Ok(GuardFacts { rules: Some(rules), sources: sources_by(&config, &question.sources), ..facts })
    }

    fn report(&self) -> GuardReport {
        let config = self.config.load_full();
        GuardReport {
            mode: config.mode,
            enforcement: self.enforcer.enforcement().as_str().to_owned(),
            attach: config.attach,
            interfaces: self
                .interfaces
                .iter()
                .map(|interface| self.guarded(interface, config.attach))
                .collect(),
            program: self.state.program.clone(),
            maps: self.state.origin,
            pin_path: config.pin_path.clone(),
            names: self.metrics.names_held(),
            names_capacity: self.capacity,
            revision: *self.held.borrow(),
            rejected: self.rejected.lock().unwrap_or_else(PoisonError::into_inner).top(clock::now()),
            verdicts: Verdict::ALL.iter().filter_map(|verdict| self.row(*verdict)).collect(),
        }
    }

    fn guarded(&self, interface: &Interface, attach: config::Attach) -> GuardedInterface {
        let link = link_info(&self.state.pins.link(interface.index, attach)).filter(|_| interface.is_there());
        GuardedInterface {
            name: interface.name.clone(),
            index: interface.index,
            link: link.as_ref().map(LinkInfo::id),
            program: link.as_ref().map(LinkInfo::program_id),
        }
    }

    fn row(&self, verdict: Verdict) -> Option<VerdictRow> {
        let tally = self.state.verdicts.tally(verdict).ok()?;
        Some(VerdictRow { verdict: verdict.as_str().to_owned(), packets: tally.packets, bytes: tally.bytes })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.follower.abort();
        self.enforcer.end();
    }
}

/// How long a change of the domain set may take to reach the kernel before a waiting caller is told that it has not.
const PATIENCE: Duration = Duration::from_secs(5);
