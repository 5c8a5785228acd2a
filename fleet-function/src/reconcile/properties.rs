//! A world of a group, an accelerator and two looks at a time, whose steps interleave as they like. Events are nothing but the beginning of
//! a look, so that a lost, doubled or late one is a look that is missing, doubled or late; the API refuses as its documentation says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What the leave hook gives from its last prolongation.
const LEAVE_TIMEOUT: u32 = 420;
/// "Idle timeout" of the accelerator.
const IDLE_TIMEOUT: u32 = 340;

#[derive(Debug, Clone)]
enum Event {
    Launch,
    Boots,
    /// The accelerator's check of an instance comes out so.
    Checked(usize, bool),
    Terminate(usize),
    /// EC2 loses it, and no hook waits for it.
    Dies(usize),
    /// The function takes a step of one of its looks, which begins where none is under way.
    Step(usize),
    /// The same, and the API refuses with `TransactionInProgress`, or the process ends before.
    Refused(usize),
    /// A look is given up.
    Lost(usize),
    Seconds(u32),
}

#[derive(Debug, Clone)]
enum Look {
    Idle,
    /// With what it saw of the endpoints.
    SawEndpoints(BTreeMap<String, Health>),
    Acts(Vec<Action>),
}

#[derive(Debug, Clone, Copy)]
struct Instance {
    state: &'static str,
    /// When its leave hook ends.
    leaves_at: u32,
    /// When its endpoint went.
    out_since: Option<u32>,
    signalled: bool,
}

#[derive(Debug)]
struct World {
    now: u32,
    launched: usize,
    instances: BTreeMap<String, Instance>,
    endpoints: BTreeMap<String, Health>,
    looks: [Look; 2],
}

impl World {
    fn new() -> Self {
        let looks = [Look::Idle, Look::Idle];
        Self { now: 0, launched: 0, instances: BTreeMap::new(), endpoints: BTreeMap::new(), looks }
    }

    fn nth(&self, number: usize) -> Option<String> {
        let count = self.instances.len();
        (count > 0).then(|| self.instances.keys().nth(number % count).cloned()).flatten()
    }

    fn meet(&mut self, event: &Event) {
        match *event {
            Event::Launch if self.instances.len() < MOST_ENDPOINTS => {
                self.launched += 1;
                let instance = Instance { state: "Pending", leaves_at: 0, out_since: None, signalled: false };
                self.instances.insert(format!("i-{:04}", self.launched), instance);
            }
            Event::Launch => {}
            Event::Boots => {
                for instance in self.instances.values_mut().filter(|one| one.state == "Pending") {
                    instance.state = "Pending:Wait";
                }
            }
            Event::Checked(number, healthy) => {
                let health = if healthy { Health::Healthy } else { Health::Unhealthy };
                if let Some(endpoint) = self.nth(number).and_then(|id| self.endpoints.get_mut(&id)) {
                    *endpoint = health;
                }
            }
            Event::Terminate(number) => {
                let leaves_at = self.now + LEAVE_TIMEOUT;
                if let Some(one) = self.nth(number).and_then(|id| self.instances.get_mut(&id))
                    && one.state != "Terminating:Wait"
                {
                    *one = Instance { state: "Terminating:Wait", leaves_at, ..*one };
                }
            }
            Event::Dies(number) => {
                self.nth(number).and_then(|id| self.instances.remove(&id));
            }
            Event::Step(look) => self.step(look % 2, true),
            Event::Refused(look) => self.step(look % 2, false),
            Event::Lost(look) => self.looks[look % 2] = Look::Idle,
            Event::Seconds(seconds) => self.pass_time(seconds),
        }
    }

    fn pass_time(&mut self, seconds: u32) {
        self.now += seconds;
        let ended = self
            .instances
            .iter()
            .filter(|(_, one)| one.state == "Terminating:Wait" && one.leaves_at <= self.now);
        let ended: Vec<_> = ended.into_iter().map(|(id, one)| (id.clone(), *one)).collect();
        for (id, one) in ended {
            // While every minute has its look, nobody ends with an endpoint, or soon after it went.
            if let Some(out_since) = one.out_since {
                assert!(
                    one.leaves_at - out_since >= IDLE_TIMEOUT,
                    "{id} drained {} s",
                    one.leaves_at - out_since
                );
            }
            self.instances.remove(&id);
        }
    }

    fn step(&mut self, look: usize, permitted: bool) {
        self.looks[look] = match std::mem::replace(&mut self.looks[look], Look::Idle) {
            Look::Idle => Look::SawEndpoints(self.endpoints.clone()),
            Look::SawEndpoints(endpoints) => {
                let states = self.instances.iter().map(|(id, one)| (id.clone(), Lifecycle::of(one.state)));
                let group = Group { desired: self.instances.len(), instances: states.collect() };
                Look::Acts(Plan::of(&Seen { endpoints, group: Some(group) }).actions)
            }
            Look::Acts(mut actions) if !actions.is_empty() => {
                let action = actions.remove(0);
                self.act(&action, permitted);
                Look::Acts(actions)
            }
            Look::Acts(_) => Look::Idle,
        };
    }

    /// Where the API refuses, the first half of an action may be done.
    fn act(&mut self, action: &Action, permitted: bool) {
        match action {
            Action::Leave(ids) => {
                for id in ids {
                    if let Some(one) =
                        self.instances.get_mut(id).filter(|one| one.state == "Terminating:Wait")
                    {
                        one.leaves_at = self.now + LEAVE_TIMEOUT;
                    }
                }
                if permitted {
                    self.remove(ids);
                }
            }
            Action::Remove(ids) if permitted => self.remove(ids),
            // LimitExceededException refuses them all.
            Action::Add(ids) if permitted && self.endpoints.len() + ids.len() <= MOST_ENDPOINTS => {
                for id in ids {
                    self.endpoints.entry(id.clone()).or_insert(Health::Initial);
                }
            }
            Action::Remove(_) | Action::Add(_) => {}
            Action::Join(id) => {
                if let Some(one) = self.instances.get_mut(id) {
                    one.signalled = true;
                    if permitted && one.state == "Pending:Wait" {
                        one.state = "InService";
                    }
                }
            }
        }
    }

    fn remove(&mut self, ids: &BTreeSet<String>) {
        for id in ids {
            let state = self.instances.get(id).map_or("gone", |one| one.state);
            assert!(!["Pending:Wait", "InService"].contains(&state), "{id} is {state}");
            if self.endpoints.remove(id).is_some()
                && let Some(one) = self.instances.get_mut(id)
            {
                one.out_since = Some(self.now);
            }
        }
    }

    /// A look from beginning to end, by itself.
    fn look(&mut self) -> Plan {
        let states = self.instances.iter().map(|(id, one)| (id.clone(), Lifecycle::of(one.state)));
        let group = Group { desired: self.instances.len(), instances: states.collect() };
        let plan = Plan::of(&Seen { endpoints: self.endpoints.clone(), group: Some(group) });
        plan.actions.iter().for_each(|action| self.act(action, true));
        plan
    }
}

fn event() -> impl Strategy<Value = Event> {
    let number = 0..MOST_ENDPOINTS;
    prop_oneof![
        3 => Just(Event::Launch),
        3 => Just(Event::Boots),
        4 => (number.clone(), any::<bool>()).prop_map(|(number, healthy)| Event::Checked(number, healthy)),
        2 => number.clone().prop_map(Event::Terminate),
        1 => number.clone().prop_map(Event::Dies),
        12 => number.clone().prop_map(Event::Step),
        2 => number.clone().prop_map(Event::Refused),
        1 => number.prop_map(Event::Lost),
        3 => (1..30u32).prop_map(Event::Seconds),
    ]
}

proptest! {
    #[test]
    fn whatever_happened_three_looks_make_it_good(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::new();
        for event in &events {
            world.meet(event);
        }
        world.looks = [Look::Idle, Look::Idle];
        for _ in 0..3 {
            world.look();
            world.endpoints.values_mut().for_each(|health| *health = Health::Healthy);
        }
        let wanted: Vec<_> = world.instances.iter().filter(|(_, one)| one.state == "InService").map(|(id, _)| id).collect();
        prop_assert_eq!(wanted, world.endpoints.keys().collect::<Vec<_>>());
        prop_assert!(world.instances.values().all(|one| one.state != "Pending:Wait"));
        // Nothing is left to do: whatever wakes it next changes nothing.
        prop_assert_eq!(world.look().actions, []);
    }

    #[test]
    fn who_is_in_service_was_signalled(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::new();
        for event in &events {
            world.meet(event);
            prop_assert!(world.instances.values().all(|one| one.state != "InService" || one.signalled));
        }
    }

    #[test]
    fn no_group_of_endpoints_exceeds_its_limit(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::new();
        for event in &events {
            world.meet(event);
            prop_assert!(world.endpoints.len() <= MOST_ENDPOINTS);
        }
    }
}

/// Between the two readings another look may have added an instance: read the other way round, it would be put out.
#[test]
fn endpoints_are_read_first() {
    let mut world = World::new();
    world.meet(&Event::Launch);
    world.meet(&Event::Step(0));
    world.meet(&Event::Boots);
    world.look();
    assert_eq!(world.endpoints.len(), 1);
    // The first look goes on with what it saw before: no endpoint.
    (0..4).for_each(|_| world.meet(&Event::Step(0)));
    assert_eq!(world.endpoints.len(), 1);
}

#[test]
fn nobody_is_terminated_with_an_endpoint() {
    let mut world = World::new();
    for event in [Event::Launch, Event::Boots] {
        world.meet(&event);
    }
    world.look();
    world.meet(&Event::Checked(0, true));
    world.look();
    world.meet(&Event::Terminate(0));
    // The API refuses for as long as it likes: the hook is prolonged, and the endpoint stays.
    for _ in 0..30 {
        world.meet(&Event::Seconds(60));
        let plan = Plan::of(&Seen {
            endpoints: world.endpoints.clone(),
            group: Some(Group { desired: 1, instances: [("i-0001".to_owned(), Lifecycle::Leaving)].into() }),
        });
        plan.actions.iter().for_each(|action| world.act(action, false));
        assert_eq!(world.instances.len(), 1);
    }
    world.look();
    assert!(world.endpoints.is_empty());
    world.meet(&Event::Seconds(LEAVE_TIMEOUT - 1));
    assert_eq!(world.instances.len(), 1);
    world.meet(&Event::Seconds(1));
    assert!(world.instances.is_empty());
}
