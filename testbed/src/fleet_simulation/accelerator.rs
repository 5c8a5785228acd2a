//! An accelerator's endpoint groups: what is found of each endpoint, and where new flows go. Pure.
//! Not here: checks and flows themselves (`checks`, `balancer`); the API's form (`api`).

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// Endpoints of one region.
#[derive(Debug)]
pub(super) struct EndpointGroup {
    /// In percent.
    pub(super) traffic_dial: u32,
    endpoints: BTreeMap<String, Endpoint>,
    /// A change is under way until then.
    changes_until: Option<Instant>,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) address: Ipv4Addr,
    pub(super) weight: u32,
    pub(super) health: Health,
    /// What the last checks found, and how many of them in a row.
    found: (bool, u32),
}

/// What is found of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Initial,
    Healthy,
    Unhealthy,
}

/// Why a change is refused, as the API reference names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    TransactionInProgress,
    InvalidArgument,
    LimitExceeded,
}

impl Default for EndpointGroup {
    fn default() -> Self {
        Self { traffic_dial: 100, endpoints: BTreeMap::new(), changes_until: None }
    }
}

impl EndpointGroup {
    pub(super) fn endpoints(&self) -> &BTreeMap<String, Endpoint> {
        &self.endpoints
    }

    /// All or none of `added`, by their ids.
    pub(super) fn add(
        &mut self,
        added: &[(String, Ipv4Addr, u32)],
        now: Instant,
        takes: Duration,
    ) -> Result<(), Refusal> {
        self.begin(now)?;
        if added.iter().any(|(id, ..)| self.endpoints.contains_key(id)) {
            return Err(Refusal::InvalidArgument);
        }
        if self.endpoints.len() + added.len() > MOST_ENDPOINTS {
            return Err(Refusal::LimitExceeded);
        }
        for (id, address, weight) in added {
            let endpoint =
                Endpoint { address: *address, weight: *weight, health: Health::Initial, found: (false, 0) };
            self.endpoints.insert(id.clone(), endpoint);
        }
        self.changes_until = Some(now + takes);
        Ok(())
    }

    /// All or none of `ids`.
    pub(super) fn remove(&mut self, ids: &[String], now: Instant, takes: Duration) -> Result<(), Refusal> {
        self.begin(now)?;
        if !ids.iter().all(|id| self.endpoints.contains_key(id)) {
            return Err(Refusal::InvalidArgument);
        }
        self.endpoints.retain(|id, _| !ids.contains(id));
        self.changes_until = Some(now + takes);
        Ok(())
    }

    fn begin(&self, now: Instant) -> Result<(), Refusal> {
        if self.changes_until.is_some_and(|until| now < until) {
            return Err(Refusal::TransactionInProgress);
        }
        Ok(())
    }

    /// A check of `id` has come out so; its health, where it has changed. Who was put out meanwhile is no matter any more.
    pub(super) fn checked(&mut self, id: &str, is_good: bool) -> Option<Health> {
        let endpoint = self.endpoints.get_mut(id)?;
        endpoint.found = match endpoint.found {
            (last, times) if last == is_good => (last, times.saturating_add(1)),
            _ => (is_good, 1),
        };
        let health = if is_good { Health::Healthy } else { Health::Unhealthy };
        let has_changed = endpoint.found.1 >= THRESHOLD && endpoint.health != health;
        has_changed.then(|| {
            endpoint.health = health;
            health
        })
    }

    /// Whether all endpoints are.
    pub(super) fn is_healthy(&self) -> bool {
        self.endpoints.values().all(|one| one.health == Health::Healthy)
    }

    fn healthy(&self) -> Vec<(Ipv4Addr, u32)> {
        let healthy = self.endpoints.values().filter(|one| one.health == Health::Healthy && one.weight > 0);
        healthy.map(|one| (one.address, one.weight)).collect()
    }

    fn all(&self) -> Vec<(Ipv4Addr, u32)> {
        self.endpoints.values().map(|one| (one.address, 1)).collect()
    }
}

/// How many of [`SLOTS`] new flows each address gets; `groups` are in the order of their distance from the clients.
pub(super) fn shares(groups: &[&EndpointGroup]) -> Vec<(Ipv4Addr, u32)> {
    let mut shares = Vec::new();
    let mut rest = SLOTS;
    let able: Vec<_> = groups.iter().filter(|group| !group.healthy().is_empty()).collect();
    for group in &able {
        let dialled = rest * group.traffic_dial.min(100) / 100;
        shares.extend(by_weight(&group.healthy(), dialled));
        rest -= dialled;
    }
    // What all dials turn away still goes somewhere; and nobody healthy means anybody.
    let last_resort = match able.first() {
        Some(nearest) => nearest.healthy(),
        None => groups.iter().map(|group| group.all()).find(|all| !all.is_empty()).unwrap_or_default(),
    };
    shares.extend(by_weight(&last_resort, rest));
    shares.retain(|(_, slots)| *slots > 0);
    shares
}

/// `slots` in proportion to weights, all of them given.
fn by_weight(endpoints: &[(Ipv4Addr, u32)], slots: u32) -> Vec<(Ipv4Addr, u32)> {
    let mut weights: u32 = endpoints.iter().map(|(_, weight)| weight).sum();
    let mut rest = slots;
    let mut shares = Vec::new();
    for (address, weight) in endpoints {
        let share = rest * weight / weights.max(1);
        shares.push((*address, share));
        rest -= share;
        weights -= weight;
    }
    shares
}

/// Of new flows.
pub(super) const SLOTS: u32 = 1_000;
/// As `infra/fleet.yaml` has it.
const THRESHOLD: u32 = 3;
/// "AWS Global Accelerator endpoints and quotas".
const MOST_ENDPOINTS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn group(traffic_dial: u32, endpoints: &[(u8, u32, Health)]) -> EndpointGroup {
        let of = |(last, weight, health): &(u8, u32, Health)| {
            let endpoint =
                Endpoint { address: at(*last), weight: *weight, health: *health, found: (false, 0) };
            (format!("i-{last}"), endpoint)
        };
        EndpointGroup { traffic_dial, endpoints: endpoints.iter().map(of).collect(), changes_until: None }
    }

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, 100, last)
    }

    #[test]
    fn new_flows_go_where_the_documentation_says() {
        use Health::{Healthy, Initial, Unhealthy};
        let none: &[(u8, u32, Health)] = &[];
        for (case, near, far, wanted) in [
            (
                "equal weights",
                group(100, &[(1, 128, Healthy), (2, 128, Healthy)]),
                group(100, &[(9, 128, Healthy)]),
                vec![(1, 500), (2, 500)],
            ),
            (
                "weights",
                group(100, &[(1, 30, Healthy), (2, 10, Healthy)]),
                group(100, none),
                vec![(1, 750), (2, 250)],
            ),
            ("weight 0", group(100, &[(1, 0, Healthy), (2, 10, Healthy)]), group(100, none), vec![(2, 1000)]),
            (
                "who is not healthy",
                group(100, &[(1, 128, Unhealthy), (2, 128, Initial), (3, 128, Healthy)]),
                group(100, none),
                vec![(3, 1000)],
            ),
            (
                "a dial",
                group(40, &[(1, 128, Healthy)]),
                group(100, &[(9, 128, Healthy)]),
                vec![(1, 400), (9, 600)],
            ),
            (
                "a dial at 0",
                group(0, &[(1, 128, Healthy)]),
                group(100, &[(9, 128, Healthy)]),
                vec![(9, 1000)],
            ),
            (
                "all dials at 0",
                group(0, &[(1, 128, Healthy)]),
                group(0, &[(9, 128, Healthy)]),
                vec![(1, 1000)],
            ),
            (
                "a region without healthy endpoints",
                group(100, &[(1, 128, Unhealthy)]),
                group(100, &[(9, 128, Healthy)]),
                vec![(9, 1000)],
            ),
            (
                "nobody healthy",
                group(100, &[(1, 128, Unhealthy), (2, 128, Initial)]),
                group(100, &[(9, 128, Unhealthy)]),
                vec![(1, 500), (2, 500)],
            ),
            ("no endpoint", group(100, none), group(100, none), vec![]),
        ] {
            let wanted: Vec<_> = wanted.into_iter().map(|(last, slots)| (at(last), slots)).collect();
            assert_eq!(shares(&[&near, &far]), wanted, "{case}");
        }
    }

    #[test]
    fn three_checks_in_a_row_turn_an_endpoint() {
        let mut group = group(100, &[(1, 128, Health::Initial)]);
        for (is_good, wanted) in [
            (true, None),
            (true, None),
            (false, None),
            (true, None),
            (true, None),
            (true, Some(Health::Healthy)),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(Health::Unhealthy)),
        ] {
            assert_eq!(group.checked("i-1", is_good), wanted);
        }
        assert_eq!(group.checked("i-2", true), None);
    }

    #[test]
    fn a_change_is_refused_while_another_is_under_way() {
        let (mut group, now, takes) = (EndpointGroup::default(), Instant::now(), Duration::from_secs(1));
        let added = |last| [(format!("i-{last}"), at(last), 128)];
        assert_eq!(group.add(&added(1), now, takes), Ok(()));
        assert_eq!(group.add(&added(2), now, takes), Err(Refusal::TransactionInProgress));
        assert_eq!(group.add(&added(1), now + takes, takes), Err(Refusal::InvalidArgument));
        assert_eq!(group.remove(&["i-2".to_owned()], now + takes, takes), Err(Refusal::InvalidArgument));
        assert_eq!(group.remove(&["i-1".to_owned()], now + takes, takes), Ok(()));
        let eleven: Vec<_> = (0..11).flat_map(added).collect();
        assert_eq!(group.add(&eleven, now + takes * 2, takes), Err(Refusal::LimitExceeded));
    }
}
