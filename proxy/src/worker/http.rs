//! HTTP on one connection, with this instance's limits, a watchdog, and an orderly end when draining: HTTP/1.1 of our own, HTTP/2 by hyper.

mod client_resets;
mod date;
mod http1;
mod stream_monitor;
#[cfg(test)]
pub(super) mod tests;
mod tracked;
pub(super) mod websocket;

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http2,
};
use hyper_util::rt::TokioTimer;

use self::{
    client_resets::ClientResets,
    http1::{Http1, Http1End},
    stream_monitor::StreamMonitor,
    tracked::Tracked,
    websocket::WebSocketOffer,
};
use super::{
    activity::{Activity, IdleLimits},
    connections::{Clients, ConnectionSource},
    metrics::WorkerMetrics,
    response_buffer::{ConnectionBuffer, Registry},
    slow_reader::SlowReader,
    streams::{self, Streams},
    watchdog::{Watchdog, WatchdogVerdict},
};
use crate::{
    client_stream::{ClientStream, RequestBody},
    clock::{self, now},
    config, forward,
    http1::{RequestLimits, RequestParts},
    lazy_timer::LazyTimer,
    phase::{Phase, PhaseWatch},
    transport::{ByteStream, HyperIo, Outgoing},
};

/// What a connection is served by.
pub(super) struct ConnectionContext<'a> {
    pub(super) version: Version,
    pub(super) limits: &'a config::LimitsConfig,
    pub(super) phase: PhaseWatch,
    pub(super) metrics: &'a WorkerMetrics,
    pub(super) buffers: &'a Rc<Registry>,
    pub(super) source: ConnectionSource,
    /// Told of a request that could not be read, with the status that it was answered.
    pub(super) unparsed: Box<dyn Fn(u16) + 'a>,
}

/// Serves `stream` until its end; `answer` is called for each request.
///
/// A future of the size that its version needs: HTTP/2 takes several times as much as HTTP/1.1, and most connections are idle.
pub(super) fn serve<'a, S, F, Fut>(
    stream: S,
    terms: ConnectionContext<'a>,
    answer: F,
) -> Pin<Box<dyn Future<Output = ()> + 'a>>
where
    S: ByteStream,
    F: Fn(Box<RequestParts>, RequestBody) -> Fut + 'static,
    Fut: Future<Output = forward::Answer> + 'static,
{
    let ConnectionContext { version, limits, phase, metrics, buffers, source, unparsed } = terms;
    let buffer = buffers.connection(source);
    let head = (version == Version::Http1).then_some(*limits.header_timeout);
    let activity = Activity::new(IdleLimits { idle: *limits.idle, head }, now());
    let slow_reader = Rc::new(SlowReader::new(*limits.idle, limits.minimum_rate));
    let stream = Rc::new(RefCell::new(stream));
    let watched = Rc::clone(&stream);
    let watch = Watch {
        watchdog: Watchdog { activity: activity.clone(), slow_reader: Rc::clone(&slow_reader) },
        outgoing: move || watched.borrow().outgoing(),
        buffer: Rc::clone(&buffer),
        metrics,
        phase: phase.clone(),
    };
    let monitor = StreamMonitor { stream: Rc::clone(&stream), activity: activity.clone(), slow_reader };
    match version {
        Version::Http1 => {
            // A connection taken while draining or leaving carries one request: `Connection: close` (RFC 9112 §9.6).
            let keeps_alive = !phase.borrow().ends_connections();
            let connection = Http1 {
                client: ClientStream::new(monitor),
                answer,
                activity,
                buffer: buffer.stream(None),
                limits: request_limits(limits),
                keeps_alive,
                ending: Rc::default(),
                phase,
            }
            .serve();
            Box::pin(async move {
                match drive(connection, watch).await {
                    Some(Http1End::Unparsed(status)) => {
                        metrics.unparsed.inc();
                        unparsed(status.as_u16());
                    }
                    Some(Http1End::Closed) => {}
                    None => stream.borrow().reset_on_drop(),
                }
            })
        }
        Version::Http2 => {
            let streams = Streams::new(Rc::clone(&buffer), limits, metrics);
            let resets = ClientResets::new(limits.http2_resets, Rc::clone(&buffer));
            let clients = buffer.clients();
            let service = service(answer, activity, (buffer, resets), phase);
            let connection = http2(limits, streams, clients).serve_connection(HyperIo::new(monitor), service);
            let connection = Box::pin(connection);
            Box::pin(async move {
                if drive(connection, watch).await.is_none() {
                    stream.borrow().reset_on_drop();
                }
            })
        }
    }
}

/// What ALPN chose, or the port implies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Connections of both versions, as far as they are alike.
trait Connection: Future + Unpin {
    /// Whether its client hears of the end in an answer alone, and loses what is on its way when the connection is closed.
    const IS_TOLD_BY_ANSWERS: bool;
    /// It is to end now, or once what is in progress has ended.
    fn shut_down(&mut self);
    /// Whether its next answer is to be its last.
    fn follow(&mut self, phase: Phase);
}

/// Who looks after a connection while it is served.
struct Watch<'a, O> {
    watchdog: Watchdog,
    outgoing: O,
    buffer: Rc<ConnectionBuffer>,
    metrics: &'a WorkerMetrics,
    phase: PhaseWatch,
}

/// A connection, and whether its end was requested.
struct ClosableConnection<C> {
    connection: C,
    /// Once it was: from when on it may be cut. In HTTP/2 a client is told of the end first, and a request that crosses that is to be answered
    /// (RFC 9113 §6.8).
    cut_from: Option<Instant>,
}

impl<C: Connection> ClosableConnection<C> {
    /// Tells it to end once what is in progress has ended.
    fn shut_down(&mut self) {
        let pause = if C::IS_TOLD_BY_ANSWERS { Duration::ZERO } else { GRACE };
        self.cut_from = Some(now() + pause);
        self.connection.shut_down();
    }

    fn is_ending(&self) -> bool {
        self.cut_from.is_some()
    }
}

/// How the connection ended by itself; none when a limit ended it.
async fn drive<C: Connection, O: Fn() -> Outgoing>(connection: C, watch: Watch<'_, O>) -> Option<C::Output> {
    let Watch { watchdog, outgoing, buffer, metrics, mut phase } = watch;
    let mut closable = ClosableConnection { connection, cut_from: None };
    let mut may_end = pin!(may_end(phase.clone(), watchdog.activity.clone(), C::IS_TOLD_BY_ANSWERS));
    phase.mark_changed();
    let mut is_to_end = false;
    let mut timer = LazyTimer::default();
    poll_fn(|cx| {
        // Before the connection, so that a response in the same turn of the loop already says `Connection: close`. Until connections are to
        // end there is nothing to ask. From then on there is, whatever comes: `may_end` may be amid its pause when the phase changes back.
        let has_changed = phase.has_changed().unwrap_or_default();
        if has_changed {
            let phase = *phase.borrow_and_update();
            is_to_end |= phase.ends_connections();
            closable.connection.follow(phase);
        }
        if (has_changed || is_to_end) && !closable.is_ending() && may_end.as_mut().poll(cx).is_ready() {
            closable.shut_down();
        }
        if let Poll::Ready(why) = buffer.poll_cut(cx) {
            metrics.ended.bump(why);
            return Poll::Ready(None);
        }
        loop {
            if let Poll::Ready(ended) = clock::hold(|| Pin::new(&mut closable.connection).poll(cx)) {
                return Poll::Ready(Some(ended));
            }
            if watchdog.activity.is_closing() && !closable.is_ending() {
                closable.shut_down();
                continue;
            }
            // After the connection, since what it just read moves the deadline.
            let Some(deadline) = watchdog.deadline() else { return Poll::Pending };
            ready!(timer.poll(cx, closable.cut_from.map_or(deadline, |from| from.max(deadline))));
            match watchdog.judge(now(), outgoing()) {
                WatchdogVerdict::GoOn => {}
                WatchdogVerdict::Close(_) if closable.is_ending() => return Poll::Ready(None),
                WatchdogVerdict::Close(limit) => {
                    metrics.ended.bump(limit);
                    closable.shut_down();
                }
                WatchdogVerdict::Cut(limit) => {
                    metrics.ended.bump(limit);
                    return Poll::Ready(None);
                }
            }
        }
    })
    .await
}

/// Ready when connections are to end and this one can end without losing a request: an HTTP/1.1 client that has just
/// connected has one on its way, and so may any that is idle, and the connection would be closed under it. HTTP/1.1 clients hear of the end by
/// their next answer: as long as the instance is leaving, which may take minutes, and for [`GRACE`] when the process is to end. An HTTP/2
/// client that connects while the instance leaves is to get one answer, too, before it hears GOAWAY.
async fn may_end(mut phase: PhaseWatch, activity: Activity, is_told_by_answers: bool) {
    let ends = |phase: &Phase| phase.ends_connections() && !(is_told_by_answers && *phase == Phase::Leaving);
    let mut pause = if is_told_by_answers { GRACE } else { Duration::ZERO };
    loop {
        let Ok(now) = phase.wait_for(ends).await.map(|phase| *phase) else {
            return std::future::pending().await;
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let waits = is_told_by_answers || now == Phase::Leaving;
        if activity.has_served() || !waits {
            return;
        }
        pause = RECONSIDER;
    }
}

fn request_limits(limits: &config::LimitsConfig) -> RequestLimits {
    let bytes = usize::try_from(limits.header_size.bytes()).unwrap_or(usize::MAX);
    RequestLimits { bytes, fields: limits.header_fields }
}

fn http2(limits: &config::LimitsConfig, streams: Streams, clients: Clients) -> http2::Builder<Streams> {
    let window = |size: config::ByteSize| u32::try_from(size.bytes()).unwrap_or(u32::MAX >> 1);
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        // RFC 8441 §3.
        .enable_connect_protocol()
        .max_concurrent_streams(limits.http2_streams)
        // Those of h2's own: streams reset before they are looked at, and those it resets for a client's faults (`ClientResets` counts the rest).
        .max_local_error_reset_streams((clients == Clients::One).then_some(limits.http2_resets))
        .max_pending_accept_reset_streams(limits.http2_resets)
        .initial_stream_window_size(window(limits.http2_stream_window))
        .initial_connection_window_size(window(limits.http2_connection_window))
        .max_header_list_size(window(limits.header_size))
        // For a client that is gone while it waits: a PING is something to acknowledge (`SlowReader`). One that asks for nothing is closed
        // before, and its answer to a PING is not in the way.
        .keep_alive_interval(limits.idle.saturating_mul(2))
        .keep_alive_timeout(answer_to_ping(limits));
    builder
}

/// How long a client's answer to a PING may take: what is on its way before it comes first, at the least rate.
fn answer_to_ping(limits: &config::LimitsConfig) -> Duration {
    limits.idle.saturating_add(Duration::from_secs(BEFORE_A_PING / limits.minimum_rate.max(1)))
}

impl<S, V, B> Connection for Pin<Box<http2::Connection<S, V, Streams>>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = B>,
    V::Future: 'static,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const IS_TOLD_BY_ANSWERS: bool = false;
    fn shut_down(&mut self) {
        self.as_mut().graceful_shutdown();
    }
    /// GOAWAY tells (RFC 9113 §6.8).
    fn follow(&mut self, _: Phase) {}
}

fn service<F, Fut>(
    answer: F,
    activity: Activity,
    (connection, resets): (Rc<ConnectionBuffer>, Rc<ClientResets>),
    phase: PhaseWatch,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Tracked>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Tracked>, Infallible>> + 'static,
>
where
    F: Fn(Box<RequestParts>, RequestBody) -> Fut + 'static,
    Fut: Future<Output = forward::Answer> + 'static,
{
    let answer = Rc::new(answer);
    hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let (answer, in_progress, unanswered) = (Rc::clone(&answer), activity.begin(), resets.begin());
        let (connection, phase, activity) = (Rc::clone(&connection), phase.clone(), activity.clone());
        async move {
            let websocket = WebSocketOffer::take(&mut request);
            let (head, body) = request.into_parts();
            // Boxed: a stream's task is as large as the largest thing it ever waits for, and is there as long as its response.
            let mut answer = Box::pin(answer(Box::new(head.into()), body.into())).await;
            if let Some(websocket) = websocket {
                answer = websocket.answer(answer, activity, phase);
            }
            let forward::Answer { status, fields, body, then } = answer;
            match then {
                forward::Then::Close => in_progress.close_after(),
                forward::Then::KeepAlive | forward::Then::Tunnel(_) => {}
            }
            let buffer = streams::current().unwrap_or_else(|| connection.stream(None));
            let mut response = Response::new(Tracked::new(body, buffer, in_progress, Some(unanswered)));
            (*response.status_mut(), *response.headers_mut()) = (status, fields.to_map());
            Ok(response)
        }
    })
}

/// How often a connection that has not carried a request yet is looked at again while draining.
const RECONSIDER: Duration = Duration::from_millis(50);
/// How long an idle connection stays for a request that may be on its way when it is to end: more than most clients' round trip, and less
/// than the time for which an instance still listens that was told to end (`QUIET`).
const GRACE: Duration = Duration::from_secs(1);
/// Bytes that may be on their way to a client before a PING.
const BEFORE_A_PING: u64 = 256 * 1024;
