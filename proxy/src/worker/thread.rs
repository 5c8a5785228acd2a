//! The threads: start, accept, drain, end.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{
    QUIET, Shared, Sockets, activity::now, cleartext, configs::Configs, relief, response_buffer::Registry,
    tls,
};
use crate::{
    forward::Forwarder,
    phase::Phase,
    transport::{Backend, Epoll, Listener, Transport, Uring},
};

/// What one worker's tasks share.
pub(super) struct Worker<T: Transport> {
    pub(super) shared: Arc<Shared>,
    pub(super) forwarder: Forwarder<T>,
    pub(super) configs: Configs,
    pub(super) buffers: Rc<Registry>,
    open: Cell<usize>,
    /// When a connection was accepted last that somebody may miss: checks of health are none.
    last_accept: Cell<Option<Instant>>,
}

/// The running workers.
pub struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    /// Waits until all have drained. Blocks the calling thread.
    pub fn join(self) {
        for worker in self.0 {
            // A worker that panicked has ended the process already.
            let _ = worker.join();
        }
    }
}

/// Starts one worker for each of `sockets`, each on a core of its own as long as there are cores.
pub fn spawn(shared: &Arc<Shared>, backend: Backend, sockets: Vec<Sockets>) -> io::Result<Workers> {
    let cores = own_cores()?;
    let start = |(index, sockets): (usize, Sockets)| {
        let shared = Arc::clone(shared);
        let core = cores.get(index % cores.len().max(1)).copied();
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let lost = LostWorker;
            if let Some(core) = core {
                pin_to(core);
            }
            let ended = match backend {
                Backend::Uring => Uring::run(|transport| work(transport, shared, index, sockets)),
                Backend::Epoll => Epoll::run(|transport| work(transport, shared, index, sockets)),
            };
            match ended.and_then(std::convert::identity) {
                Ok(()) => std::mem::forget(lost),
                Err(error) => tracing::error!(worker = index, %error, "worker cannot run"),
            }
        })
    };
    sockets.into_iter().enumerate().map(start).collect::<io::Result<_>>().map(Workers)
}

/// Ends the process when a worker ends otherwise than by draining.
struct LostWorker;

impl Drop for LostWorker {
    fn drop(&mut self) {
        tracing::error!(
            "a worker was lost; the process ends, since its share of connections would be swallowed"
        );
        crate::telemetry::flush();
        std::process::abort();
    }
}

async fn work<T: Transport>(
    transport: T,
    shared: Arc<Shared>,
    index: usize,
    sockets: Sockets,
) -> io::Result<()> {
    let worker = Rc::new(Worker {
        forwarder: Forwarder::new(transport.clone(), Arc::clone(&shared.service)),
        buffers: Registry::new(shared.held.clone()),
        shared: Arc::clone(&shared),
        configs: Configs::default(),
        open: Cell::new(0),
        last_accept: Cell::new(None),
    });
    let mut accepting = Vec::new();
    for listener in listen(&transport, sockets.https)? {
        let serve = |worker: Rc<Worker<T>>, stream, peer| {
            worker.note_client();
            tls::serve(worker, stream, peer)
        };
        accepting.push(tokio::task::spawn_local(accept(Rc::clone(&worker), listener, serve)));
    }
    for listener in listen(&transport, sockets.http)? {
        accepting.push(tokio::task::spawn_local(accept(Rc::clone(&worker), listener, cleartext::serve)));
    }
    let relieving = tokio::task::spawn_local(relief::keep(Rc::clone(&worker.buffers), Arc::clone(&shared)));
    let beating = tokio::task::spawn_local(beat(shared, index));
    worker.drain(|| accepting.iter().for_each(tokio::task::JoinHandle::abort)).await;
    beating.abort();
    relieving.abort();
    Ok(())
}

fn listen<T: Transport>(transport: &T, sockets: Vec<TcpListener>) -> io::Result<Vec<T::Listener>> {
    sockets.into_iter().map(|socket| transport.listen(socket)).collect()
}

/// Takes connections for ever, each in a task of its own.
async fn accept<T, F, Fut>(worker: Rc<Worker<T>>, mut listener: T::Listener, serve: F)
where
    T: Transport,
    F: Fn(Rc<Worker<T>>, T::Stream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, peer)) => {
                let connection = serve(Rc::clone(&worker), stream, peer);
                let open = Open::new(&worker);
                tokio::task::spawn_local(async move {
                    connection.await;
                    drop(open);
                });
            }
            Err(error) => {
                // accept(2): what ails one connection is over with it; a lack of descriptors or memory needs a moment.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// An open connection of this worker.
struct Open<T: Transport>(Rc<Worker<T>>);

impl<T: Transport> Open<T> {
    fn new(worker: &Rc<Worker<T>>) -> Self {
        worker.open.set(worker.open.get() + 1);
        worker.shared.metrics.open.inc();
        Self(Rc::clone(worker))
    }
}

impl<T: Transport> Drop for Open<T> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.shared.metrics.open.dec();
    }
}

impl<T: Transport> Worker<T> {
    /// A client has connected, and another may follow.
    pub(super) fn note_client(&self) {
        self.last_accept.set(Some(now()));
    }

    /// Waits for draining to begin; goes on accepting until it is quiet or two thirds of the time are over, then stops, and
    /// waits for open connections, all within the deadline.
    async fn drain(&self, stop_accepting: impl FnOnce()) {
        let mut phase = self.shared.phase.clone();
        // The sender is gone when the process ends otherwise; then draining is right, too.
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
        let begun = now();
        let limit: Duration = ***self.shared.drain_deadline.load();
        let deadline = begun + limit;
        // Beside a successor on the same addresses it is never quiet: what was accepted last needs its time, too.
        let open = || self.shared.metrics.open.get();
        until(begun + limit * 2 / 3, || is_quiet(now(), begun, self.last_accept.get(), open())).await;
        stop_accepting();
        until(deadline, || self.open.get() == 0).await;
        if self.open.get() > 0 {
            tracing::warn!(connections = self.open.get(), "drain deadline reached; open connections are cut");
        }
    }
}

/// Whether nobody is likely to connect any more, when the last client came at `last` and `open` connections are there in the
/// process. Where there was nobody to begin with, a moment is enough: for whoever is on the way.
fn is_quiet(now: Instant, begun: Instant, last: Option<Instant>, open: i64) -> bool {
    let was_unused = open == 0 && last.is_none_or(|last| last + QUIET <= begun);
    now >= last.unwrap_or(begun).max(begun) + if was_unused { LAST_MOMENT } else { QUIET }
}

async fn until(deadline: Instant, done: impl Fn() -> bool) {
    while !done() && now() < deadline {
        tokio::time::sleep(DRAIN_STEP).await;
    }
}

async fn beat(shared: Arc<Shared>, index: usize) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        shared.heartbeat.beat(index, now());
    }
}

/// The cores this process may run on.
fn own_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// How many workers to run when none is configured: one per core this process may run on.
pub fn own_core_count() -> io::Result<usize> {
    own_cores().map(|cores| cores.len().max(1))
}

fn pin_to(core: usize) {
    let mut set = CpuSet::new();
    let pinned = set.set(core).and_then(|()| sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::warn!(core, %error, "worker is not pinned");
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const LAST_MOMENT: Duration = Duration::from_millis(200);
const DRAIN_STEP: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_clients_stops_listening_at_once_and_others_when_none_came_for_a_while() {
        let start = now();
        let at = |millis| start + Duration::from_millis(millis);
        for (last, open, quiet_at) in [
            (None, 0, 10_200),
            (Some(1_000), 0, 10_200),
            (Some(8_000), 0, 10_200),
            (Some(8_001), 0, 12_000),
            (Some(1_000), 1, 12_000),
            (None, 1, 12_000),
            (Some(10_100), 0, 12_100),
            (Some(15_000), 3, 17_000),
        ] {
            let quiet = |millis| is_quiet(at(millis), at(10_000), last.map(at), open);
            assert_eq!((quiet(quiet_at - 1), quiet(quiet_at)), (false, true), "{last:?} {open}");
        }
    }
}
