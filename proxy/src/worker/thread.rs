//! The threads: start, accept, drain, end.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{
    Shared, Sockets, cleartext, configs::Configs, context::Worker, relief, response_buffer::Registry, tls,
};
use crate::{
    cleartext::Cleartext,
    clock::now,
    forward::{Forwarder, RequestLog},
    telemetry::admit_line,
    transport::{Backend, Epoll, Listener, Transport, Uring},
};

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
            "a worker was lost; the process ends, since the worker's connections would never be accepted"
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
    let request_log = Rc::new(RequestLog::new(shared.requests.clone(), shared.access_log.clone()));
    let worker = Rc::new(Worker {
        forwarder: Forwarder::new(transport.clone(), Arc::clone(&shared.service), &request_log),
        cleartext: Cleartext::new(Arc::clone(&shared.cleartext), Rc::clone(&request_log)),
        request_log,
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
    F: Fn(Rc<Worker<T>>, T::Stream, SocketAddr) -> Fut + Copy + 'static,
    Fut: Future<Output = ()> + 'static,
{
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, peer)) => {
                let (worker, open) = (Rc::clone(&worker), Open::new(&worker));
                // Made within the task: one that is moved into it takes its memory twice.
                tokio::task::spawn_local(async move {
                    serve(worker, stream, peer).await;
                    drop(open);
                });
            }
            Err(error) => {
                // accept(2): an error of one connection ends with it; a lack of descriptors or memory needs a moment.
                if let Some(left_out) = admit_line("accept_failed", &error.kind().to_string()) {
                    tracing::warn!(%error, left_out, "a connection could not be accepted");
                }
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
