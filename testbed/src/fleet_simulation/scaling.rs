//! An Auto Scaling group: how many instances there are, and where each is in its life. Pure.
//! Not here: machines (`machine`), and who tells what happens (`control`).

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// A version of a launch template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) version: u32,
    pub(super) image: Image,
}

/// What a template's instances are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    Good,
    /// It runs, and its `/health` never says 200.
    Bad,
}

/// "Amazon EC2 Auto Scaling instance lifecycle". `Pending:Proceed` passes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    PendingWait { until: Instant },
    InService,
    TerminatingWait { until: Instant },
    TerminatingProceed,
}

/// One instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) address: Ipv4Addr,
    /// Which of the zones.
    pub(super) zone: usize,
    pub(super) template: Template,
    pub(super) state: State,
}

/// How long hooks wait, as `infra/fleet.yaml` has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hooks {
    pub(super) join: Duration,
    pub(super) leave: Duration,
}

/// The group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) desired: usize,
    pub(super) template: Template,
    pub(super) instances: BTreeMap<String, Instance>,
    /// A zone in which nothing can be launched.
    pub(super) lost_zone: Option<usize>,
    hooks: Hooks,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// EC2 is to start one more, in this zone.
    Launch { zone: usize },
    /// EC2 is to end it.
    ShutDown(String),
    /// Who listens to the group's events is told.
    Event,
}

impl State {
    /// As the API says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::PendingWait { .. } => "Pending:Wait",
            Self::InService => "InService",
            Self::TerminatingWait { .. } => "Terminating:Wait",
            Self::TerminatingProceed => "Terminating:Proceed",
        }
    }

    /// What the instance's metadata say.
    pub(super) const fn target(self) -> &'static str {
        if self.counts() { "InService" } else { "Terminated" }
    }

    /// Whether it counts towards the capacity.
    const fn counts(self) -> bool {
        match self {
            Self::Pending | Self::PendingWait { .. } | Self::InService => true,
            Self::TerminatingWait { .. } | Self::TerminatingProceed => false,
        }
    }
}

impl Group {
    pub(super) const fn new(template: Template, hooks: Hooks) -> Self {
        Self { desired: 0, template, instances: BTreeMap::new(), lost_zone: None, hooks }
    }

    /// What time and capacity demand.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        for (id, instance) in &mut self.instances {
            match instance.state {
                // DefaultResult of `join` is ABANDON: it is terminated, and no further hook waits.
                State::PendingWait { until } | State::TerminatingWait { until } if until <= now => {
                    instance.state = State::TerminatingProceed;
                    orders.push(Order::ShutDown(id.clone()));
                }
                _ => {}
            }
        }
        orders.extend(self.missing_zones().into_iter().map(|zone| Order::Launch { zone }));
        orders
    }

    /// Where further instances belong: always the emptier zone.
    fn missing_zones(&self) -> Vec<usize> {
        let mut counts = [0; ZONES];
        for instance in self.instances.values().filter(|one| one.state.counts()) {
            if let Some(count) = counts.get_mut(instance.zone) {
                *count += 1;
            }
        }
        let missing = self.desired.saturating_sub(counts.iter().sum());
        let mut zones = Vec::new();
        for _ in 0..missing {
            let zones_left = (0..ZONES).filter(|zone| self.lost_zone != Some(*zone));
            let emptiest = zones_left.min_by_key(|zone| counts.get(*zone).copied()).unwrap_or_default();
            if let Some(count) = counts.get_mut(emptiest) {
                *count += 1;
            }
            zones.push(emptiest);
        }
        zones
    }

    /// EC2 starts it.
    pub(super) fn launched(&mut self, id: String, address: Ipv4Addr, zone: usize) {
        let template = self.template;
        self.instances.insert(id, Instance { address, zone, template, state: State::Pending });
    }

    /// EC2 runs it: its hook waits.
    pub(super) fn runs(&mut self, id: &str, now: Instant) -> Vec<Order> {
        let until = now + self.hooks.join;
        match self.instances.get_mut(id) {
            Some(one) if one.state == State::Pending => {
                one.state = State::PendingWait { until };
                vec![Order::Event]
            }
            _ => Vec::new(),
        }
    }

    /// It is to leave: its hook waits.
    pub(super) fn terminate(&mut self, id: &str, now: Instant) -> Vec<Order> {
        let until = now + self.hooks.leave;
        match self.instances.get_mut(id) {
            Some(one) if one.state.counts() => {
                one.state = State::TerminatingWait { until };
                vec![Order::Event]
            }
            _ => Vec::new(),
        }
    }

    /// EC2 has ended it, whether it was asked to or not.
    pub(super) fn gone(&mut self, id: &str) -> Vec<Order> {
        self.instances.remove(id).map(|_| Order::Event).into_iter().collect()
    }

    /// `CompleteLifecycleAction` of the hook `join` with CONTINUE; whether the hook waits.
    pub(super) fn complete_join(&mut self, id: &str) -> bool {
        let waiting = self.instances.get_mut(id).filter(|one| matches!(one.state, State::PendingWait { .. }));
        waiting.map(|one| one.state = State::InService).is_some()
    }

    /// `RecordLifecycleActionHeartbeat` of the hook `leave`; whether the hook waits.
    pub(super) fn prolong_leave(&mut self, id: &str, now: Instant) -> bool {
        let until = now + self.hooks.leave;
        let waiting =
            self.instances.get_mut(id).filter(|one| matches!(one.state, State::TerminatingWait { .. }));
        waiting.map(|one| one.state = State::TerminatingWait { until }).is_some()
    }

    /// Those in service.
    pub(super) fn in_service(&self) -> Vec<String> {
        self.with(|one| one.state == State::InService)
    }

    /// Those of which `holds`.
    pub(super) fn with(&self, holds: impl Fn(&Instance) -> bool) -> Vec<String> {
        self.instances.iter().filter(|(_, one)| holds(one)).map(|(id, _)| id.clone()).collect()
    }
}

/// Of a region.
pub(super) const ZONES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS: Hooks = Hooks { join: Duration::from_secs(9), leave: Duration::from_secs(4) };
    const TEMPLATE: Template = Template { version: 1, image: Image::Good };

    fn launch(group: &mut Group, orders: &[Order]) {
        for (number, order) in orders.iter().enumerate() {
            let Order::Launch { zone } = order else { panic!("{order:?}") };
            group.launched(format!("i-{number}"), Ipv4Addr::LOCALHOST, *zone);
        }
    }

    #[test]
    fn an_instance_comes_and_goes_by_its_hooks() {
        let (mut group, now) = (Group::new(TEMPLATE, HOOKS), Instant::now());
        group.desired = 1;
        let orders = group.advance(now);
        launch(&mut group, &orders);
        assert_eq!(group.advance(now), []);
        assert_eq!(group.runs("i-0", now), [Order::Event]);
        assert!(group.complete_join("i-0") && !group.complete_join("i-0"));
        assert_eq!(group.advance(now + HOOKS.join), []);
        group.desired = 0;
        assert_eq!(group.terminate("i-0", now), [Order::Event]);
        assert!(group.prolong_leave("i-0", now + Duration::from_secs(3)));
        assert_eq!(group.advance(now + HOOKS.leave), []);
        let orders = group.advance(now + Duration::from_secs(3) + HOOKS.leave);
        assert_eq!(orders, [Order::ShutDown("i-0".to_owned())]);
        assert!(!group.prolong_leave("i-0", now));
        assert_eq!(group.gone("i-0"), [Order::Event]);
        assert!(group.instances.is_empty());
    }

    #[test]
    fn who_never_joins_is_given_up_and_replaced() {
        let (mut group, now) = (Group::new(TEMPLATE, HOOKS), Instant::now());
        group.desired = 1;
        let orders = group.advance(now);
        launch(&mut group, &orders);
        group.runs("i-0", now);
        let orders = group.advance(now + HOOKS.join);
        assert_eq!(orders, [Order::ShutDown("i-0".to_owned()), Order::Launch { zone: 0 }]);
    }

    #[test]
    fn zones_are_filled_evenly() {
        let mut group = Group::new(TEMPLATE, HOOKS);
        group.desired = 4;
        let orders = group.advance(Instant::now());
        assert_eq!(orders, [0, 1, 0, 1].map(|zone| Order::Launch { zone }));
        launch(&mut group, &orders);
        let lost = group.with(|one| one.zone == 0);
        for id in &lost {
            assert_eq!(group.gone(id), [Order::Event]);
        }
        assert_eq!(group.advance(Instant::now()), [0, 0].map(|zone| Order::Launch { zone }));
        group.lost_zone = Some(0);
        assert_eq!(group.advance(Instant::now()), [1, 1].map(|zone| Order::Launch { zone }));
    }
}
