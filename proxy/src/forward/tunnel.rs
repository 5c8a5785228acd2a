//! Tunnels: what follows a response that switches protocols, as WebSocket does (RFC 9110 §7.8, RFC 6455).
//! Invariants: nothing of a client reaches an upstream in another protocol before the upstream has agreed to it
//! (`bytes_behind_an_upgrade_wait_for_the_switch`); a tunnel that passes nothing ends (`a_tunnel_without_traffic_ends`).

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Buf;
use prometheus::IntGauge;
use tokio::time::{Sleep, sleep};

use super::{metrics::RequestOutcome, request_log::RequestRecord, upstream::UpstreamTunnel};
use crate::{client_stream::ClientStream, clock::now, http1_stream::Http1Stream, phase::PhaseWatch, random};

/// A connection to an upstream that has switched protocols, and the record of the request that asked for it.
pub struct Tunnel {
    upstream: UpstreamTunnel,
    record: Box<RequestRecord>,
    to_upstream: Flow,
    to_client: Flow,
    idle: IdleTimer,
    _open: OpenTunnel,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// Both sides have ended it, or one of them is gone.
    Ended,
    /// It passed nothing for too long, or this instance ends: the client has not been told yet.
    Closed,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    bytes: u64,
    is_over: bool,
}

/// Which side has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Client,
    Upstream,
}

/// Counted while it is open.
struct OpenTunnel(IntGauge);

impl OpenTunnel {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Tunnel {
    /// Around an upstream that has agreed; it may pass nothing for `idle` at most.
    pub(super) fn new(upstream: UpstreamTunnel, record: Box<RequestRecord>, idle: Duration) -> Self {
        let open = OpenTunnel::new(record.open_tunnels());
        let (to_upstream, to_client) = (Flow::default(), Flow::default());
        Self { upstream, record, to_upstream, to_client, idle: IdleTimer::new(idle), _open: open }
    }

    /// Passes bytes both ways to the end. In a phase that ends connections, the tunnel ends within [`SPREAD`].
    pub(crate) async fn pass(mut self, client: &ClientStream, phase: PhaseWatch) -> TunnelEnd {
        let notice = self.idle.limit.min(SPREAD).mul_f64(random::fraction());
        let mut ending = pin!(ended(phase, notice));
        poll_fn(|cx| {
            if let Poll::Ready(passed) = self.poll_flows(cx, &mut client.stream()) {
                self.record.outcome = match passed {
                    Ok(()) => RequestOutcome::Forward,
                    Err(Broken::Client) => RequestOutcome::ClientGone,
                    Err(Broken::Upstream) => RequestOutcome::Truncated,
                };
                return Poll::Ready(TunnelEnd::Ended);
            }
            if ending.as_mut().poll(cx).is_ready() {
                self.record.outcome = RequestOutcome::Forward;
                return Poll::Ready(TunnelEnd::Closed);
            }
            ready!(self.idle.poll(cx));
            self.record.outcome = RequestOutcome::TunnelIdle;
            Poll::Ready(TunnelEnd::Closed)
        })
        .await
    }

    fn poll_flows(&mut self, cx: &mut Context<'_>, client: &mut Http1Stream) -> Poll<Result<(), Broken>> {
        let before = self.to_client.bytes + self.to_upstream.bytes;
        let upstream = &mut self.upstream.stream;
        let to_upstream = self.to_upstream.poll(cx, client, upstream);
        let to_client = self.to_client.poll(cx, upstream, client);
        if self.to_client.bytes + self.to_upstream.bytes > before {
            self.idle.passed(now());
        }
        (self.record.tunnelled_bytes, self.record.sent_bytes) =
            (self.to_upstream.bytes, self.to_client.bytes);
        let to_upstream = to_upstream.map_err(|fault| fault.side(Broken::Client, Broken::Upstream))?;
        let to_client = to_client.map_err(|fault| fault.side(Broken::Upstream, Broken::Client))?;
        if to_upstream.is_ready() && to_client.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// Which end of a flow has failed.
#[derive(Debug)]
enum FlowFault {
    Source(io::Error),
    Sink(io::Error),
}

impl FlowFault {
    fn side(self, source: Broken, sink: Broken) -> Broken {
        match self {
            Self::Source(error) => {
                tracing::debug!(%error, side = ?source, "a tunnel broke off");
                source
            }
            Self::Sink(error) => {
                tracing::debug!(%error, side = ?sink, "a tunnel broke off");
                sink
            }
        }
    }
}

impl Flow {
    /// Passes on what `source` sends, then its end. No more is read before what was read is written.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Http1Stream,
        sink: &mut Http1Stream,
    ) -> Poll<Result<(), FlowFault>> {
        while !self.is_over {
            let waiting = source.received.remaining();
            let written = sink.poll_write(cx, &mut source.received).map_err(FlowFault::Sink)?;
            self.bytes += (waiting - source.received.remaining()) as u64;
            ready!(written);
            if source.has_ended() {
                ready!(sink.poll_shutdown(cx)).map_err(FlowFault::Sink)?;
                self.is_over = true;
            } else {
                // Whatever else is read may be an answer to what has been written.
                let _ = sink.poll_flush(cx).map_err(FlowFault::Sink)?;
                ready!(source.poll_read(cx, AT_ONCE)).map_err(FlowFault::Source)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Ready when connections have been told to end, and `notice` has passed.
async fn ended(mut phase: PhaseWatch, notice: Duration) {
    if phase.wait_for(|phase| phase.ends_connections()).await.is_err() {
        std::future::pending::<()>().await;
    }
    sleep(notice).await;
}

/// Ready when nothing has been passed for too long. The timer is set anew only when it rings.
struct IdleTimer {
    limit: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl IdleTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, since: now(), timer: Box::pin(sleep(limit)) }
    }

    fn passed(&mut self, now: Instant) {
        self.since = now;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let deadline = self.since + self.limit;
            if deadline <= now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline.into());
        }
    }
}

/// Within what time the tunnels of an instance that ends are ended: their clients connect again, and not all at once.
const SPREAD: Duration = Duration::from_secs(10);
/// How much is read at once.
const AT_ONCE: usize = 16 * 1024;
