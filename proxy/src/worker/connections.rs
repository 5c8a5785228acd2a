//! The number of open connections, in total and per source.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use crate::keyed_counts::{CountSlot, KeyedCounts, network};

/// Counts of open connections, shared by all workers without a lock; sources are IPv4 /32, IPv6 /64.
#[derive(Clone)]
pub struct Connections(Arc<Counts>);

struct Counts {
    total: AtomicUsize,
    /// Of one client each.
    sources: KeyedCounts,
    /// To cleartext ports.
    cleartext: AtomicUsize,
    /// Those of `sources` that are to cleartext ports, in the same slots.
    cleartext_sources: KeyedCounts,
    /// Sources of one client that have a connection open.
    active: AtomicUsize,
    /// Connections of load balancers and proxies, which are nobody's crowd.
    shared: AtomicUsize,
    limit: AtomicUsize,
    source_limit: AtomicUsize,
    shedding: AtomicU8,
}

/// Which new connections are refused because memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shedding {
    /// None.
    None,
    /// Those of sources that have several, and as many as the average or more.
    Crowds,
    /// All.
    All,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionsFull {
    Total,
    Source,
}

/// One open connection; dropping it releases its place.
pub(super) struct ConnectionPermit(ConnectionSource);

/// One open connection to a cleartext port; dropping it takes it off the count of those.
pub(super) struct CleartextPermit(ConnectionSource);

/// Whose requests a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clients {
    One,
    /// A load balancer's or a proxy's: how much it does says nothing of any of its clients.
    Many,
}

/// Where an open connection comes from.
#[derive(Clone)]
pub(super) struct ConnectionSource {
    counts: Arc<Counts>,
    slot: CountSlot,
    clients: Clients,
}

impl ConnectionPermit {
    pub(super) fn source(&self) -> ConnectionSource {
        self.0.clone()
    }

    /// Counts this connection as one from `client` from here on, which may be a proxy of many `clients` itself.
    pub(super) fn recount(&mut self, client: IpAddr, clients: Clients) -> Result<(), ConnectionsFull> {
        let ConnectionSource { counts, slot, .. } = &self.0;
        let slot_of_client = counts.sources.slot(&network(client));
        // Before the other is taken back: it may be the same, and is active all the time.
        let of_source = counts.add(slot_of_client, clients);
        counts.remove(*slot, self.0.clients);
        (self.0.slot, self.0.clients) = (slot_of_client, clients);
        self.0.counts.admit_of_source(of_source)
    }
}

impl Counts {
    /// Counts one more connection of a source; how many it had, as far as that says something of one client.
    fn add(&self, slot: CountSlot, clients: Clients) -> usize {
        match clients {
            Clients::One => {
                let before = self.sources.add(slot);
                if before == 0 {
                    self.active.fetch_add(1, Ordering::Relaxed);
                }
                before
            }
            Clients::Many => {
                self.shared.fetch_add(1, Ordering::Relaxed);
                0
            }
        }
    }

    fn remove(&self, slot: CountSlot, clients: Clients) {
        match clients {
            Clients::One if self.sources.remove(slot) == 0 => {
                self.active.fetch_sub(1, Ordering::Relaxed);
            }
            Clients::One => {}
            Clients::Many => {
                self.shared.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn admit_of_source(&self, before: usize) -> Result<(), ConnectionsFull> {
        if before < self.source_limit.load(Ordering::Relaxed) { Ok(()) } else { Err(ConnectionsFull::Source) }
    }
}

impl ConnectionSource {
    /// How many connections one client of it has open, as far as is known.
    pub(super) fn connections(&self) -> usize {
        match self.clients {
            Clients::One => self.counts.sources.get(self.slot),
            Clients::Many => 1,
        }
    }

    pub(super) fn clients(&self) -> Clients {
        self.clients
    }
}

impl Connections {
    /// At most `limit` in total and `source_limit` from one source.
    #[must_use]
    pub fn new(limit: usize, source_limit: usize) -> Self {
        Self(Arc::new(Counts {
            total: AtomicUsize::new(0),
            sources: KeyedCounts::new(),
            cleartext: AtomicUsize::new(0),
            cleartext_sources: KeyedCounts::new(),
            active: AtomicUsize::new(0),
            shared: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            source_limit: AtomicUsize::new(source_limit),
            shedding: AtomicU8::new(Shedding::None as u8),
        }))
    }

    /// Changes the limits for new connections; open ones stay.
    pub fn limit(&self, limit: usize, source_limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
        self.0.source_limit.store(source_limit, Ordering::Relaxed);
    }

    /// Refuses some new connections, or accepts them again.
    pub fn shed(&self, which: Shedding) {
        self.0.shedding.store(which as u8, Ordering::Relaxed);
    }

    /// Whether memory is too short for another connection of this source to a TLS port.
    pub(super) fn sheds(&self, place: &ConnectionPermit) -> bool {
        let shedding = self.0.shedding.load(Ordering::Relaxed);
        shedding == Shedding::All as u8 || self.sheds_crowd(place)
    }

    /// Whether memory is too short for so many connections of this source: who has one is never refused so.
    fn sheds_crowd(&self, place: &ConnectionPermit) -> bool {
        if !self.is_memory_short() {
            return false;
        }
        let of_clients = self.open().saturating_sub(self.0.shared.load(Ordering::Relaxed));
        let (count, sources) = (place.0.connections(), self.0.active.load(Ordering::Relaxed));
        count > 1 && count.saturating_mul(sources) >= of_clients
    }

    /// Counts a connection to a cleartext port; None when memory is too short for so many there, of its source or of all. Connections to TLS
    /// ports do not matter, since health is asked for from whatever address, in few connections.
    pub(super) fn admit_to_cleartext(&self, place: &ConnectionPermit) -> Option<CleartextPermit> {
        let permit = CleartextPermit(place.source());
        let total = self.0.cleartext.fetch_add(1, Ordering::Relaxed);
        let of_source = self.0.cleartext_sources.add(permit.0.slot);
        let is_crowd = permit.0.clients == Clients::One && of_source >= CLEARTEXT_OF_SOURCE_WHILE_SHORT;
        // Who has no other may be a load balancer that asks for health, or a CA that validates a name.
        let most = if of_source == 0 { CLEARTEXT_WITH_SINGLES_WHILE_SHORT } else { CLEARTEXT_WHILE_SHORT };
        let is_refused = self.is_memory_short() && (is_crowd || total >= most);
        (!is_refused).then_some(permit)
    }

    fn is_memory_short(&self) -> bool {
        self.0.shedding.load(Ordering::Relaxed) != Shedding::None as u8
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.total.load(Ordering::Relaxed)
    }

    /// A place for a connection of `peer`.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<ConnectionPermit, ConnectionsFull> {
        let (place, of_source) = self.admit_to_total(peer, Clients::One)?;
        self.0.admit_of_source(of_source).map(|()| place)
    }

    /// A place for a connection of a load balancer or a proxy, from which those of many clients come: only the total limits them, until
    /// [`ConnectionPermit::recount`] says whose one is.
    pub(super) fn admit_from_balancer(&self, peer: IpAddr) -> Result<ConnectionPermit, ConnectionsFull> {
        self.admit_to_total(peer, Clients::Many).map(|(place, _)| place)
    }

    /// The place, and how many its source had before.
    fn admit_to_total(
        &self,
        peer: IpAddr,
        clients: Clients,
    ) -> Result<(ConnectionPermit, usize), ConnectionsFull> {
        let counts = &self.0;
        let slot = counts.sources.slot(&network(peer));
        let total = counts.total.fetch_add(1, Ordering::Relaxed);
        let of_source = counts.add(slot, clients);
        // Its drop undoes both counts whatever is found.
        let place = ConnectionPermit(ConnectionSource { counts: Arc::clone(counts), slot, clients });
        if total >= counts.limit.load(Ordering::Relaxed) {
            return Err(ConnectionsFull::Total);
        }
        Ok((place, of_source))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Self(ConnectionSource { counts, slot, clients }) = self;
        counts.total.fetch_sub(1, Ordering::Relaxed);
        counts.remove(*slot, *clients);
    }
}

impl Drop for CleartextPermit {
    fn drop(&mut self) {
        self.0.counts.cleartext.fetch_sub(1, Ordering::Relaxed);
        self.0.counts.cleartext_sources.remove(self.0.slot);
    }
}

/// Connections to cleartext ports that there may be while memory is short, before sources that have another are refused: their memory is then
/// some ten MiB, however many sources have them.
const CLEARTEXT_WHILE_SHORT: usize = 1_000;
/// The same before those are refused that have no other.
const CLEARTEXT_WITH_SINGLES_WHILE_SHORT: usize = 4_000;
/// As many of one source as the checkers of a load balancer behind one address.
const CLEARTEXT_OF_SOURCE_WHILE_SHORT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts of which none has a connection, nor shares a count with one that has: of many some would.
    fn fresh(connections: &Connections) -> impl Iterator<Item = u32> {
        let sources = &connections.0.sources;
        (1..).filter(|host| sources.get(sources.slot(&network(address(*host)))) == 0)
    }

    fn address(host: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(host).into()
    }

    #[test]
    fn who_has_more_than_others_is_refused_first_when_memory_is_short() {
        let connections = Connections::new(100, 100);
        let admit = |host| connections.admit([192, 0, 2, host].into()).ok().unwrap();
        let _crowd: Vec<_> = (0..9).map(|_| admit(1)).collect();
        let one = admit(2);
        assert!(!connections.sheds(&one));
        connections.shed(Shedding::Crowds);
        assert!(connections.sheds(&admit(1)), "ten of eleven");
        assert!(!connections.sheds(&one) && !connections.sheds(&admit(2)));
        let alone = Connections::new(100, 100);
        alone.shed(Shedding::Crowds);
        let admit_alone = || alone.admit([192, 0, 2, 1].into()).ok().unwrap();
        let first = admit_alone();
        assert!(!alone.sheds(&first), "one is no crowd");
        assert!(alone.sheds(&admit_alone()), "there is nobody else to refuse");
        connections.shed(Shedding::All);
        assert!(connections.sheds(&one) && !connections.sheds_crowd(&one));
    }

    #[test]
    fn health_is_asked_for_from_an_address_that_is_a_crowd_elsewhere_until_it_is_one_here() {
        let connections = Connections::new(100, 100);
        let admit = || connections.admit([192, 0, 2, 1].into()).ok().unwrap();
        let to_tls: Vec<_> = (0..30).map(|_| admit()).collect();
        let take = || connections.admit_to_cleartext(&to_tls[0]);
        let before: Vec<_> = (0..=CLEARTEXT_OF_SOURCE_WHILE_SHORT).map(|_| take().unwrap()).collect();
        for short in [Shedding::Crowds, Shedding::All] {
            connections.shed(short);
            assert!(connections.sheds(&to_tls[0]) && take().is_none(), "those from before count");
        }
        drop(before);
        let few: Vec<_> = (0..CLEARTEXT_OF_SOURCE_WHILE_SHORT).map(|_| take().unwrap()).collect();
        assert!(take().is_none(), "and one that was refused takes no place");
        let proxy = connections.admit_from_balancer([192, 0, 2, 1].into()).ok().unwrap();
        assert!(connections.admit_to_cleartext(&proxy).is_some(), "a proxy's many clients are no crowd");
        connections.shed(Shedding::None);
        assert!(take().is_some());
        drop(few);
    }

    #[test]
    fn a_flood_of_cleartext_connections_ends_whatever_their_addresses() {
        let connections = Connections::new(100_000, 2_000);
        let mut held = Vec::new();
        let mut take = |host: u32| {
            let place = connections.admit(address(host)).ok().unwrap();
            let permit = connections.admit_to_cleartext(&place)?;
            held.push((place, permit));
            Some(())
        };
        connections.shed(Shedding::All);
        let mut taken = |hosts: &mut dyn Iterator<Item = u32>, each: u32| {
            hosts.flat_map(|host| (0..each).map(move |_| host)).filter_map(&mut take).count()
        };
        let of_hosts = taken(&mut fresh(&connections).take(200), 10);
        assert_eq!(of_hosts, CLEARTEXT_WHILE_SHORT + 100, "one each of those behind it");
        let singles = CLEARTEXT_WITH_SINGLES_WHILE_SHORT - CLEARTEXT_WHILE_SHORT;
        assert_eq!(taken(&mut fresh(&connections).take(19_000), 2), singles - 100);
        connections.shed(Shedding::None);
        assert!(take(1).is_some());
    }

    #[test]
    fn who_has_one_connection_is_no_crowd_however_few_the_others_have() {
        let connections = Connections::new(1_000, 1_000);
        let admit = |host| connections.admit(address(host)).ok().unwrap();
        let singles: Vec<_> = fresh(&connections).map(admit).take(100).collect();
        let host = fresh(&connections).next().unwrap();
        let crowd: Vec<_> = (0..9).map(|_| admit(host)).collect();
        let proxies: Vec<_> = (0..250)
            .map(|host| connections.admit_from_balancer([198, 51, 100, host].into()).ok().unwrap())
            .collect();
        connections.shed(Shedding::Crowds);
        assert!(crowd.iter().all(|place| connections.sheds(place)));
        assert!(singles.iter().chain(&proxies).all(|place| !connections.sheds(place)));
    }

    #[test]
    fn a_connection_behind_a_load_balancer_counts_as_its_clients() {
        let connections = Connections::new(5, 2);
        let (balancer, client): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut places: Vec<_> =
            (0..5).map(|_| connections.admit_from_balancer(balancer).ok().unwrap()).collect();
        let full = connections.admit_from_balancer(balancer).err();
        assert_eq!(full, Some(ConnectionsFull::Total), "more than all is too many for it, too");
        let recounted: Vec<_> = places.iter_mut().map(|place| place.recount(client, Clients::One)).collect();
        assert_eq!(recounted[..2], [Ok(()), Ok(())]);
        assert!(recounted[2..].iter().all(|recounted| *recounted == Err(ConnectionsFull::Source)));
        assert_eq!(places[0].source().connections(), 5);
        drop(places);
        assert_eq!((connections.open(), connections.0.active.load(Ordering::Relaxed)), (0, 0));
        assert!(connections.admit(client).is_ok());
    }

    #[test]
    fn a_proxys_connections_are_nobodys_crowd() {
        let connections = Connections::new(100, 100);
        let proxy: IpAddr = "192.0.2.1".parse().unwrap();
        let places: Vec<_> = (0..9).map(|_| connections.admit_from_balancer(proxy).ok().unwrap()).collect();
        let _others = [2, 3].map(|host| connections.admit([192, 0, 2, host].into()).ok().unwrap());
        connections.shed(Shedding::Crowds);
        assert!(!connections.sheds(&places[0]));
        assert_eq!(places[0].source().connections(), 1);
        let mut recounted = connections.admit_from_balancer(proxy).ok().unwrap();
        recounted.recount([192, 0, 2, 9].into(), Clients::One).unwrap();
        let crowd: Vec<_> = (0..3).map(|_| connections.admit([192, 0, 2, 9].into()).ok().unwrap()).collect();
        assert!(connections.sheds(&recounted), "it is one client's, of four");
        drop((places, crowd, recounted));
        assert_eq!(connections.0.shared.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn limits_hold_and_places_come_free() {
        let connections = Connections::new(3, 2);
        let (near, far): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let neighbour: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let first = connections.admit(near).ok().unwrap();
        let _second = connections.admit(neighbour).ok().unwrap();
        assert_eq!(connections.admit(near).err(), Some(ConnectionsFull::Source), "one /64 is one source");
        let _third = connections.admit(far).ok().unwrap();
        assert_eq!(connections.admit(far).err(), Some(ConnectionsFull::Total));
        drop(first);
        assert!(connections.admit(near).is_ok());
        connections.limit(2, 2);
        assert_eq!(
            connections.admit(far).err(),
            Some(ConnectionsFull::Total),
            "a limit is lowered while it runs"
        );
        assert_eq!(connections.open(), 2, "what was refused, or ended, takes no place");
    }
}
