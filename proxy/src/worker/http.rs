//! HTTP on one connection: hyper with this instance's limits, a watchdog, and an orderly end when draining.

mod stream_monitor;
#[cfg(test)]
mod tests;
mod tracked;

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, ready},
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;

use self::{stream_monitor::StreamMonitor, tracked::Tracked};
use super::{
    activity::{Activity, IdleLimits},
    connections::ConnectionSource,
    metrics::WorkerMetrics,
    response_buffer::{ConnectionBuffer, Registry, StreamBuffer},
    slow_reader::SlowReader,
    streams::{self, Streams},
    watchdog::{Watchdog, WatchdogVerdict},
};
use crate::{
    clock::now,
    config, forward,
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
    /// Told of a request that hyper could not read, with the status that it was answered.
    pub(super) unparsed: &'a dyn Fn(u16),
}

/// Serves `stream` until its end; `answer` is called for each request.
pub(super) async fn serve<S, F, Fut>(stream: S, terms: ConnectionContext<'_>, answer: F)
where
    S: ByteStream,
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = forward::Answer> + 'static,
{
    let ConnectionContext { version, limits, phase, metrics, buffers, source, unparsed } = terms;
    let buffer = buffers.connection(source);
    let own = buffer.stream(None);
    let head = (version == Version::Http1).then_some(*limits.header_timeout);
    let activity = Activity::new(IdleLimits { idle: *limits.idle, head }, now());
    let slow_reader = Rc::new(SlowReader::new(*limits.idle, limits.minimum_rate));
    let stream = Rc::new(RefCell::new(stream));
    let watch = Watch {
        watchdog: Watchdog { activity: &activity, slow_reader: &slow_reader },
        outgoing: || stream.borrow().outgoing(),
        buffer: &buffer,
        metrics,
    };
    let (activity, slow_reader) = (activity.clone(), Rc::clone(&slow_reader));
    let monitor = StreamMonitor { stream: Rc::clone(&stream), activity: activity.clone(), slow_reader };
    let observed = HyperIo::new(monitor);
    match version {
        Version::Http1 => {
            let service = service(answer, activity, own);
            let mut builder = http1(limits);
            // A connection taken while draining or leaving carries one request: `Connection: close` (RFC 9112 §9.6).
            builder.keep_alive(!phase.borrow().ends_connections());
            let ended = drive(builder.serve_connection(observed, service), watch, phase).await;
            if let Some(status) = unparsed_status(ended.as_ref()) {
                metrics.unparsed.inc();
                unparsed(status);
            }
            if let Some(Ok(())) = ended {
                conclude(&stream).await;
            }
        }
        Version::Http2 => {
            let service = service(answer, activity, own);
            let streams = Streams::new(Rc::clone(&buffer), limits, metrics);
            drive(http2(limits, streams).serve_connection(observed, service), watch, phase).await;
        }
    }
}

/// hyper answers what it cannot read by itself, and calls no service.
fn unparsed_status(ended: Option<&hyper::Result<()>>) -> Option<u16> {
    match ended {
        // RFC 6585 §5.
        Some(Err(error)) if error.is_parse_too_large() => Some(431),
        Some(Err(error)) if error.is_parse() => Some(400),
        _ => None,
    }
}

/// A connection whose last request asked to leave HTTP (CONNECT, Upgrade) hyper releases as it is, the refusal still on its way:
/// a stream that is dropped now would take it along.
async fn conclude<S: ByteStream>(stream: &RefCell<S>) {
    let shutdown = poll_fn(|cx| stream.borrow_mut().poll_shutdown(cx));
    // Whoever does not take it in time goes without.
    let _ = tokio::time::timeout(LAST_WORD, shutdown).await;
}

/// What ALPN chose, or the port implies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// The two kinds of hyper's connections, as far as they are alike.
trait Connection: Future<Output = hyper::Result<()>> {
    /// How a connection behaves that has not carried a request when draining begins.
    const CLOSES_UNUSED: bool;
    fn shut_down(self: Pin<&mut Self>);
}

/// Who looks after a connection while hyper drives it.
struct Watch<'a, O> {
    watchdog: Watchdog<'a>,
    outgoing: O,
    buffer: &'a ConnectionBuffer,
    metrics: &'a WorkerMetrics,
}

/// A connection, and whether its end was requested.
struct ClosableConnection<'a, C> {
    connection: Pin<&'a mut C>,
    ending: bool,
}

impl<C: Connection> ClosableConnection<'_, C> {
    /// Tells it to end once what is in progress has ended.
    fn shut_down(&mut self) {
        self.ending = true;
        self.connection.as_mut().shut_down();
    }
}

/// How hyper ended the connection; none when a limit did.
async fn drive<C: Connection, O: Fn() -> Outgoing>(
    connection: C,
    watch: Watch<'_, O>,
    phase: PhaseWatch,
) -> Option<hyper::Result<()>> {
    let Watch { watchdog, outgoing, buffer, metrics } = watch;
    let activity = watchdog.activity;
    let mut closable = ClosableConnection { connection: pin!(connection), ending: false };
    let mut may_end = pin!(may_end(phase, activity.clone(), C::CLOSES_UNUSED));
    let mut patience = pin!(tokio::time::sleep(RECONSIDER));
    poll_fn(|cx| {
        // Before the connection, so that a response in the same turn of the loop already says `Connection: close`.
        if !closable.ending && may_end.as_mut().poll(cx).is_ready() {
            closable.shut_down();
        }
        if let Poll::Ready(why) = buffer.poll_cut(cx) {
            metrics.ended.bump(why);
            return Poll::Ready(None);
        }
        loop {
            if let Poll::Ready(ended) = closable.connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            if activity.is_closing() && !closable.ending {
                closable.shut_down();
                continue;
            }
            // After the connection, since what it just read moves the deadline.
            let Some(deadline) = watchdog.deadline() else { return Poll::Pending };
            patience.as_mut().reset(deadline.into());
            ready!(patience.as_mut().poll(cx));
            match watchdog.judge(now(), outgoing()) {
                WatchdogVerdict::GoOn => {}
                WatchdogVerdict::Close(_) if closable.ending => return Poll::Ready(None),
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
/// connected has one on its way, and hyper would close under it. Leaving may take minutes, in which HTTP/2 clients connect again:
/// each is to get one answer, too, before it hears GOAWAY.
async fn may_end(mut phase: PhaseWatch, activity: Activity, closes_unused: bool) {
    loop {
        let Ok(now) = phase.wait_for(|phase| phase.ends_connections()).await.map(|phase| *phase) else {
            return std::future::pending().await;
        };
        let waits = closes_unused || now == Phase::Leaving;
        if activity.has_served() || !waits {
            return;
        }
        tokio::time::sleep(RECONSIDER).await;
    }
}

fn http1(limits: &config::LimitsConfig) -> http1::Builder {
    let header_size = usize::try_from(limits.header_size.bytes()).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    builder
        // Of a request's header section, and of an answer that waits to be sent.
        .max_buf_size(header_size.max(LEAST_BUFFER))
        // `Activity` is stricter, and needs no timer for each header section.
        .header_read_timeout(None)
        .max_header_size(header_size)
        .max_headers(limits.header_fields);
    builder
}

fn http2(limits: &config::LimitsConfig, streams: Streams) -> http2::Builder<Streams> {
    let window = |size: config::ByteSize| u32::try_from(size.bytes()).unwrap_or(u32::MAX >> 1);
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_local_error_reset_streams(limits.http2_resets)
        .max_pending_accept_reset_streams(limits.http2_resets)
        .initial_stream_window_size(window(limits.http2_stream_window))
        .initial_connection_window_size(window(limits.http2_connection_window))
        .max_header_list_size(window(limits.header_size))
        .keep_alive_interval(*limits.idle)
        .keep_alive_timeout(*limits.header_timeout);
    builder
}

impl<S, V, B> Connection for http1::Connection<S, V>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = B>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const CLOSES_UNUSED: bool = true;
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, V, B> Connection for http2::Connection<S, V, Streams>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = B>,
    V::Future: 'static,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const CLOSES_UNUSED: bool = false;
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn service<F, Fut>(
    answer: F,
    activity: Activity,
    own: Rc<StreamBuffer>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Tracked>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Tracked>, Infallible>> + 'static,
>
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = forward::Answer> + 'static,
{
    let answer = Rc::new(answer);
    hyper::service::service_fn(move |request| {
        let (answer, in_progress) = (Rc::clone(&answer), activity.begin());
        let own = Rc::clone(&own);
        async move {
            let forward::Answer { response, then } = answer(request).await;
            match then {
                forward::Then::KeepAlive => {}
                forward::Then::Close => in_progress.close_after(),
            }
            let buffer = streams::current().unwrap_or(own);
            Ok(response.map(|body| Tracked::new(body, buffer, in_progress)))
        }
    })
}

/// For an answer that is still on its way when hyper has ended.
const LAST_WORD: std::time::Duration = std::time::Duration::from_secs(5);
/// hyper's own bound is 408 KiB, for each answer.
const LEAST_BUFFER: usize = 32 * 1024;
/// How often a connection that has not carried a request yet is looked at again while draining.
const RECONSIDER: std::time::Duration = std::time::Duration::from_millis(50);
