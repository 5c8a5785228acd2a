//! Connections of the API: HTTP/1.1, over TLS or on loopback in cleartext, bounded in number, size and time, and drained at the end.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
};

use super::{
    Api,
    tls::{Tls, TlsError},
};
use crate::{
    control::{LIFE, bounded_http1},
    domains::Caller,
    keyed_counts::{HeldCount, KeyedCounts, network},
    telemetry::{admit_line, error_chain},
};

/// The API while it answers; dropped, it answers no more.
#[derive(Debug)]
pub struct ApiServer {
    address: Option<SocketAddr>,
    task: JoinHandle<()>,
    end: watch::Sender<bool>,
}

impl ApiServer {
    pub(super) fn start(listener: TcpListener, tls: Option<Tls>, api: Api) -> Self {
        let address = listener.local_addr().ok();
        let (end, ended) = watch::channel(false);
        let task = tokio::spawn(serve(listener, tls.map(Arc::new), api, ended));
        Self { address, task, end }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Accepts nothing more, and returns when the requests in flight are answered, at the latest after `longest`.
    pub async fn drain(mut self, longest: Duration) {
        self.end.send_replace(true);
        let _ = tokio::time::timeout(longest, &mut self.task).await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection's place, in total and of its source; dropping it makes room for another.
struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_source: HeldCount<Arc<KeyedCounts>>,
}

impl Place {
    /// A place for a connection of `peer`; nothing, when its source has as many as it may.
    fn of(place: OwnedSemaphorePermit, peer: IpAddr, sources: &Arc<KeyedCounts>) -> Option<Self> {
        let of_source = HeldCount::of(Arc::clone(sources), &network(peer));
        (of_source.before() < CONNECTIONS_PER_SOURCE).then(|| Self { _of_all: place, _of_source: of_source })
    }
}

async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, api: Api, mut ended: watch::Receiver<bool>) {
    let (places, sources) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(KeyedCounts::new()));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = ended.wait_for(|ended| *ended) => break,
        };
        let Some((stream, peer, place)) = accepted else { return };
        let Some(place) = Place::of(place, peer, &sources) else { continue };
        tokio::spawn(shake(stream, peer, tls.clone(), api.clone(), ended.clone(), place));
    }
    drop(listener);
    // Each connection holds a place.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// The next connection, once there is room for it.
///
/// # Cancel safety
/// Safe: nothing is accepted unless it is returned.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer.ip(), place)),
            Err(error) => {
                if let Some(left_out) = admit_line("api_accept_failed", &error.kind().to_string()) {
                    tracing::warn!(%error, left_out, "a connection of the API could not be accepted");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn shake(
    stream: TcpStream,
    peer: IpAddr,
    tls: Option<Arc<Tls>>,
    api: Api,
    ended: watch::Receiver<bool>,
    place: Place,
) {
    let _ = stream.set_nodelay(true);
    let caller = Caller::Client(peer);
    let Some(tls) = tls else { return converse(stream, caller, api, ended, place).await };
    match tls.accept(stream, peer).await {
        Ok(stream) => converse(stream, caller, api, ended, place).await,
        // What a client breaks off is not worth a line.
        Err(TlsError::Handshake(_)) => {}
        Err(error) => {
            if let Some(left_out) = admit_line("api_certificate", "") {
                tracing::warn!(
                    error = error_chain(&error),
                    left_out,
                    "the API has no certificate to present"
                );
            }
        }
    }
}

async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: Caller,
    api: Api,
    mut ended: watch::Receiver<bool>,
    _place: Place,
) {
    let service = service_fn(move |request| {
        let answer = api.clone().answer(request, caller);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = std::pin::pin!(bounded_http1().serve_connection(TokioIo::new(io), service));
    let life = tokio::time::sleep(LIFE);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.wait_for(|ended| *ended) => {}
        () = life => {}
    }
    connection.as_mut().graceful_shutdown();
    // A client that does not read its answer ends with it.
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}

const CONNECTIONS: usize = 256;
/// IPv4 /32, IPv6 /64.
const CONNECTIONS_PER_SOURCE: usize = 64;
const LAST_ANSWER: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_part_of_all_places() {
        let (places, sources) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(KeyedCounts::new()));
        let place = |peer: &str| {
            let of_all = Arc::clone(&places).try_acquire_owned().unwrap();
            Place::of(of_all, peer.parse().unwrap(), &sources)
        };
        let mut held: Vec<_> = (0..CONNECTIONS_PER_SOURCE).map(|_| place("192.0.2.1").unwrap()).collect();
        assert!(place("192.0.2.1").is_none());
        assert!(place("192.0.2.2").is_some());
        held.pop();
        assert!(place("192.0.2.1").is_some(), "a refused one took no place");
        drop(held);
        assert_eq!(places.available_permits(), CONNECTIONS);
    }
}
