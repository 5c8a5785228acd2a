//! HTTP on one connection: hyper with this instance's limits, a watchdog beside it, and an orderly end when draining.

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    rt::ReadBufCursor,
    server::conn::{http1, http2},
};
use hyper_util::rt::TokioTimer;

use super::activity::{Activity, InProgress, Limits, now};
use crate::{
    config, forward,
    phase::{Phase, PhaseWatch},
};

/// Serves `stream` until its end; `answer` is called for each request.
pub(super) async fn serve<S, F, Fut>(
    stream: S,
    version: Version,
    limits: &config::Limits,
    phase: PhaseWatch,
    answer: F,
) where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<forward::Body>> + 'static,
{
    let times = Limits { idle: *limits.idle, head: *limits.header_timeout };
    let activity = Activity::new(times, now());
    let stream = Observed { stream, activity: activity.clone() };
    let service = service(answer, activity.clone());
    match version {
        Version::Http1 => {
            let mut builder = http1(limits);
            // A connection taken while draining carries one request: `Connection: close` (RFC 9112 §9.6).
            builder.keep_alive(*phase.borrow() != Phase::Draining);
            drive(builder.serve_connection(stream, service), activity, phase).await;
        }
        Version::Http2 => drive(http2(limits).serve_connection(stream, service), activity, phase).await,
    }
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

async fn drive<C: Connection>(connection: C, activity: Activity, phase: PhaseWatch) {
    let mut connection = pin!(connection);
    let mut may_end = pin!(may_end(phase, activity.clone(), C::CLOSES_UNUSED));
    let mut patience = pin!(tokio::time::sleep(RECONSIDER));
    let mut ending = false;
    poll_fn(|cx| {
        // Before the connection, so that an answer given in the same turn says `Connection: close` already.
        if !ending && may_end.as_mut().poll(cx).is_ready() {
            ending = true;
            connection.as_mut().shut_down();
        }
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if activity.is_closing() && !std::mem::replace(&mut ending, true) {
            connection.as_mut().shut_down();
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        // After the connection, since what it just read moves the deadline.
        while let Some(deadline) = activity.deadline() {
            patience.as_mut().reset(deadline.into());
            ready!(patience.as_mut().poll(cx));
            if std::mem::replace(&mut ending, true) {
                return Poll::Ready(());
            }
            connection.as_mut().shut_down();
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

/// Ready when draining has begun and this connection can be told without losing a request: an HTTP/1.1 client that has just
/// connected has one on its way, and hyper would close under it.
async fn may_end(mut phase: PhaseWatch, activity: Activity, closes_unused: bool) {
    if phase.wait_for(|phase| *phase == Phase::Draining).await.is_err() {
        std::future::pending::<()>().await;
    }
    while closes_unused && !activity.has_served() {
        tokio::time::sleep(RECONSIDER).await;
    }
}

fn http1(limits: &config::Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Only a backstop: `Activity` is stricter.
        .header_read_timeout(*limits.idle + *limits.header_timeout)
        .max_header_size(usize::try_from(limits.header_size.bytes()).unwrap_or(usize::MAX))
        .max_headers(limits.header_fields);
    builder
}

fn http2(limits: &config::Limits) -> http2::Builder<LocalExecutor> {
    let window = |size: config::ByteSize| u32::try_from(size.bytes()).unwrap_or(u32::MAX >> 1);
    let mut builder = http2::Builder::new(LocalExecutor);
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

impl<S, V, B> Connection for http2::Connection<S, V, LocalExecutor>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = B>,
    V::Future: 'static,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const CLOSES_UNUSED: bool = false;
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Streams of an HTTP/2 connection are tasks of this worker.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

fn service<F, Fut>(
    answer: F,
    activity: Activity,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Tracked>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Tracked>, Infallible>> + 'static,
>
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<forward::Body>> + 'static,
{
    let answer = Rc::new(answer);
    hyper::service::service_fn(move |request| {
        let (answer, in_progress) = (Rc::clone(&answer), activity.begin());
        async move {
            let response = answer(request).await;
            if response.extensions().get::<forward::Closes>().is_some() {
                in_progress.close_after();
            }
            Ok(response.map(|body| Tracked { body, _in_progress: in_progress }))
        }
    })
}

/// A body whose end is the end of its request.
struct Tracked {
    body: forward::Body,
    _in_progress: InProgress,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that reports when bytes come in.
struct Observed<S> {
    stream: S,
    activity: Activity,
}

impl<S: hyper::rt::Read + Unpin> hyper::rt::Read for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.activity.received(now());
        Poll::Ready(Ok(()))
    }
}

impl<S: hyper::rt::Write + Unpin> hyper::rt::Write for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How often a connection that has not carried a request yet is looked at again while draining.
const RECONSIDER: std::time::Duration = std::time::Duration::from_millis(50);
