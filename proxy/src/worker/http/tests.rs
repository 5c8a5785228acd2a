//! A client over loopback against one connection of a worker, on both back ends; time limits are in `limits`.

mod limits;

use std::{future::poll_fn, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http2};
use testbed::wait;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};

use super::*;
use crate::{
    config::{LimitsConfig, Span},
    telemetry::metrics::Label,
    transport::{HyperIo, Listener, Transport, socket},
    worker::{Connections, HeldBytes, metrics::LimitReached},
};

macro_rules! on_both {
    ($($case:ident,)+) => {
        mod uring {
            $(#[test] fn $case() { $crate::worker::http::tests::on::<$crate::transport::Uring, _>(super::$case); })+
        }
        mod epoll {
            $(#[test] fn $case() { $crate::worker::http::tests::on::<$crate::transport::Epoll, _>(super::$case); })+
        }
    };
}
pub(super) use on_both;

on_both! {
    a_kept_connection_carries_requests_until_draining_ends_it,
    a_kept_connection_is_told_to_close_by_its_next_answer_whatever_ends_it,
    a_request_in_flight_when_draining_begins_is_answered,
    a_connection_taken_while_draining_carries_one_request,
    who_was_to_leave_and_may_stay_keeps_connections,
    a_connection_over_http2_taken_while_leaving_carries_a_request_before_goaway,
    draining_sends_goaway_and_finishes_the_streams_that_are_open,
    a_request_that_crosses_goaway_is_answered,
    an_answer_that_closes_ends_a_connection_over_http2,
    a_client_that_does_not_read_is_cut,
    an_unused_connection_over_http2_is_not_kept_by_a_ping,
}

/// Runs `case` over one back end, within a deadline.
pub(super) fn on<T: Transport, F: Future<Output = ()>>(case: impl FnOnce(T) -> F) {
    T::run(|transport| async {
        tokio::time::timeout(PATIENCE, case(transport)).await.expect("the case hangs");
    })
    .unwrap();
}

async fn a_kept_connection_carries_requests_until_draining_ends_it<T: Transport>(transport: T) {
    for phase in [Phase::Draining, Phase::Replaced] {
        let edge = Edge::new(&transport, Version::Http1, LimitsConfig::default());
        let mut client = edge.connect().await;
        for _ in 0..2 {
            client.write_all(REQUEST).await.unwrap();
            assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        }
        edge.phase.send_replace(phase);
        assert_eq!(rest(&mut client).await, "");
    }
}

/// Closed at once, a request that is on its way would be lost.
async fn a_kept_connection_is_told_to_close_by_its_next_answer_whatever_ends_it<T: Transport>(transport: T) {
    for phase in ENDS {
        let edge = Edge::new(&transport, Version::Http1, LimitsConfig::default());
        let mut client = edge.connect().await;
        client.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        edge.phase.send_replace(phase);
        let early = tokio::time::timeout(Duration::from_millis(200), client.read_u8()).await;
        assert!(early.is_err(), "{phase:?}: it was closed: {early:?}");
        client.write_all(REQUEST).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{phase:?}: {answer}");
        assert!(answer.contains("connection: close"), "{phase:?}: {answer}");
    }
}

async fn a_request_in_flight_when_draining_begins_is_answered<T: Transport>(transport: T) {
    for phase in ENDS {
        let edge = Edge::new(&transport, Version::Http1, LimitsConfig::default());
        let mut client = edge.connect().await;
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        edge.asked.notified().await;
        edge.phase.send_replace(phase);
        edge.release.notify_one();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    }
}

async fn a_connection_taken_while_draining_carries_one_request<T: Transport>(transport: T) {
    for phase in ENDS {
        let edge = Edge::new(&transport, Version::Http1, LimitsConfig::default());
        edge.phase.send_replace(phase);
        let mut client = edge.connect().await;
        client.write_all(REQUEST).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    }
}

async fn a_connection_over_http2_taken_while_leaving_carries_a_request_before_goaway<T: Transport>(
    transport: T,
) {
    let edge = Edge::new(&transport, Version::Http2, LimitsConfig::default());
    edge.phase.send_replace(Phase::Leaving);
    let (mut sender, connection) = edge.connect_http2(&transport).await;
    sender.ready().await.unwrap();
    assert_eq!(sender.send_request(request("/")).await.unwrap().status(), 200);
    connection.await.unwrap().unwrap();
}

async fn who_was_to_leave_and_may_stay_keeps_connections<T: Transport>(transport: T) {
    // Connected before, and after.
    let [before, after] = [(); 2].map(|()| Edge::new(&transport, Version::Http1, LimitsConfig::default()));
    let mut client = before.connect().await;
    client.write_all(REQUEST).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    for edge in [&before, &after] {
        edge.phase.send_replace(Phase::Leaving);
    }
    let early = tokio::time::timeout(Duration::from_millis(200), client.read_u8()).await;
    assert!(early.is_err(), "it was closed: {early:?}");
    for edge in [&before, &after] {
        edge.phase.send_replace(Phase::Serving);
    }
    for client in [&mut client, &mut after.connect().await] {
        for _ in 0..2 {
            client.write_all(REQUEST).await.unwrap();
            assert!(answer(client).await.starts_with("HTTP/1.1 200"));
        }
    }
}

async fn draining_sends_goaway_and_finishes_the_streams_that_are_open<T: Transport>(transport: T) {
    for phase in ENDS {
        let edge = Edge::new(&transport, Version::Http2, LimitsConfig::default());
        let (mut sender, connection) = edge.connect_http2(&transport).await;
        let answer = tokio::task::spawn_local(sender.send_request(request("/slow")));
        edge.asked.notified().await;
        edge.phase.send_replace(phase);
        edge.release.notify_one();
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
        // GOAWAY ends the connection although the client still holds its sender (RFC 9113 §6.8).
        connection.await.unwrap().unwrap();
        drop(sender);
    }
}

async fn an_answer_that_closes_ends_a_connection_over_http2<T: Transport>(transport: T) {
    let edge = Edge::new(&transport, Version::Http2, LimitsConfig::default());
    let (mut sender, connection) = edge.connect_http2(&transport).await;
    assert_eq!(sender.send_request(request("/closes")).await.unwrap().status(), 200);
    // The client still holds its sender: only GOAWAY ends this (RFC 9113 §6.8).
    connection.await.unwrap().unwrap();
    drop(sender);
}

async fn a_client_that_does_not_read_is_cut<T: Transport>(transport: T) {
    let edge = Edge::new(
        &transport,
        Version::Http1,
        LimitsConfig { idle: Span::millis(100), ..LimitsConfig::default() },
    );
    let mut client = edge.connect().await;
    client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    edge.ended(LimitReached::NotReading).await;
    // Before it reads, which would let the kernel send what it keeps.
    wait::until_async("a reset", Duration::from_secs(10), async || {
        let error = client.take_error()?.map(|error| error.kind());
        anyhow::ensure!(error == Some(std::io::ErrorKind::ConnectionReset), "{error:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert!(rest(&mut client).await.len() < LARGE, "what was given before is all there is");
}

async fn an_unused_connection_over_http2_is_not_kept_by_a_ping<T: Transport>(transport: T) {
    let edge = Edge::new(
        &transport,
        Version::Http2,
        LimitsConfig { idle: Span::millis(200), ..LimitsConfig::default() },
    );
    let mut client = edge.connect().await;
    client.write_all(PREFACE).await.unwrap();
    edge.ended(LimitReached::Idle).await;
    let mut types = Vec::new();
    while let Some(frame) = Frame::read(&mut client).await {
        types.push(frame.kind);
    }
    let goaway = types.iter().position(|kind| *kind == GOAWAY).expect("it is told to go away");
    // RFC 9113 §6.7; the one that ends it in order comes behind GOAWAY.
    assert!(!types[..goaway].contains(&PING), "{types:?}");
}

/// RFC 9113 §6.8: a first GOAWAY shuts no stream out, and the last one names the last stream that was taken.
async fn a_request_that_crosses_goaway_is_answered<T: Transport>(transport: T) {
    for phase in ENDS {
        let edge = Edge::new(&transport, Version::Http2, LimitsConfig::default());
        let mut client = answered_once(edge.connect().await).await;
        edge.phase.send_replace(phase);
        let mut told = Vec::new();
        let ping = loop {
            let frame = Frame::read(&mut client).await.unwrap();
            match frame.kind {
                GOAWAY => told.push(frame),
                PING => break frame,
                _ => {}
            }
        };
        // It was on its way.
        client.write_all(&http2_request(3)).await.unwrap();
        client.write_all(&Frame { kind: PING, flags: ACK, ..ping }.bytes()).await.unwrap();
        let mut answered = false;
        while let Some(frame) = Frame::read(&mut client).await {
            answered |= frame.kind == HEADERS && frame.stream == 3;
            if frame.kind == GOAWAY {
                told.push(frame);
            }
        }
        assert!(answered, "{phase:?}");
        // The last stream, and NO_ERROR.
        let wanted: [&[u8]; 2] = [&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], &[0, 0, 0, 3, 0, 0, 0, 0]];
        let told: Vec<_> = told.iter().map(|frame| frame.payload.as_slice()).collect();
        assert_eq!(told, wanted, "{phase:?}");
    }
}

/// One frame of HTTP/2 (RFC 9113 §4.1).
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The next one; none where the connection has ended.
    async fn read(client: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.ok()?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap()];
        client.read_exact(&mut payload).await.ok()?;
        Some(Self { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// `GET http://a/` (RFC 7541 §6.1, §6.2.1), without a body.
fn http2_request(stream: u32) -> Vec<u8> {
    let payload = vec![0x82, 0x86, 0x84, 0x41, 1, b'a'];
    Frame { kind: HEADERS, flags: END_STREAM | END_HEADERS, stream, payload }.bytes()
}

/// The same for a path of at most 126 bytes.
fn http2_request_for(stream: u32, path: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    payload.extend(path);
    payload.extend([0x41, 1, b'a']);
    Frame { kind: HEADERS, flags: END_STREAM | END_HEADERS, stream, payload }.bytes()
}

/// A client of HTTP/2 over `stream` whose first request was answered.
async fn answered_once<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> S {
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&http2_request(1)).await.unwrap();
    until_headers_of(&mut stream, 1).await;
    stream
}

async fn until_headers_of(client: &mut (impl AsyncRead + Unpin), stream: u32) {
    loop {
        let frame = Frame::read(client).await.unwrap();
        if frame.kind == HEADERS && frame.stream == stream {
            return;
        }
    }
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::builder().uri(format!("http://a{path}")).body(Empty::new()).unwrap()
}

/// Runs what a client does on this thread.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move { drop(task.await) });
    }
}

type Client = http2::SendRequest<Empty<Bytes>>;

/// A listener that serves with the limits of a case; `/slow` waits to be released, `/large` answers [`LARGE`] bytes,
/// `/closes` with the connection's last answer.
struct Edge {
    address: SocketAddr,
    metrics: WorkerMetrics,
    phase: watch::Sender<Phase>,
    asked: Rc<tokio::sync::Notify>,
    release: Rc<tokio::sync::Notify>,
}

impl Edge {
    fn new<T: Transport>(transport: &T, version: Version, limits: LimitsConfig) -> Self {
        let (asked, release) = (Rc::new(tokio::sync::Notify::new()), Rc::new(tokio::sync::Notify::new()));
        let (tell, wait) = (Rc::clone(&asked), Rc::clone(&release));
        let answer = move |head: Box<RequestParts>, _: RequestBody| {
            let (tell, wait) = (Rc::clone(&tell), Rc::clone(&wait));
            async move {
                match head.uri.path() {
                    "/slow" => {
                        tell.notify_one();
                        wait.notified().await;
                    }
                    "/large" => return ours(vec![b'x'; LARGE].into()),
                    "/closes" => {
                        return forward::Answer { then: forward::Then::Close, ..ours("done".into()) };
                    }
                    _ => {}
                }
                ours("done".into())
            }
        };
        let Serving { address, metrics, phase } = serving(transport, version, limits, answer);
        Self { address, metrics, phase, asked, release }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_http2<T: Transport>(&self, transport: &T) -> (Client, JoinHandle<hyper::Result<()>>) {
        let stream = HyperIo::new(transport.connect(self.address).await.unwrap());
        let (sender, connection) = http2::handshake(Local, stream).await.unwrap();
        (sender, tokio::task::spawn_local(connection))
    }

    async fn ended(&self, limit: LimitReached) {
        wait::until_async(&format!("an end by {limit:?}"), PATIENCE, async || {
            let counts = LimitReached::ALL.iter().map(|limit| (*limit, self.metrics.ended.count(*limit)));
            let ended: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
            anyhow::ensure!(self.metrics.ended.count(limit) > 0, "{ended:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// A listener whose first connection is served.
pub(super) struct Serving {
    pub(super) address: SocketAddr,
    pub(super) metrics: WorkerMetrics,
    pub(super) phase: watch::Sender<Phase>,
}

pub(super) fn serving<T: Transport, Fut: Future<Output = forward::Answer> + 'static>(
    transport: &T,
    version: Version,
    limits: LimitsConfig,
    answer: impl Fn(Box<RequestParts>, RequestBody) -> Fut + 'static,
) -> Serving {
    let socket = socket::bind_listener(([127, 0, 0, 1], 0).into(), socket::Awaits::Connection).unwrap();
    let address = socket.local_addr().unwrap();
    let mut listener = transport.listen(socket).unwrap();
    let (phase, watch) = watch::channel(Phase::Serving);
    let metrics = WorkerMetrics::register(&prometheus::Registry::new()).unwrap();
    let counted = metrics.clone();
    tokio::task::spawn_local(async move {
        let (stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let place = Connections::new(9, 9).admit(peer.ip()).ok().unwrap();
        let terms = ConnectionContext {
            version,
            limits: &limits,
            phase: watch,
            metrics: &counted,
            buffers: &Registry::new(HeldBytes::new(usize::MAX)),
            source: place.source(),
            unparsed: Box::new(|_| ()),
        };
        serve(stream, terms, answer).await;
    });
    Serving { address, metrics, phase }
}

/// Serves a connection within limits by default.
pub(crate) async fn serve_alone<S: ByteStream, Fut: Future<Output = forward::Answer> + 'static>(
    stream: S,
    version: Version,
    phase: PhaseWatch,
    answer: impl Fn(Box<RequestParts>, RequestBody) -> Fut + 'static,
) {
    let place = Connections::new(9, 9).admit([192, 0, 2, 1].into()).ok().unwrap();
    let terms = ConnectionContext {
        version,
        limits: &LimitsConfig::default(),
        phase,
        metrics: &WorkerMetrics::register(&prometheus::Registry::new()).unwrap(),
        buffers: &Registry::new(HeldBytes::new(usize::MAX)),
        source: place.source(),
        unparsed: Box::new(|_| ()),
    };
    serve(stream, terms, answer).await;
}

fn ours(body: Bytes) -> forward::Answer {
    forward::own_response(StatusCode::OK, body, &[])
}

async fn answer(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    while !text.ends_with("done") {
        let mut bytes = [0; 1024];
        let count = client.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    text
}

/// What comes until the peer ends or resets the connection.
pub(super) async fn rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    // A reset is an end, too.
    let _ = client.read_to_string(&mut text).await;
    text
}

const ENDS: [Phase; 3] = [Phase::Leaving, Phase::Draining, Phase::Replaced];
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LARGE: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_mins(5);
/// RFC 9113 §3.4: the preface, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The same with `SETTINGS_INITIAL_WINDOW_SIZE` of 2^30, and as much for the connection (RFC 9113 §6.5.2, §6.9).
const PREFACE_OF_LARGE_WINDOWS: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\x40\0\0\0\0\0\x04\x08\0\0\0\0\0\x40\0\0\0";
/// Types and flags of frames (RFC 9113 §6).
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
