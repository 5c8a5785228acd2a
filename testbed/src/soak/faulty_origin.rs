//! An endpoint that fails on demand.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{load::Protocol, namespace::Namespace, service::Service};

/// A way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Connections are refused, and those there are end.
    Down,
    /// Every connection is reset instead of an answer.
    Resets,
    /// Nothing is answered.
    Hangs,
}

/// An endpoint at an address of its own. It answers all requests, checks too, with 8 KiB.
pub(super) struct FaultyOrigin {
    address: SocketAddr,
    protocol: Protocol,
    fault: watch::Sender<Option<Fault>>,
    _service: Service,
}

impl FaultyOrigin {
    /// Starts it at `address` inside `namespace`.
    pub(super) fn start(
        namespace: &Namespace,
        address: SocketAddr,
        protocol: Protocol,
    ) -> anyhow::Result<Self> {
        let (fault, faults) = watch::channel(None);
        let serve = move |listener| serve(address, listener, protocol, faults);
        Ok(Self { address, protocol, fault, _service: Service::start(namespace, address, serve)? })
    }

    /// As a target names it.
    pub(super) fn endpoint(&self) -> String {
        let parameters = match self.protocol {
            // Two endpoints have room for all requests, as long as no request that has ended is counted for ever.
            Protocol::Http1 => "max_requests=4;max_connections=6",
            Protocol::Http2 => "protocol=h2;max_requests=4",
        };
        format!("http://{};health=/up;{parameters}", self.address)
    }

    /// Fails from now on.
    pub(super) fn fail(&self, fault: Fault) {
        self.fault.send_replace(Some(fault));
    }

    /// Answers from now on.
    pub(super) fn recover(&self) {
        self.fault.send_replace(None);
    }
}

async fn serve(
    address: SocketAddr,
    mut listener: TcpListener,
    protocol: Protocol,
    mut faults: watch::Receiver<Option<Fault>>,
) {
    loop {
        let is_down = *faults.borrow_and_update() == Some(Fault::Down);
        if is_down {
            drop(listener);
            if faults.wait_for(|fault| *fault != Some(Fault::Down)).await.is_err() {
                return;
            }
            listener = match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(error) => return eprintln!("{address} cannot be bound again: {error}"),
            };
        }
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                tokio::task::spawn_local(hold(stream, protocol, faults.clone()));
            },
        }
    }
}

/// Serves a connection until it ends or a fault comes.
async fn hold(
    stream: TcpStream,
    protocol: Protocol,
    mut faults: watch::Receiver<Option<Fault>>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream).try_clone()?;
    let mut serving = std::pin::pin!(answer_all(stream, protocol));
    let fault = tokio::select! {
        biased;
        fault = faults.wait_for(Option::is_some) => *fault?,
        () = serving.as_mut() => return Ok(()),
    };
    match fault {
        Some(Fault::Down) | None => {}
        Some(Fault::Resets) => socket.set_linger(Some(Duration::ZERO))?,
        Some(Fault::Hangs) => drop(faults.wait_for(Option::is_none).await?),
    }
    Ok(())
}

async fn answer_all(stream: TcpStream, protocol: Protocol) {
    let body = Bytes::from_static(&[b'x'; 8 << 10]);
    let service = service_fn(move |_: Request<Incoming>| {
        let answer = Response::new(Full::new(body.clone()));
        async { Ok::<_, Infallible>(answer) }
    });
    let stream = TokioIo::new(stream);
    // What ends a connection is the peer's will, or the fault's.
    let _ = match protocol {
        Protocol::Http1 => http1::Builder::new().serve_connection(stream, service).await,
        Protocol::Http2 => http2::Builder::new(Local).serve_connection(stream, service).await,
    };
}

/// Runs hyper's streams on this thread.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async { drop(task.await) });
    }
}
