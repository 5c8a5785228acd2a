//! Who a connection is from: its peer, or who a load balancer says its client is.
//! Not here: what a header looks like (`proxy_protocol`), who may send one (`config`).
//! Invariants: whoever is not trusted is never believed (`who_is_not_trusted_is_taken_at_its_address`); who is trusted and sends no header is
//! refused (`a_load_balancer_that_sends_no_header_is_refused`).

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    connections::{Clients, ConnectionPermit, Connections, ConnectionsFull},
    metrics::HeaderOutcome,
};
use crate::{
    clock::now,
    config::ProxyProtocol,
    forward::TrustedProxies,
    proxy_protocol::{self, HeaderFault, LONGEST, Origin, ProxyHeader},
    telemetry::{admit_line, metrics::Counters},
    transport::{Chunk, Replayed, Stream},
};

/// Where connections are taken: what limits them, and whose word is taken for whose they are.
pub(super) struct Reception<'a> {
    pub(super) connections: &'a Connections,
    pub(super) balancers: Option<&'a ProxyProtocol>,
    /// HTTP proxies, whose connections carry requests of many clients.
    pub(super) proxies: &'a TrustedProxies,
    pub(super) headers: &'a Counters<HeaderOutcome>,
    /// How long a header may take.
    pub(super) limit: Duration,
}

/// A connection at its own first byte.
pub(super) struct Taken<S> {
    pub(super) stream: Replayed<S>,
    pub(super) client: SocketAddr,
    pub(super) place: ConnectionPermit,
    /// What its header left of the time.
    pub(super) left: Duration,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    Full(ConnectionsFull),
    Header(HeaderOutcome),
}

impl From<ConnectionsFull> for NotTaken {
    fn from(full: ConnectionsFull) -> Self {
        Self::Full(full)
    }
}

impl Reception<'_> {
    /// Takes a connection of `peer`; reads its header first where `peer` is a load balancer.
    pub(super) async fn take<S: Stream>(&self, stream: S, peer: SocketAddr) -> Result<Taken<S>, NotTaken> {
        if !self.balancers.is_some_and(|balancers| balancers.comes_from(peer.ip())) {
            let place = if self.proxies.trusts(peer.ip()) {
                self.connections.admit_from_balancer(peer.ip())?
            } else {
                self.connections.admit(peer.ip())?
            };
            return Ok(Taken { stream: stream.into(), client: peer, place, left: self.limit });
        }
        let (mut place, begun) = (self.connections.admit_from_balancer(peer.ip())?, now());
        // Boxed: few have load balancers, and else it would be a part of the future of each connection.
        let read = Box::pin(tokio::time::timeout(self.limit, read_header(stream))).await;
        let read = read.unwrap_or(Err(HeaderOutcome::Timeout));
        self.headers.bump(read.as_ref().map_or_else(|outcome| *outcome, |(_, origin)| (*origin).into()));
        let (stream, origin) = read.map_err(|outcome| refuse(outcome, peer))?;
        let client = match origin {
            Origin::Client(client) => client,
            Origin::Itself => peer,
        };
        if let Origin::Client(client) = origin {
            let is_proxy = self.proxies.trusts(client.ip());
            place.recount(client.ip(), if is_proxy { Clients::Many } else { Clients::One })?;
        }
        Ok(Taken { stream, client, place, left: self.left(begun) })
    }

    fn left(&self, begun: Instant) -> Duration {
        self.limit.saturating_sub(now().saturating_duration_since(begun))
    }
}

fn refuse(outcome: HeaderOutcome, peer: SocketAddr) -> NotTaken {
    if let HeaderOutcome::Absent | HeaderOutcome::Malformed = outcome
        && let Some(left_out) = admit_line("proxy_header", &peer.ip().to_string())
    {
        tracing::warn!(
            %peer,
            fault = ?outcome,
            left_out,
            "a source of `listen.proxy_protocol` sent no valid PROXY header; have it send one, or take it out of the networks"
        );
    }
    NotTaken::Header(outcome)
}

impl From<Origin> for HeaderOutcome {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Client(_) => Self::Client,
            Origin::Itself => Self::Itself,
        }
    }
}

impl From<HeaderFault> for HeaderOutcome {
    fn from(fault: HeaderFault) -> Self {
        match fault {
            HeaderFault::Absent => Self::Absent,
            HeaderFault::Malformed => Self::Malformed,
        }
    }
}

/// Reads the header; the stream begins behind it.
async fn read_header<S: Stream>(mut stream: S) -> Result<(Replayed<S>, Origin), HeaderOutcome> {
    let mut received: Vec<u8> = Vec::new();
    // Each round receives at least a byte, and no header is longer.
    for _ in 0..=LONGEST {
        let mut chunk = receive(&mut stream).await.map_err(|_| HeaderOutcome::Closed)?;
        let before = received.len();
        // Of a chunk that a client filled, no more than a header is copied.
        received.extend_from_slice(chunk.get(..LONGEST).unwrap_or(&chunk));
        if let Some(ProxyHeader { origin, bytes }) = proxy_protocol::parse(&received)? {
            chunk.advance(bytes.saturating_sub(before));
            return Ok((Replayed::new(stream, chunk), origin));
        }
    }
    Err(HeaderOutcome::Malformed)
}

async fn receive<S: Stream>(stream: &mut S) -> io::Result<Chunk> {
    let chunk = poll_fn(|cx| stream.poll_recv(cx)).await?;
    if chunk.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(chunk) }
}

#[cfg(test)]
mod tests;
