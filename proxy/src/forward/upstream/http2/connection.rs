//! One HTTP/2 connection to an upstream. hyper drives it in tasks of the worker.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;

use super::{WebSockets, request_body::RequestInTransit, send_tasks::SendTasks};
use crate::{
    clock::now,
    forward::{
        upload::{Upload, UploadState},
        upstream::{deadline::within, failure::UpstreamFailure, request_writer::RequestWriter},
    },
    lazy_timer::LazyTimer,
    target::{Endpoint, EndpointAddress},
    transport::{ByteStream, HyperIo},
};

/// An open connection. It closes once nobody has it and its requests are over.
pub(in crate::forward::upstream) struct Http2Connection {
    requests: SendRequest<RequestInTransit>,
    tasks: SendTasks,
    peer: EndpointAddress,
    opened_at: Instant,
    /// How many requests it takes at once.
    most: Rc<Cell<usize>>,
    /// Whether its server takes a WebSocket; none before its SETTINGS have come.
    takes_websockets: watch::Receiver<Option<bool>>,
    streams: Cell<usize>,
    unused_since: Cell<Instant>,
}

/// A request's place on a connection; it is free when this is dropped.
pub(in crate::forward::upstream) struct Http2Stream(Rc<Http2Connection>);

impl Http2Connection {
    /// Speaks HTTP/2 over `stream`, whose other end is `peer`. That `peer` does so, too, the first response shows. What it says of
    /// WebSocket is left in `websockets`.
    pub(in crate::forward::upstream) async fn open(
        stream: impl ByteStream,
        peer: EndpointAddress,
        websockets: WebSockets,
    ) -> Result<Rc<Self>, UpstreamFailure> {
        let tasks = SendTasks::default();
        let handshake = builder(tasks.clone()).handshake(HyperIo::new(stream)).await;
        let (requests, mut connection) = handshake.map_err(UpstreamFailure::Http2)?;
        let most = Rc::new(Cell::new(MAX_STREAMS));
        let allowed = Rc::clone(&most);
        let (settings, takes_websockets) = watch::channel(None);
        let spawned = tasks.clone();
        tokio::task::spawn_local(async move {
            // Its error is told to each of its requests.
            let _ = poll_fn(|cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                let streams = connection.current_max_send_streams();
                // RFC 9113 §5.1.2: a request beyond it would wait, and all others behind it.
                allowed.set(MAX_STREAMS.min(streams));
                if streams == BEFORE_SETTINGS {
                    spawned.wake_behind_next(cx.waker());
                } else {
                    let takes = Some(connection.is_extended_connect_protocol_enabled());
                    let has_changed =
                        settings.send_if_modified(|known| std::mem::replace(known, takes) != takes);
                    if has_changed {
                        websockets.set(takes);
                    }
                }
                ended
            })
            .await;
        });
        let (streams, unused_since) = (Cell::new(0), Cell::new(now()));
        let opened_at = now();
        Ok(Rc::new(Self { requests, tasks, peer, opened_at, most, takes_websockets, streams, unused_since }))
    }

    /// Whether there is room for one more request.
    pub(super) fn takes_requests(&self, now: Instant, life: Duration) -> bool {
        self.is_open(now, life) && self.streams.get() < self.most.get()
    }

    /// Whether its server has said that it takes a WebSocket.
    pub(super) fn takes_websockets(&self) -> bool {
        *self.takes_websockets.borrow() == Some(true)
    }

    /// Whether it has requests, or is to be kept for further ones.
    pub(super) fn is_of_use(&self, now: Instant, idle: Duration, life: Duration) -> bool {
        let is_used = self.streams.get() > 0 || now < self.unused_since.get() + idle;
        is_used && self.is_open(now, life)
    }

    /// RFC 9113 §6.8: one that has said GOAWAY takes no more, and hyper closes it.
    fn is_open(&self, now: Instant, life: Duration) -> bool {
        !self.requests.is_closed() && now < self.opened_at + life
    }

    /// A place for one more request.
    pub(in crate::forward::upstream) fn stream(this: &Rc<Self>) -> Http2Stream {
        this.streams.set(this.streams.get() + 1);
        Http2Stream(Rc::clone(this))
    }
}

impl Http2Stream {
    pub(in crate::forward::upstream) fn peer(&self) -> &EndpointAddress {
        &self.0.peer
    }

    /// Whether the server takes a WebSocket. Waits for its SETTINGS, before which nobody may ask for one (RFC 8441 §3).
    pub(in crate::forward::upstream) async fn takes_websockets(&self) -> Result<bool, UpstreamFailure> {
        let mut settings = self.0.takes_websockets.clone();
        let known = settings.wait_for(Option::is_some).await.map(|takes| *takes);
        known.map(|takes| takes == Some(true)).map_err(|gone| UpstreamFailure::Unsent(io::Error::other(gone)))
    }

    /// Asks `endpoint` for the WebSocket that `request` is a handshake of, and waits for the header section of its response, at most for
    /// `limit`.
    ///
    /// # Cancel safety
    /// A dropped future resets the stream.
    pub(in crate::forward::upstream) async fn ask_for_websocket(
        &self,
        request: &mut RequestWriter,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Response<Incoming>, UpstreamFailure> {
        self.send(request.extended_connect(endpoint), request, limit).await
    }

    /// Sends `request` to `endpoint` and waits for the header section of its response, at most for `limit`.
    ///
    /// # Cancel safety
    /// A dropped future resets the stream (RFC 9113 §5.4.2).
    pub(in crate::forward::upstream) async fn exchange(
        &self,
        request: &mut RequestWriter,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Response<Incoming>, UpstreamFailure> {
        self.send(request.http2(endpoint), request, limit).await
    }

    async fn send(
        &self,
        message: http::Result<Request<Rc<RefCell<Upload>>>>,
        request: &RequestWriter,
        limit: Duration,
    ) -> Result<Response<Incoming>, UpstreamFailure> {
        let message = message.map_err(|error| UpstreamFailure::Unsent(io::Error::other(error)))?;
        let progress = request.upload().progress();
        let message = message.map(|upload| RequestInTransit::new(upload, self.0.tasks.clone()));
        let answering = self.0.requests.clone().try_send_request(message);
        let answered = within(limit, &progress, &mut LazyTimer::default(), answering)
            .await
            .map_err(|_| UpstreamFailure::ResponseTimeout)?;
        answered.map_err(|mut failure| match (progress.state(), failure.take_message()) {
            (UploadState::Broken(end), _) => end.into(),
            // Nothing of it has left hyper.
            (_, Some(_)) => UpstreamFailure::Unsent(io::Error::other(failure.into_error())),
            (_, None) => UpstreamFailure::Http2(failure.into_error()),
        })
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        let Http2Connection { streams, unused_since, .. } = &*self.0;
        streams.set(streams.get().saturating_sub(1));
        unused_since.set(now());
    }
}

fn builder(tasks: SendTasks) -> http2::Builder<SendTasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        // RFC 9113 §6.9.1: enough for all streams, so that a client that does not read stops its own alone.
        .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS_U32)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_max_send_streams(BEFORE_SETTINGS)
        .max_send_buf_size(SEND_BUFFER)
        // A server that is alive and says nothing; one that has vanished the kernel finds (`Stream::probe_peer`).
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

/// Requests on one connection; with more, another one is opened. Servers should take a hundred (RFC 9113 §6.5.2).
const MAX_STREAMS: usize = MAX_STREAMS_U32 as usize;
const MAX_STREAMS_U32: u32 = 32;
/// What hyper holds of how many requests there may be until the server's SETTINGS say it: they have 32 bits, and where they say nothing of it,
/// that is one more than this.
const BEFORE_SETTINGS: usize = usize::MAX - 1;
/// What an upstream may send ahead of its client's reading; as much memory as there must be for each request.
const STREAM_WINDOW: u32 = 256 * 1024;
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// What a stream may hold of a request's body.
const SEND_BUFFER: usize = 64 * 1024;
/// gRPC's servers take a client that pings more often than each five minutes for a hostile one, and end its connection
/// (gRPC proposal A8, `GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS`).
const PING: Duration = Duration::from_secs(5 * 60 + 10);
const PONG: Duration = Duration::from_secs(20);
