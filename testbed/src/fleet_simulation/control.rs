//! Carries out what the doubles decide: starts and ends machines as the groups demand, tells them their target state, sets the balancer.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    balancer::Balancer,
    cloud::Cloud,
    machine::Machine,
    scaling::{Image, Order, State},
    services::Shared,
};
use crate::{edge::Edge, metadata};

/// Machines by the ids of their instances.
pub(super) type Machines = Arc<Mutex<BTreeMap<String, Machine>>>;

/// The thread; dropping it ends all machines.
#[derive(Debug)]
pub(super) struct Control {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it works with.
pub(super) struct Controller {
    pub(super) edge: Arc<Edge>,
    pub(super) binary: PathBuf,
    pub(super) cloud: Shared,
    pub(super) machines: Machines,
    pub(super) balancer: Balancer,
    pub(super) events: UnboundedSender<usize>,
    pub(super) boots: Boots,
    /// Since when machines are dead or cut off.
    pub(super) impaired: BTreeMap<String, Instant>,
}

/// Machines that are being booted: where each is told of, and where that is heard.
pub(super) struct Boots {
    tell: mpsc::Sender<(usize, String, anyhow::Result<Machine>)>,
    hear: mpsc::Receiver<(usize, String, anyhow::Result<Machine>)>,
}

impl Boots {
    pub(super) fn new() -> Self {
        let (tell, hear) = mpsc::channel();
        Self { tell, hear }
    }
}

impl Control {
    pub(super) fn start(mut controller: Controller) -> anyhow::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::Builder::new().name("control".into()).spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                if let Err(error) = controller.step() {
                    controller.cloud.lock().violate(format!("control: {error:#}"));
                }
                thread::park_timeout(TICK);
            }
            controller.end();
        })?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Controller {
    fn step(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.take_booted(now)?;
        self.take_ended();
        self.find_impaired(now);
        let regions = self.cloud.lock().regions.len();
        for region in 0..regions {
            let orders = self.cloud.lock().regions.get_mut(region).map(|one| one.group.advance(now));
            for order in orders.unwrap_or_default() {
                self.follow(region, order)?;
            }
        }
        self.tell_targets();
        let (shares, cut) = {
            let cloud = self.cloud.lock();
            (cloud.wanted_shares(), cloud.cut.clone())
        };
        if self.balancer.set(&self.edge.network.edge, shares.clone(), cut)? {
            let mut cloud = self.cloud.lock();
            cloud.note(&format!("new flows: {shares:?}"));
            cloud.shares = shares;
        }
        Ok(())
    }

    fn follow(&self, region: usize, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Launch { zone } => self.launch(region, zone),
            Order::ShutDown(id) => self.shut_down(region, &id),
            Order::Event => {
                self.tell(region);
                Ok(())
            }
        }
    }

    fn tell(&self, region: usize) {
        // Nobody listens any more where all ends.
        let _ = self.events.send(region);
    }

    fn launch(&self, region: usize, zone: usize) -> anyhow::Result<()> {
        let mut cloud = self.cloud.lock();
        let Some((id, address)) = cloud.identity() else { anyhow::bail!("no address is free") };
        let poll = cloud.times.lifecycle_poll;
        let Some(state) = cloud.regions.get_mut(region) else { return Ok(()) };
        state.group.launched(id.clone(), address, zone);
        let Some(instance) = state.group.instances.get(&id).cloned() else { return Ok(()) };
        let name = state.name;
        cloud.note(&format!("{name}: launches {id} at {address} of template {}", instance.template.version));
        drop(cloud);
        let letter = if zone == 0 { "a" } else { "b" };
        let identity = metadata::Instance {
            id: id.clone(),
            region: name.to_owned(),
            availability_zone: format!("{name}{letter}"),
        };
        let (edge, binary, tell) = (Arc::clone(&self.edge), self.binary.clone(), self.boots.tell.clone());
        thread::Builder::new().name(id.clone()).spawn(move || {
            let booted = Machine::boot(&edge, &binary, identity, &instance, poll);
            // Where nobody hears it any more, the machine ends with the message.
            drop(tell.send((region, id, booted)));
        })?;
        Ok(())
    }

    fn take_booted(&self, now: Instant) -> anyhow::Result<()> {
        while let Ok((region, id, booted)) = self.boots.hear.try_recv() {
            self.machines().insert(id.clone(), booted?);
            let orders = self.cloud.lock().regions.get_mut(region).map(|one| one.group.runs(&id, now));
            for order in orders.unwrap_or_default() {
                self.follow(region, order)?;
            }
        }
        Ok(())
    }

    /// An endpoint must be out before its machine goes: another may get its address, and with it its clients.
    fn shut_down(&self, region: usize, id: &str) -> anyhow::Result<()> {
        let mut cloud = self.cloud.lock();
        cloud.note(&format!("EC2: shuts {id} down"));
        let serves = cloud.regions.get(region).is_some_and(|one| {
            one.endpoint_group.endpoints().contains_key(id)
                && one.group.instances.get(id).is_some_and(|instance| instance.template.image == Image::Good)
        });
        if serves {
            cloud.violate(format!("{id} is shut down, and has an endpoint"));
        }
        drop(cloud);
        let is_cut = self.impaired.contains_key(id);
        match self.machines().get(id) {
            Some(machine) if is_cut => machine.kill(),
            Some(machine) => machine.shut_down(),
            None => Ok(()),
        }
    }

    /// Machines whose end was asked for.
    fn take_ended(&mut self) {
        let mut cloud = self.cloud.lock();
        for region in 0..cloud.regions.len() {
            let Some(state) = cloud.regions.get_mut(region) else { continue };
            for id in state.group.with(|one| one.state == State::TerminatingProceed) {
                let Some(status) = self.machines().get_mut(&id).and_then(Machine::ended) else { continue };
                if !status.success() && !self.impaired.contains_key(&id) {
                    cloud.violate(format!("{id} ended with {status}"));
                }
                self.remove(&mut cloud, region, &id);
            }
        }
    }

    fn remove(&self, cloud: &mut Cloud, region: usize, id: &str) {
        let Some(state) = cloud.regions.get_mut(region) else { return };
        for _ in state.group.gone(id) {
            self.tell(region);
        }
        cloud.note(&format!("EC2: {id} is terminated"));
        drop(self.machines().remove(id));
    }

    /// EC2's status checks, of machines in service.
    fn find_impaired(&mut self, now: Instant) {
        let cloud = self.cloud.clone();
        let mut cloud = cloud.lock();
        let (patience, cut) = (cloud.times.status_check, cloud.cut.clone());
        for region in 0..cloud.regions.len() {
            let Some(state) = cloud.regions.get(region) else { continue };
            let in_service = state.group.instances.iter().filter(|(_, one)| one.state == State::InService);
            let in_service: Vec<_> =
                in_service.map(|(id, one)| (id.clone(), cut.contains(&one.address))).collect();
            for (id, is_cut) in in_service {
                let is_dead = self.machines().get_mut(&id).is_some_and(|machine| machine.ended().is_some());
                if (is_cut || is_dead) && now >= *self.impaired.entry(id.clone()).or_insert(now) + patience {
                    self.take_out(&mut cloud, region, &id, is_dead, now);
                }
            }
        }
    }

    /// A machine that is dead is terminated, and no hook waits for it; one that is cut off leaves by its group's hook.
    fn take_out(&self, cloud: &mut Cloud, region: usize, id: &str, is_dead: bool, now: Instant) {
        cloud.note(&format!("EC2: {id} fails its status checks"));
        if is_dead {
            if !cloud.killed.contains(id) {
                cloud.violate(format!("{id} ended by itself"));
            }
            self.remove(cloud, region, id);
        } else if let Some(state) = cloud.regions.get_mut(region) {
            for _ in state.group.terminate(id, now) {
                self.tell(region);
            }
        }
    }

    fn tell_targets(&self) {
        let cloud = self.cloud.lock();
        let machines = self.machines();
        for (id, instance) in cloud.regions.iter().flat_map(|region| &region.group.instances) {
            if let Some(machine) = machines.get(id) {
                machine.metadata.set_target_state(instance.state.target());
            }
        }
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All at once, not one after the other.
    fn end(&self) {
        let machines = std::mem::take(&mut *self.machines());
        for machine in machines.values() {
            let _ = machine.kill();
        }
    }
}

const TICK: Duration = Duration::from_millis(20);
