//! The sockets an instance listens on: one of each address for each worker, inherited or bound.

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use super::{
    RunError,
    inherited::{Inherited, SocketOrigin, allot, group},
    manager::Manager,
    memory,
    ports::{self, Port},
    upgrade::HandoverSocket,
};
use crate::{
    config::{self, Config},
    forward::UNUSED_UPSTREAM_CONNECTIONS,
    transport::socket::{Awaits, BindError, await_data, bind_listener},
    worker::{Sockets, own_core_count},
};

/// Open sockets, worker by worker.
pub(super) struct Listeners {
    sockets: Vec<Sockets>,
    /// One more descriptor of each, for a successor.
    shared: Vec<HandoverSocket>,
    /// As bound: port 0 has become one.
    pub(super) bound: config::ListenConfig,
}

/// The protocol of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Https,
    Http,
}

impl Listeners {
    /// Opens every address once per worker, with the `inherited` sockets of that address before all others. `manager` keeps
    /// what is opened for the next start, and lets go of what serves no address any more. An IPv6 address on a machine
    /// without IPv6 is left out.
    pub(super) fn open(
        listen: &config::ListenConfig,
        workers: usize,
        mut inherited: Vec<Inherited>,
        manager: &Manager,
    ) -> Result<Self, RunError> {
        let mut listeners = Self {
            sockets: std::iter::repeat_with(Sockets::default).take(workers).collect(),
            shared: Vec::new(),
            bound: config::ListenConfig { https: Vec::new(), http: Vec::new(), ..listen.clone() },
        };
        let mut used = Vec::new();
        for (kind, addresses) in [(Kind::Https, &listen.https), (Kind::Http, &listen.http)] {
            for address in addresses {
                let (handed, left): (Vec<_>, _) =
                    inherited.into_iter().partition(|socket| socket.address == *address);
                inherited = left;
                used.extend(handed.iter().map(|socket| socket.name.clone()));
                let bound = listeners.open_one(kind, *address, &handed, manager)?;
                kind.addresses(&mut listeners.bound).extend(bound);
                listeners.shared.extend(handed.into_iter().map(|socket| HandoverSocket {
                    name: kind.kept_as(socket.address),
                    socket: socket.listener.into(),
                }));
            }
        }
        release(&inherited, &used, manager);
        Ok(listeners)
    }

    /// Whether every address that no socket is `inherited` for could be opened, and is nobody else's. Makes nothing.
    pub(super) fn probe(listen: &config::ListenConfig, inherited: &[Inherited]) -> Result<(), RunError> {
        for (kind, addresses) in [(Kind::Https, &listen.https), (Kind::Http, &listen.http)] {
            for address in
                addresses.iter().filter(|address| !inherited.iter().any(|own| own.address == **address))
            {
                // A wildcard's port that was handed over is a predecessor's at other addresses, too.
                let is_handed = inherited.iter().any(|own| own.address.port() == address.port());
                let sharing =
                    if is_handed || listen.share_ports { Sharing::Permitted } else { Sharing::Refused };
                probe(kind, *address, sharing)?;
            }
        }
        Ok(())
    }

    pub(super) fn workers(&self) -> usize {
        self.sockets.len()
    }

    /// The port that redirects name.
    pub(super) fn public_https_port(&self) -> u16 {
        self.bound.public_port()
    }

    /// The sockets of the workers, and those for a successor. While the latter are open, connections are queued, whether anybody accepts or not.
    pub(super) fn into_sockets(self) -> (Vec<Sockets>, Vec<HandoverSocket>) {
        (self.sockets, self.shared)
    }

    /// The address as it was bound, if it was.
    fn open_one(
        &mut self,
        kind: Kind,
        wanted: SocketAddr,
        handed: &[Inherited],
        manager: &Manager,
    ) -> Result<Option<SocketAddr>, RunError> {
        let mut bound = handed.first().map(|socket| socket.address);
        for (worker, origin) in allot(self.workers(), handed.len(), group(handed)) {
            let listener = match origin {
                SocketOrigin::Inherited(number) => handed.get(number).map(adopted).transpose()?,
                SocketOrigin::Fresh => fresh(bound.unwrap_or(wanted), handed)?,
            };
            let Some(listener) = listener else {
                warn!(address = %wanted, "this machine has no IPv6; the address is left out");
                return Ok(None);
            };
            if origin == SocketOrigin::Fresh && wanted.port() != 0 {
                // A free port is another one at the next start.
                manager.keep(&kind.kept_as(wanted), &listener);
            }
            bound = bound.or_else(|| listener.local_addr().ok());
            if origin == SocketOrigin::Fresh {
                let name = kind.kept_as(bound.unwrap_or(wanted));
                self.shared.push(HandoverSocket::of(name, &listener).map_err(RunError::Share)?);
            }
            if let Some(sockets) = self.sockets.get_mut(worker) {
                kind.sockets(sockets).push(listener);
            }
        }
        Ok(bound)
    }
}

impl Kind {
    fn sockets(self, sockets: &mut Sockets) -> &mut Vec<TcpListener> {
        match self {
            Self::Https => &mut sockets.https,
            Self::Http => &mut sockets.http,
        }
    }

    fn addresses(self, listen: &mut config::ListenConfig) -> &mut Vec<SocketAddr> {
        match self {
            Self::Https => &mut listen.https,
            Self::Http => &mut listen.http,
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Https => "listen.https",
            Self::Http => "listen.http",
        }
    }

    /// `sd_notify(3)`, FDNAME: letters, digits and marks, but no colon.
    fn kept_as(self, address: SocketAddr) -> String {
        let kind = match self {
            Self::Https => "https",
            Self::Http => "http",
        };
        format!("{kind}.{address}").replace(':', "-")
    }
}

/// Whether a port may be another process's, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Permitted,
    Refused,
}

fn probe(kind: Kind, address: SocketAddr, sharing: Sharing) -> Result<(), RunError> {
    let taken = || {
        let holder = ports::holder(address).map(|holder| holder.to_string());
        RunError::Taken { field: kind.field(), address, holder }
    };
    match (ports::probe(address), sharing) {
        (Ok(Port::Free), _) | (Ok(Port::Shared), Sharing::Permitted) => Ok(()),
        (Ok(Port::Shared), Sharing::Refused) => Err(taken()),
        (Err(error), _) if error.kind() == io::ErrorKind::AddrInUse => Err(taken()),
        (Err(error), _) => {
            let error = BindError::new(address, error);
            if lacks_family(&error) { Ok(()) } else { Err(error.into()) }
        }
    }
}

/// A socket of `address` beside the `handed` ones; none where the machine lacks its family.
fn fresh(address: SocketAddr, handed: &[Inherited]) -> Result<Option<TcpListener>, RunError> {
    match (bind_listener(address, Awaits::Data), handed.first()) {
        (Ok(listener), _) => Ok(Some(listener)),
        // socket(7), SO_REUSEPORT: those of one address have one owner, and a manager's own socket belongs to another user.
        (Err(error), Some(socket)) => {
            warn!(%address, %error, "no further socket can be bound beside the inherited one; workers share it");
            adopted(socket).map(Some)
        }
        (Err(error), None) if lacks_family(&error) => Ok(None),
        (Err(error), None) => Err(error.into()),
    }
}

/// One more descriptor of an inherited socket, which need not have been opened by a predecessor of ours.
fn adopted(socket: &Inherited) -> Result<TcpListener, RunError> {
    let adopted = socket.listener.try_clone().and_then(|listener| await_data(&listener).map(|()| listener));
    adopted.map_err(|source| RunError::Inherited { address: socket.address, source })
}

/// Closes sockets of addresses that are no longer configured, here and at the manager; names with other sockets stay.
fn release(left: &[Inherited], used: &[String], manager: &Manager) {
    for socket in left {
        info!(address = %socket.address, "an inherited socket serves no address of the settings; it is closed");
        if !socket.name.is_empty() && !used.contains(&socket.name) {
            manager.forget(&socket.name);
        }
    }
}

/// How many workers to run.
pub(super) fn worker_count(worker: &config::WorkerConfig) -> Result<usize, RunError> {
    match worker.threads {
        0 => own_core_count().map_err(RunError::Spawn),
        threads => Ok(threads),
    }
}

/// Connections that the process can have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Of clients.
    pub(super) clients: usize,
    /// Requests at targets.
    pub(super) targets: usize,
}

impl Capacity {
    /// What this process may have of what `config` asks for.
    pub(super) fn claim(config: &Config, workers: usize) -> Self {
        let by_memory = memory::limit(&config.limits)
            .map_or(usize::MAX, |bytes| usize::try_from(bytes / UPSTREAM_CONNECTION).unwrap_or(usize::MAX));
        let wanted =
            Self { clients: config.limits.connections, targets: config.upstream.connections.min(by_memory) };
        raise_descriptor_limit(wanted, workers)
    }

    /// What `descriptors` leave of what the settings ask for, when each of `workers` may keep unused connections as well. Where
    /// they are too few, clients have a half and targets the other: an HTTP/2 client may have a hundred requests under way, and
    /// those of one site must not take what another site's handshake needs.
    fn of(descriptors: usize, wanted: Self, workers: usize) -> Self {
        let unused = workers.saturating_mul(UNUSED_UPSTREAM_CONNECTIONS);
        let quarter = descriptors / 4;
        let room = descriptors.saturating_sub(RESERVED.min(quarter)).saturating_sub(unused.min(quarter));
        if wanted.clients.saturating_add(wanted.targets) <= room {
            return wanted;
        }
        let half = room / 2;
        let clients = wanted.clients.min(half.max(room.saturating_sub(wanted.targets)));
        Self { clients, targets: wanted.targets.min(room - clients) }
    }
}

/// Lets the process hold as many descriptors as it may, and says when that is fewer than the settings ask for.
fn raise_descriptor_limit(wanted: Capacity, workers: usize) -> Capacity {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard) } else { Ok(soft) }
    });
    let descriptors = match raised {
        Ok(descriptors) => usize::try_from(descriptors).unwrap_or(usize::MAX),
        Err(error) => {
            warn!(%error, "the limit of open files could not be raised");
            return wanted;
        }
    };
    let capacity = Capacity::of(descriptors, wanted, workers);
    if capacity != wanted {
        warn!(
            descriptors,
            connections = capacity.clients,
            upstream_connections = capacity.targets,
            "fewer descriptors than `limits.connections` and `upstream.connections` need, so both are reduced; raise \
             LimitNOFILE, or lower them"
        );
    }
    capacity
}

fn lacks_family(error: &BindError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.raw_os_error() == Some(libc::EAFNOSUPPORT))
}

/// Memory for a request whose response is not read: 64 KiB in the kernel and its cost in this process, times four.
const UPSTREAM_CONNECTION: u64 = 256 * 1024;
/// Descriptors for listeners, health checks, the store, certificate authorities, logs and maps.
const RESERVED: usize = 512;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::run::inherited::Group;

    #[test]
    fn what_targets_take_leaves_descriptors_to_handshakes() {
        let capacity = |clients, targets| Capacity { clients, targets };
        for (descriptors, workers, wanted, left) in [
            (1 << 20, 2, capacity(100_000, 20_000), capacity(100_000, 20_000)),
            (20_000, 2, capacity(100_000, 20_000), capacity(8_720, 8_720)),
            (20_000, 2, capacity(100_000, 1_000), capacity(16_440, 1_000)),
            (20_000, 2, capacity(2_000, 20_000), capacity(2_000, 15_440)),
            (1_024, 4, capacity(100_000, 20_000), capacity(256, 256)),
            (100, 1, capacity(100_000, 20_000), capacity(25, 25)),
        ] {
            assert_eq!(Capacity::of(descriptors, wanted, workers), left, "{descriptors} descriptors");
        }
    }

    fn listen(https: &str, http: &str) -> config::ListenConfig {
        config::ListenConfig {
            share_ports: false,
            proxy_protocol: None,
            trusted_proxies: Vec::new(),
            https: vec![https.parse().unwrap()],
            http: vec![http.parse().unwrap()],
            public_https_port: None,
        }
    }

    fn open(listen: &config::ListenConfig, workers: usize, inherited: Vec<Inherited>) -> Listeners {
        Listeners::open(listen, workers, inherited, &Manager::none()).unwrap()
    }

    fn inherited(address: SocketAddr) -> Inherited {
        let listener = bind_listener(address, Awaits::Connection).unwrap();
        let address = listener.local_addr().unwrap();
        Inherited { name: String::new(), address, group: Group::Shared, listener }
    }

    #[test]
    fn all_workers_share_each_address_also_a_free_port() {
        let listeners = open(&listen("127.0.0.1:0", "[::1]:0"), 3, Vec::new());
        let (https, http) = (listeners.bound.https[0], listeners.bound.http[0]);
        assert_eq!(listeners.public_https_port(), https.port());
        for sockets in listeners.into_sockets().0 {
            assert_eq!(sockets.https[0].local_addr().unwrap(), https);
            assert_eq!(sockets.http[0].local_addr().unwrap(), http);
        }
    }

    #[test]
    fn what_waits_at_an_inherited_socket_is_taken_whatever_the_number_of_workers() {
        for (workers, handed) in [(1, 3), (3, 1), (2, 2)] {
            let first = inherited(([127, 0, 0, 1], 0).into());
            let address = first.address;
            let mut sockets = vec![first];
            sockets.extend((1..handed).map(|_| inherited(address)));
            let waiting: Vec<_> = (0..32).map(|_| TcpStream::connect(address).unwrap()).collect();
            let wanted =
                config::ListenConfig { https: vec![address], ..listen("127.0.0.1:0", "127.0.0.1:0") };
            let listeners = open(&wanted, workers, sockets);
            let all: Vec<_> =
                listeners.into_sockets().0.into_iter().flat_map(|worker| worker.https).collect();
            assert_eq!(all.len(), workers.max(handed));
            let taken: usize = all
                .iter()
                .map(|listener| {
                    listener.set_nonblocking(true).unwrap();
                    std::iter::from_fn(|| listener.accept().ok()).count()
                })
                .sum();
            assert_eq!(taken, waiting.len(), "{workers} workers, {handed} inherited");
        }
    }

    #[test]
    fn a_successor_is_handed_each_socket_once() {
        let bound = inherited(([127, 0, 0, 1], 0).into());
        let address = bound.address;
        let wanted = config::ListenConfig { https: vec![address], ..listen("127.0.0.1:0", "127.0.0.1:0") };
        let listeners = open(&wanted, 2, vec![bound]);
        let http = listeners.bound.http[0];
        let (sockets, shared) = listeners.into_sockets();
        let names: Vec<_> = shared.iter().map(|socket| socket.name.as_str()).collect();
        let [https, http] = [(Kind::Https, address), (Kind::Http, http)].map(|(kind, at)| kind.kept_as(at));
        assert_eq!(names, [&https, &https, &http, &http]);
        drop(sockets);
        assert!(TcpStream::connect(address).is_ok(), "those of the workers are not the last ones");
        drop(shared);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_socket_of_no_address_is_closed() {
        let stale = inherited(([127, 0, 0, 1], 0).into());
        let address = stale.address;
        open(&listen("127.0.0.1:0", "127.0.0.1:0"), 1, vec![stale]);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn an_address_that_is_not_ours_ends_the_start() {
        let foreign = listen("192.0.2.1:0", "127.0.0.1:0");
        let refused = Listeners::open(&foreign, 1, Vec::new(), &Manager::none());
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("`192.0.2.1:0` cannot be bound"), "{refused}");
    }

    #[test]
    fn a_name_at_the_manager_has_no_colon() {
        let name = Kind::Https.kept_as("[::]:443".parse().unwrap());
        assert_eq!(name, "https.[--]-443");
    }
}
