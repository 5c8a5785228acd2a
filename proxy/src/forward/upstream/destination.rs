//! One address of an endpoint: its unused connections, what is there now, and whether it answers.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    checks::Checked,
    choice::identity,
    circuit_breaker::CircuitBreaker,
    connection::Connection,
    health::Health,
    http2::{Http2Connections, Http2Stream},
    request_writer::RequestWriter,
    slots::{Slot, SlotWaiter, Slots},
};
use crate::{
    proxy_protocol::ProxiedClient,
    target::{Endpoint, EndpointAddress, UpstreamProtocol},
    telemetry::admit_line,
};

/// Where connections go, for one worker.
pub(super) struct Destination {
    pub(super) endpoint: Endpoint,
    pub(super) address: EndpointAddress,
    /// For its ranks.
    pub(super) identity: u64,
    /// The longest unused at the front.
    unused: RefCell<VecDeque<UnusedConnection>>,
    /// Those of HTTP/2, in use or not.
    pub(super) http2: Http2Connections,
    /// What its server chose last, where it may choose.
    chosen: Cell<Option<ChosenVersion>>,
    in_flight: Cell<usize>,
    health: RefCell<Health>,
    /// What checks have shown, if its endpoint asks for them.
    pub(super) checked: Option<Arc<Checked>>,
    /// What bounds what is there, if anything does.
    breaker: Option<Arc<CircuitBreaker>>,
    limits: Rc<UnusedLimits>,
}

/// Bounds for the unused connections of one worker, and how many there are.
pub(super) struct UnusedLimits {
    pub(super) per_destination: usize,
    /// How long one may be unused.
    pub(super) idle: Duration,
    /// How long one may be used again.
    pub(super) life: Duration,
    total: Cell<usize>,
}

struct UnusedConnection {
    connection: Box<Connection>,
    since: Instant,
}

/// The version of HTTP that a server has chosen by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenVersion {
    Http1,
    Http2,
}

/// What there is to remember of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// With or without requests on them.
    Connections,
    /// That it has not answered.
    Failure,
    Nothing,
}

/// A request that is there; it ends when this is dropped.
pub(super) struct InFlight {
    destination: Rc<Destination>,
    _slot: Option<Slot>,
}

impl UnusedLimits {
    pub(super) fn new(per_destination: usize, idle: Duration, life: Duration) -> Rc<Self> {
        Rc::new(Self { per_destination, idle, life, total: Cell::new(0) })
    }

    fn add(&self, count: usize) {
        self.total.set(self.total.get() + count);
    }

    fn remove(&self, count: usize) {
        self.total.set(self.total.get().saturating_sub(count));
    }
}

impl Destination {
    pub(super) fn new(
        endpoint: Endpoint,
        address: EndpointAddress,
        checked: Option<Arc<Checked>>,
        breaker: Option<Arc<CircuitBreaker>>,
        limits: Rc<UnusedLimits>,
    ) -> Self {
        let (unused, http2) = (RefCell::default(), Http2Connections::default());
        let (in_flight, health) = (Cell::new(0), RefCell::default());
        let identity = identity(&endpoint, &address);
        let chosen = match endpoint.protocol {
            UpstreamProtocol::Http1 => Some(ChosenVersion::Http1),
            UpstreamProtocol::Http2 => Some(ChosenVersion::Http2),
            UpstreamProtocol::Auto => None,
        };
        let chosen = Cell::new(chosen);
        Self {
            endpoint,
            address,
            identity,
            unused,
            http2,
            chosen,
            in_flight,
            health,
            checked,
            breaker,
            limits,
        }
    }

    /// The version of HTTP that requests go in; none if its server may choose and was not asked yet.
    pub(super) fn version(&self) -> Option<ChosenVersion> {
        self.chosen.get()
    }

    /// Its server has chosen `version` for a new connection, and further requests go in it. Connections of the other one carry none any
    /// more, save for those that only they can.
    pub(super) fn note_version(&self, version: ChosenVersion) {
        let before = self.chosen.replace(Some(version));
        let (endpoint, address) = (&self.endpoint, &self.address);
        if before.is_some_and(|before| before != version)
            && let Some(left_out) = admit_line("version", &address.to_string())
        {
            tracing::info!(%endpoint, %address, ?version, left_out, "an endpoint has chosen another version of HTTP");
        }
    }

    /// The connection for `client` that was used last: the least likely to have been closed meanwhile.
    pub(super) fn take(&self, client: Option<&ProxiedClient>, now: Instant) -> Option<Box<Connection>> {
        let mut unused = self.unused.borrow_mut();
        while let Some(place) = unused.iter().rposition(|unused| unused.connection.is_for(client)) {
            let mut last = unused.remove(place)?;
            self.limits.remove(1);
            if last.is_usable(now, &self.limits) {
                return Some(last.connection);
            }
        }
        None
    }

    /// Whether requests for another protocol that are a `websocket` or not can have it here; none if only its server knows.
    pub(super) fn can_switch(&self, is_websocket: bool) -> Option<bool> {
        match self.endpoint.protocol {
            UpstreamProtocol::Http1 | UpstreamProtocol::Auto => Some(true),
            UpstreamProtocol::Http2 if is_websocket => self.http2.websockets.get(),
            UpstreamProtocol::Http2 => Some(false),
        }
    }

    /// A place for `request` on a connection of HTTP/2 that is open.
    pub(super) fn http2_stream(&self, request: &RequestWriter, now: Instant) -> Option<Http2Stream> {
        match request.websocket_key() {
            Some(_) => self.http2.websocket_stream(now, self.limits.life),
            None => self.http2.stream(now, self.limits.life),
        }
    }

    /// Keeps `connection` for another request, unless another worker waits to open one.
    pub(super) fn put(&self, connection: Box<Connection>, now: Instant) {
        let has_room = self.limits.total.get() < TOTAL && self.limits.per_destination > 0;
        if !has_room || self.connections().is_some_and(|slots| slots.is_waited_for()) {
            return;
        }
        let mut unused = self.unused.borrow_mut();
        if unused.len() >= self.limits.per_destination && unused.pop_front().is_some() {
            self.limits.remove(1);
        }
        unused.push_back(UnusedConnection { connection, since: now });
        self.limits.add(1);
    }

    /// Closes what has waited too long or was closed by its upstream.
    pub(super) fn sweep(&self, now: Instant) -> Remains {
        let mut unused = self.unused.borrow_mut();
        let before = unused.len();
        unused.retain_mut(|connection| connection.is_usable(now, &self.limits));
        self.limits.remove(before - unused.len());
        let has_http2 = !self.http2.sweep(now, self.limits.idle, self.limits.life);
        if !unused.is_empty() || has_http2 || self.in_flight.get() > 0 {
            Remains::Connections
        } else if self.health.borrow().is_forgotten(now) {
            Remains::Nothing
        } else {
            Remains::Failure
        }
    }

    /// Closes unused connections, the longest unused first, as long as somebody waits to open one.
    pub(super) fn make_room(&self) {
        let Some(slots) = self.connections() else { return };
        let mut unused = self.unused.borrow_mut();
        while slots.is_waited_for() && unused.pop_front().is_some() {
            self.limits.remove(1);
        }
    }

    /// What bounds its connections.
    pub(super) fn connections(&self) -> Option<&Arc<Slots>> {
        self.breaker.as_ref().and_then(|breaker| breaker.connections.as_ref())
    }

    /// Whether a request may be there that is not yet.
    pub(super) fn has_room(&self) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| !breaker.requests.is_full())
    }

    /// Counts one request more, if there is room for it.
    pub(super) fn begin(self: &Rc<Self>) -> Option<InFlight> {
        let slot = match &self.breaker {
            Some(breaker) => Some(breaker.requests.take()?),
            None => None,
        };
        Some(self.count(slot))
    }

    /// Waits for room, for a client of whom so many requests wait already; none if as many wait as may.
    pub(super) fn wait(&self, waits_already: usize) -> Option<SlotWaiter> {
        self.breaker.as_ref()?.requests.wait(waits_already)
    }

    /// Counts one request more, which has waited for `slot`.
    pub(super) fn begin_in(self: &Rc<Self>, slot: Slot) -> InFlight {
        self.count(Some(slot))
    }

    fn count(self: &Rc<Self>, slot: Option<Slot>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        InFlight { destination: Rc::clone(self), _slot: slot }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Whether requests are to go elsewhere: it has not answered some, or fails its checks.
    pub(super) fn is_left_alone(&self, now: Instant) -> bool {
        let fails = self.checked.as_ref().is_some_and(|checked| checked.is_failing());
        fails || self.health.borrow().is_ejected(now)
    }

    pub(super) fn health(&self) -> RefMut<'_, Health> {
        self.health.borrow_mut()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.limits.remove(self.unused.get_mut().len());
    }
}

impl UnusedConnection {
    fn is_usable(&mut self, now: Instant, limits: &UnusedLimits) -> bool {
        let is_young = now < self.since + limits.idle && now < self.connection.opened_at + limits.life;
        is_young && self.connection.is_ready()
    }
}

impl InFlight {
    pub(super) fn destination(&self) -> &Rc<Destination> {
        &self.destination
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let in_flight = &self.destination.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
    }
}

/// Unused connections of one worker; beyond it, they are closed after use.
pub const TOTAL: usize = 1024;
