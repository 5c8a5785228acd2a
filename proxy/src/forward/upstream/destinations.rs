//! Which destinations a target has: the addresses of its endpoints, as far as they are permitted, each once for a worker.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{
    Route, UpstreamFailure, UpstreamSettings,
    address_policy::{ChosenBy, Placement},
    destination::{Destination, Remains, UnusedLimits},
    destination_key::DestinationKey,
    resolver::{ResolveError, Resolver, Wait},
};
use crate::{
    clock::now,
    target::{Endpoint, EndpointAddress, Location, TargetHost},
};

/// One worker's.
///
/// Invariants: a destination is checked only while requests may go there, and forgotten soon after
/// (`what_has_failed_is_forgotten_in_time_and_checked_while_there_are_requests_alone`); there are at most [`DESTINATIONS`] that are shared
/// between routes (`what_fails_at_addresses_that_strangers_name_is_remembered_within_bounds`).
pub(super) struct Destinations {
    settings: Arc<UpstreamSettings>,
    resolver: Resolver,
    known: RefCell<HashMap<DestinationKey, Rc<Destination>>>,
    routes: RefCell<HashMap<Route, Found>>,
    unused: Rc<UnusedLimits>,
}

/// Where requests along a route may go, at least one.
pub(super) type Candidates = Rc<[Candidate]>;

/// A destination, and its share of a target's requests.
pub(super) struct Candidate {
    pub(super) destination: Rc<Destination>,
    /// In proportion to the others'.
    pub(super) weight: f64,
}

struct Found {
    candidates: Candidates,
    since: Instant,
}

impl Destinations {
    pub(super) fn new(settings: Arc<UpstreamSettings>, control: Handle) -> Self {
        let limits = &settings.limits;
        let unused = UnusedLimits::new(limits.idle_per_target, *limits.idle, *limits.connection_life);
        let (known, routes) = (RefCell::default(), RefCell::default());
        let resolver = Resolver::new(control, Arc::clone(&settings.lookup_threads));
        Self { settings, resolver, known, routes, unused }
    }

    /// Where requests along `route` may go now. Addresses are looked at again every [`FRESH`]: names and our own addresses change.
    pub(super) async fn of(&self, route: &Route) -> Result<Candidates, UpstreamFailure> {
        let now = now();
        if let Some(found) = self.routes.borrow().get(route)
            && now < found.since + FRESH
        {
            return Ok(Rc::clone(&found.candidates));
        }
        self.begin(route, now);
        // Boxed: seldom, and larger than all that a request needs else.
        let candidates = match Box::pin(self.find(route, Wait::Short)).await {
            Err(failure) if failure.is_late() => {
                let wait = Wait::Until(now + *self.settings.limits.connect_timeout);
                Box::pin(self.find(route, wait)).await?
            }
            found => found?,
        };
        let mut routes = self.routes.borrow_mut();
        if routes.len() >= ROUTES {
            routes.clear();
        }
        routes.insert(route.clone(), Found { candidates: Rc::clone(&candidates), since: now });
        Ok(candidates)
    }

    /// Where requests along `route` went last, if any did a short time ago.
    pub(super) fn known(&self, route: &Route) -> Option<Candidates> {
        self.routes.borrow().get(route).map(|found| Rc::clone(&found.candidates))
    }

    /// Names of all endpoints are asked for at once, so that none waits for another.
    fn begin(&self, route: &Route, now: Instant) {
        for endpoint in route.target.endpoints() {
            if let Location::Tcp { host: TargetHost::Name(name), .. } = &endpoint.location {
                self.resolver.begin(name, now);
            }
        }
    }

    /// Without endpoints whose names are not resolved in time, as long as there are others.
    async fn find(&self, route: &Route, wait: Wait) -> Result<Candidates, UpstreamFailure> {
        let (mut candidates, mut failure) = (Vec::new(), None);
        for endpoint in route.target.endpoints() {
            match self.permitted(route, endpoint, wait).await {
                Ok((addresses, chosen_by)) => {
                    let weight = share_of_each(endpoint, &addresses);
                    candidates.extend(addresses.into_iter().map(|address| {
                        let destination = self.destination(endpoint, address, chosen_by);
                        Candidate { destination, weight }
                    }));
                }
                // A loop is one, whatever the other endpoints are.
                Err(edge @ UpstreamFailure::Edge { .. }) => return Err(edge),
                // One that may still be resolved is waited for.
                Err(other) => failure = failure.filter(UpstreamFailure::is_late).or(Some(other)),
            }
        }
        match failure {
            Some(failure) if candidates.is_empty() => Err(failure),
            _ => Ok(candidates.into()),
        }
    }

    /// Where `endpoint` is, without what is forbidden, at least one address, and who chose them.
    async fn permitted(
        &self,
        route: &Route,
        endpoint: &Endpoint,
        wait: Wait,
    ) -> Result<(Vec<EndpointAddress>, ChosenBy), UpstreamFailure> {
        if let Some(name) = &endpoint.tls
            && !self.settings.address_policy.permits_tls(name, route.chosen_by)
        {
            return Err(UpstreamFailure::ForbiddenTls { name: name.clone() });
        }
        match &endpoint.location {
            Location::Tcp { host, port } => {
                let (addresses, chosen_by) = self.permitted_addresses(route, host, wait).await?;
                let with_port = |address| EndpointAddress::Tcp(SocketAddr::new(address, *port));
                Ok((addresses.into_iter().map(with_port).collect(), chosen_by))
            }
            Location::Unix(path) if self.settings.address_policy.permits_socket(path, route.chosen_by) => {
                Ok((vec![EndpointAddress::Unix(path.clone())], route.chosen_by))
            }
            Location::Unix(path) => Err(UpstreamFailure::ForbiddenSocket { path: path.clone() }),
        }
    }

    /// The addresses of `host` without the forbidden ones, at least one, and who chose them.
    async fn permitted_addresses(
        &self,
        route: &Route,
        host: &TargetHost,
        wait: Wait,
    ) -> Result<(Vec<IpAddr>, ChosenBy), UpstreamFailure> {
        let edge = || UpstreamFailure::Edge { target: route.target.clone() };
        let (found, chosen_by) = match host {
            TargetHost::Address(address) => (Arc::from([*address]), route.chosen_by),
            TargetHost::Name(name)
                if self.settings.limits.edge_names.iter().any(|edge| edge.covers(name)) =>
            {
                return Err(edge());
            }
            TargetHost::Name(name) => {
                let found = self.resolver.resolve(name, now(), wait).await;
                let failed = |error| match error {
                    ResolveError::Late => UpstreamFailure::ConnectTimeout,
                    ResolveError::Failed(cause) => UpstreamFailure::Unresolved { name: name.clone(), cause },
                };
                (found.map_err(failed)?, ChosenBy::Resolution)
            }
        };
        let (mut permitted, mut forbidden) = (Vec::new(), None);
        for address in found.iter().copied() {
            match self.settings.address_policy.place(address, chosen_by) {
                Placement::Permitted => permitted.push(address),
                Placement::Forbidden => forbidden = Some(address),
                // One address of several is enough: another request would take it.
                Placement::Edge => return Err(edge()),
            }
        }
        match forbidden {
            Some(address) if permitted.is_empty() => Err(UpstreamFailure::Forbidden { address }),
            Some(_) | None => Ok((permitted, chosen_by)),
        }
    }

    fn destination(
        &self,
        endpoint: &Endpoint,
        address: EndpointAddress,
        chosen_by: ChosenBy,
    ) -> Rc<Destination> {
        let key = DestinationKey::new(endpoint, address.clone(), chosen_by);
        let mut known = self.known.borrow_mut();
        if let Some(destination) = known.get(&key) {
            return Rc::clone(destination);
        }
        let checked = endpoint.health.as_ref().map(|_| self.settings.checks.of(&key));
        let breaker = self.settings.breakers.of(endpoint, &address);
        let unused = Rc::clone(&self.unused);
        let destination = Rc::new(Destination::new(endpoint.clone(), address, checked, breaker, unused));
        // Without room it is this route's alone, until the next sweep makes some.
        if known.len() < DESTINATIONS {
            known.insert(key, Rc::clone(&destination));
        }
        destination
    }

    /// Closes connections that have waited too long or were closed by their upstream, and forgets what nobody asks for.
    pub(super) fn sweep(&self, now: Instant) {
        self.routes.borrow_mut().retain(|_, found| now < found.since + FORGOTTEN);
        let mut known = self.known.borrow_mut();
        let has_room = known.len() < DESTINATIONS;
        known.retain(|_, destination| match destination.sweep(now) {
            Remains::Connections => true,
            Remains::Failure => has_room || is_of_a_route(destination),
            Remains::Nothing => is_of_a_route(destination),
        });
    }

    /// Those that requests may go to now, and whose endpoints ask for checks.
    pub(super) fn checked(&self) -> Vec<Rc<Destination>> {
        let routes = self.routes.borrow();
        let candidates = routes.values().flat_map(|found| found.candidates.iter());
        let checked = candidates.map(|candidate| &candidate.destination).filter(|one| one.checked.is_some());
        // Routes share destinations.
        let each: HashMap<_, _> = checked.map(|one| (Rc::as_ptr(one), Rc::clone(one))).collect();
        each.into_values().collect()
    }

    /// Sweeps for ever, and makes room where other workers wait for it.
    pub(super) async fn keep_swept(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        let mut wanted = self.settings.breakers.unused_wanted();
        loop {
            tokio::select! {
                _ = ticks.tick() => self.sweep(now()),
                // The settings, which tell it, are ours, too.
                Ok(()) = wanted.changed() => self.known.borrow().values().for_each(|one| one.make_room()),
            }
        }
    }
}

/// The weight is the endpoint's, however many addresses its name has.
#[expect(clippy::cast_precision_loss, reason = "a name has a few addresses")]
fn share_of_each(endpoint: &Endpoint, addresses: &[EndpointAddress]) -> f64 {
    f64::from(u16::from(endpoint.weight)) / addresses.len() as f64
}

/// Or of a request that is about to go there.
fn is_of_a_route(destination: &Rc<Destination>) -> bool {
    Rc::strong_count(destination) > 1
}

/// The resolver has a time of its own; this is short enough to follow our own addresses.
const FRESH: Duration = Duration::from_secs(1);
const FORGOTTEN: Duration = Duration::from_mins(1);
/// Routes whose candidates are remembered: what domains' entries name is not bounded otherwise.
const ROUTES: usize = 4096;
/// Whoever chooses what a name resolves to can name new addresses every ten seconds.
const DESTINATIONS: usize = 8192;
const SWEEP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::UpstreamConfig, forward::upstream::health::Verdict, name::ServerName, target::Target,
    };

    fn destinations() -> Destinations {
        let settings = UpstreamSettings::new(&UpstreamConfig::default(), usize::MAX).unwrap();
        Destinations::new(Arc::new(settings), Handle::current())
    }

    fn route(target: &str) -> Route {
        Route { target: Target::parse(target).unwrap(), chosen_by: ChosenBy::Configuration }
    }

    fn addresses<const N: usize>(last_bytes: [u8; N]) -> [IpAddr; N] {
        last_bytes.map(|last| IpAddr::from([198, 51, 100, last]))
    }

    /// Where `checked` says that checks go, in order.
    fn checked(destinations: &Destinations) -> Vec<String> {
        let checked = destinations.checked();
        let mut checked: Vec<_> = checked.iter().map(|one| one.address.to_string()).collect();
        checked.sort_unstable();
        checked
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_failed_is_forgotten_in_time_and_checked_while_there_are_requests_alone() {
        let (destinations, start) = (destinations(), now());
        let (name, route) =
            (ServerName::parse("app.example").unwrap(), route("http://app.example:80;health=/up"));
        destinations.resolver.answer_for_tests(&name, &addresses([1, 2]), start);
        let candidates = destinations.of(&route).await.unwrap();
        assert_eq!(checked(&destinations), ["198.51.100.1:80", "198.51.100.2:80"]);
        for candidate in &*candidates {
            while candidate.destination.health().failed(start) == Verdict::Kept {}
        }
        drop(candidates);
        // An address is replaced: nothing is asked of whoever gets it next.
        tokio::time::advance(FRESH).await;
        destinations.resolver.answer_for_tests(&name, &addresses([2, 3]), now());
        destinations.of(&route).await.unwrap();
        assert_eq!(checked(&destinations), ["198.51.100.2:80", "198.51.100.3:80"]);
        destinations.sweep(start + FORGOTTEN * 2);
        assert_eq!(checked(&destinations), [""; 0], "nothing is asked of what has no requests");
        assert_eq!(destinations.known.borrow().len(), 2, "what has failed a short time ago is remembered");
        destinations.sweep(start + Duration::from_hours(1));
        assert_eq!(destinations.known.borrow().len(), 0, "time heals");
    }

    #[tokio::test(start_paused = true)]
    async fn a_weight_is_the_endpoints_however_many_addresses_its_name_has() {
        let (destinations, start) = (destinations(), now());
        let name = ServerName::parse("app.example").unwrap();
        destinations.resolver.answer_for_tests(&name, &addresses([1, 2, 3]), start);
        let candidates =
            destinations.of(&route("http://app.example;weight=2, http://192.0.2.9")).await.unwrap();
        let weights: Vec<_> = candidates.iter().map(|candidate| format!("{:.2}", candidate.weight)).collect();
        assert_eq!(weights, ["0.67", "0.67", "0.67", "1.00"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_at_addresses_that_strangers_name_is_remembered_within_bounds() {
        let (destinations, start) = (destinations(), now());
        let route = route("http://app.example:80");
        let endpoint = &route.target.endpoints()[0];
        let destination = |number: u32| {
            let address = EndpointAddress::Tcp(SocketAddr::new(IpAddr::from(number.to_be_bytes()), 80));
            destinations.destination(endpoint, address, ChosenBy::Resolution)
        };
        let used = destination(1);
        for number in 0..3 * u32::try_from(DESTINATIONS).unwrap() {
            destination(number).health().failed(start);
        }
        assert_eq!(destinations.known.borrow().len(), DESTINATIONS);
        destinations.sweep(start);
        assert_eq!(destinations.known.borrow().len(), 1, "what is used stays, and there is room again");
        assert!(Rc::ptr_eq(&used, &destination(1)));
    }
}
