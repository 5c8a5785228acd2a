//! Real sockets on both sides, on both back ends. The upstream is played by hand, so that it can misbehave at a chosen byte.
//! Time limits are in `limits`.

mod auto_protocol;
mod base_paths;
mod checks;
mod circuit_breaking;
mod compression;
mod early_ends;
mod endpoints;
mod fields;
mod http2_upstreams;
mod http2_websockets;
mod limits;
mod maintenance;
mod proxy_headers;
mod site_redirects;
mod tls;
mod tunnels;
mod unix_sockets;

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use http::{Request, Response};
use testbed::wait;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
};

use super::{
    metrics::{CheckResult, CompressionResult, CompressionSide, ConnectionOrigin, Direction, PendingEnd},
    *,
};
use crate::{
    clock::now,
    domains::{DomainEntry, Permission, PermissionSource},
    phase::{Phase, PhaseWatch},
    target::Target,
    telemetry::{access_log::AccessLog, metrics::Label},
    transport::{
        Epoll, Listener, Stream as _, Uring,
        tests::conformance::{few_turns, unless_stuck},
    },
    worker::{ServedVersion, serve_alone},
};

/// A proxy in front of an upstream that the test plays.
struct Edge {
    address: SocketAddr,
    upstream: TcpListener,
    metrics: RequestMetrics,
    phase: watch::Sender<Phase>,
    /// Serves another domain with the same relay, whose target this is: where.
    beside: Box<Beside>,
}

type Beside = dyn Fn(&Setting, &str) -> SocketAddr;

impl Edge {
    fn beside(&self, setting: &Setting, target: &str) -> SocketAddr {
        (self.beside)(setting, target)
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn accept(&self) -> TcpStream {
        self.upstream.accept().await.unwrap().0
    }

    /// So many requests wait for an endpoint.
    async fn waiting(&self, count: i64) {
        wait::until_async(&format!("{count} to wait"), Duration::from_secs(15), async || {
            let waiting = self.metrics.pending_now.get();
            anyhow::ensure!(waiting == count, "{waiting} wait");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// The first request is forwarded, and nothing else happens.
    async fn forwards(&self) {
        let mut client = self.client().await;
        say(&mut client, GET).await;
        let mut upstream = self.accept().await;
        head_of(&mut upstream).await;
        answer_ok(&mut upstream, &mut client).await;
        self.counted(RequestOutcome::Forward, 1).await;
    }

    /// Nobody has connected to the target.
    fn asked_nobody(self) {
        let upstream = self.upstream.into_std().unwrap();
        let asked = upstream.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock));
    }

    fn count(&self, outcome: RequestOutcome) -> u64 {
        self.metrics.requests.count(outcome)
    }

    /// `times` with this outcome, and no other.
    async fn counted(&self, outcome: RequestOutcome, times: u64) {
        self.counted_all(outcome, times, times).await;
    }

    /// `times` with this outcome, and `all` with any.
    async fn counted_all(&self, outcome: RequestOutcome, times: u64, all: u64) {
        counted_all(&self.metrics, outcome, times, all).await;
    }
}

async fn counted_all(metrics: &RequestMetrics, outcome: RequestOutcome, times: u64, all: u64) {
    let counted = || {
        let each = RequestOutcome::ALL.iter().map(|outcome| (*outcome, metrics.requests.count(*outcome)));
        each.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    wait::until_async(&format!("{times} times {outcome:?}"), Duration::from_secs(15), async || {
        anyhow::ensure!(metrics.requests.count(outcome) >= times, "{:?}", counted());
        Ok(())
    })
    .await
    .unwrap();
    let every: u64 = counted().iter().map(|(_, count)| count).sum();
    assert_eq!((metrics.requests.count(outcome), every), (times, all), "{:?}", counted());
}

/// What a case changes.
struct Setting {
    /// In place of 127.0.0.1, with the upstream's port behind it.
    origin: &'static str,
    /// Behind the port.
    parameters: &'static str,
    roots: Option<PathBuf>,
    response_timeout: config::Span,
    access_log: AccessLog,
    upstream: config::UpstreamConfig,
    limits: config::LimitsConfig,
    headers: config::HeadersConfig,
    compression: config::CompressionConfig,
    domain: config::DomainSettings,
    /// Who has written the target.
    source: PermissionSource,
    version: ServedVersion,
    /// A trusted proxy that all clients come through.
    through: Option<IpAddr>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            origin: "http://127.0.0.1",
            parameters: "",
            roots: None,
            response_timeout: config::Span::secs(20),
            access_log: AccessLog::off(),
            upstream: config::UpstreamConfig::default(),
            limits: config::LimitsConfig { idle: config::Span::secs(20), ..config::LimitsConfig::default() },
            headers: config::HeadersConfig::default(),
            compression: config::CompressionConfig::default(),
            domain: config::DomainSettings::default(),
            source: PermissionSource::Static,
            version: ServedVersion::Http1,
            through: None,
        }
    }
}

async fn edge<T: Transport>(transport: T, setting: &Setting) -> Edge {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = upstream.local_addr().unwrap().port();
    edge_to(transport, setting, upstream, &format!("{}:{port}{}", setting.origin, setting.parameters))
}

fn edge_to<T: Transport>(transport: T, setting: &Setting, upstream: TcpListener, target: &str) -> Edge {
    worker(transport, setting, upstream, target, upstream_settings(setting))
}

/// One worker of several that share `settings`.
fn worker<T: Transport>(
    transport: T,
    setting: &Setting,
    upstream: TcpListener,
    target: &str,
    settings: Arc<UpstreamSettings>,
) -> Edge {
    let metrics = RequestMetrics::register(&prometheus::Registry::new()).unwrap();
    let relay = relay_sharing(transport.clone(), setting, setting.limits.clone(), metrics.clone(), settings);
    let relay = Rc::new(relay);
    let (phase, watch) = watch::channel(Phase::Serving);
    let beside = move |setting: &Setting, target: &str| {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listener = transport.listen(socket).unwrap();
        let permission = permission(Target::parse(target).unwrap(), setting);
        let version = (setting.version, watch.clone());
        tokio::task::spawn_local(front::<T>(
            listener,
            Rc::clone(&relay),
            permission,
            version,
            setting.through,
        ));
        address
    };
    Edge { address: beside(setting, target), upstream, metrics, phase, beside: Box::new(beside) }
}

fn permission(target: Target, setting: &Setting) -> Permission {
    Permission::Allow(Arc::new(DomainEntry {
        pattern: crate::name::Pattern::parse("shop.example").unwrap(),
        target: Some(target),
        settings: config::DomainSettings { host: Some(setting.upstream.host), ..setting.domain },
        tenant: "acme".into(),
        source: setting.source,
        version: 0,
        changed_at_micros: 0,
    }))
}

fn relay_within<T: Transport>(
    transport: T,
    setting: &Setting,
    limits: config::LimitsConfig,
    metrics: RequestMetrics,
) -> Relay<T> {
    relay_sharing(transport, setting, limits, metrics, upstream_settings(setting))
}

fn upstream_settings(setting: &Setting) -> Arc<UpstreamSettings> {
    let upstream = config::UpstreamConfig {
        response_timeout: setting.response_timeout,
        roots: setting.roots.clone(),
        ..setting.upstream.clone()
    };
    Arc::new(UpstreamSettings::new(&upstream, usize::MAX).unwrap())
}

fn relay_sharing<T: Transport>(
    transport: T,
    setting: &Setting,
    limits: config::LimitsConfig,
    metrics: RequestMetrics,
    upstream: Arc<UpstreamSettings>,
) -> Relay<T> {
    let settings = RelaySettings {
        limits: Reloadable::new(limits),
        headers: Reloadable::new(setting.headers.clone()),
        compression: Reloadable::new(setting.compression.clone()),
        compressed: CompressedStreams::default(),
        error_pages: Reloadable::new(ErrorPages::default()),
        upstream,
        control: Handle::current(),
        public_https_port: 443,
    };
    let request_log = Rc::new(RequestLog::new(metrics, setting.access_log.clone()));
    Relay::new(transport, &settings, &request_log)
}

async fn front<T: Transport>(
    mut listener: T::Listener,
    relay: Rc<Relay<T>>,
    permission: Permission,
    (version, phase): (ServedVersion, PhaseWatch),
    through: Option<IpAddr>,
) {
    let server_name = HandshakeName { name: ServerName::parse("shop.example").unwrap(), by: NamedBy::Client };
    loop {
        let (stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let (local, server) = (stream.local_address(), Some(server_name.clone()));
        let downstream = Downstream { peer, local, through, server_name: server, tls: Some("TLSv1.3") };
        let (relay, permission, server_name) = (Rc::clone(&relay), permission.clone(), server_name.clone());
        let answer = move |head: Box<RequestParts>, body: RequestBody| {
            let (relay, permission) = (Rc::clone(&relay), permission.clone());
            let (downstream, server_name) = (downstream.clone(), server_name.clone());
            async move {
                let record = relay.request_log.record(&head, &downstream, &Scheme::HTTPS, now());
                let host = admit::admit(&head, &server_name, 128).map_err(RequestRefusal::from);
                let defaults = RouteDefaults { target: None, host: config::UpstreamHost::Target };
                let admitted = host.and_then(|host| {
                    let entry = entry_of(permission, |_| None)?;
                    DomainRoute::of(&host.name, &entry, defaults).map(|route| Admitted { host, route })
                });
                relay.answer(head, body, admitted, record).await
            }
        };
        tokio::task::spawn_local(serve_alone(stream, version, phase.clone(), answer));
    }
}

/// Plays `case` once over each back end, each within a deadline.
fn on_both<F: Future<Output = ()>>(setting: &Setting, case: impl Fn(Edge) -> F) {
    async fn play<T: Transport, F: Future<Output = ()>>(
        transport: T,
        setting: &Setting,
        case: impl Fn(Edge) -> F,
    ) {
        let edge = edge(transport, setting).await;
        tokio::time::timeout(Duration::from_secs(20), case(edge))
            .await
            .expect("the case did not end in time");
    }
    Epoll::run(|transport| play(transport, setting, &case)).unwrap();
    Uring::run(|transport| play(transport, setting, &case)).unwrap();
}

/// Runs what hyper's connections do on this thread.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move { drop(task.await) });
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads to the end of a head; its names in lower case, since their case says nothing (RFC 9110 §5.1).
async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let line = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
        None => line.to_owned(),
    };
    head.split_inclusive("\r\n").map(line).collect()
}

/// Answers each request on `stream` with what `answer` makes of its header section; with none not at all.
async fn answer_each(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(String) -> Option<String>,
) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n")
            && let Some(answer) = answer(String::from_utf8(std::mem::take(&mut head)).unwrap())
        {
            say(&mut stream, &answer).await;
        }
    }
}

/// The upstream answers the request that it has read, and the client reads the answer.
async fn answer_ok(upstream: &mut TcpStream, client: &mut TcpStream) {
    say(upstream, OK).await;
    head_of(client).await;
    exactly(client, "ok").await;
}

async fn exactly(stream: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

/// What comes until the peer ends or resets the connection.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    String::from_utf8_lossy(&read).into_owned()
}

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn kept_connections_are_used_again() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, GET).await;
        let mut upstream = edge.accept().await;
        let head = head_of(&mut upstream).await;
        assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("user-custom-domain: shop.example\r\n"), "{head}");
        say(&mut upstream, OK).await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        exactly(&mut client, "ok").await;
        say(&mut client, GET).await;
        head_of(&mut upstream).await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
        assert!(head_of(&mut client).await.contains("transfer-encoding: chunked\r\n"));
        exactly(&mut client, "2\r\nok\r\n0\r\n\r\n").await;
        say(&mut client, GET).await;
        head_of(&mut upstream).await;
        say(&mut upstream, "HTTP/1.1 204 No Content\r\n\r\n").await;
        head_of(&mut client).await;
        edge.counted(RequestOutcome::Forward, 3).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Reuse), 2);
    });
}

#[test]
fn a_connection_closed_while_idle_is_replaced() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, GET).await;
        let mut first = edge.accept().await;
        head_of(&mut first).await;
        answer_ok(&mut first, &mut client).await;
        // Closed at the worst moment: the request has just gone out on it.
        say(&mut client, GET).await;
        head_of(&mut first).await;
        drop(first);
        let mut second = edge.accept().await;
        head_of(&mut second).await;
        answer_ok(&mut second, &mut client).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Retry), 1);
        // What is not idempotent goes out once only (RFC 9110 §9.2.2).
        say(&mut client, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n").await;
        head_of(&mut second).await;
        drop(second);
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 502 "));
        assert_eq!(edge.count(RequestOutcome::Closed), 1);
    });
}

#[test]
fn a_connection_that_speaks_unasked_is_not_used_again() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        // With the response, and after it: either would be read as the response to the next request.
        for (with, after) in [(OK, ""), ("", OK)] {
            say(&mut client, GET).await;
            let mut upstream = edge.accept().await;
            head_of(&mut upstream).await;
            say(&mut upstream, &format!("{OK}{with}")).await;
            head_of(&mut client).await;
            exactly(&mut client, "ok").await;
            say(&mut upstream, after).await;
        }
        say(&mut client, GET).await;
        let mut third = edge.accept().await;
        head_of(&mut third).await;
        answer_ok(&mut third, &mut client).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 3);
    });
}

/// Neither direction waits for the other: the client does not read, and its request goes on; it is complete, and the connection is used
/// again.
#[test]
fn a_response_that_comes_early_leaves_the_request_going() {
    const MORE: usize = 4 << 20;
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        let length = MORE + 4;
        say(
            &mut client,
            &format!("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\nmore"),
        )
        .await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        exactly(&mut upstream, "more").await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
        head_of(&mut client).await;
        exactly(&mut client, "2\r\nok\r\n").await;
        let (more, mut taken) = (vec![b'x'; MORE], vec![0; MORE]);
        let (sent, read) = tokio::join!(client.write_all(&more), upstream.read_exact(&mut taken));
        sent.unwrap();
        read.unwrap();
        say(&mut upstream, "0\r\n\r\n").await;
        exactly(&mut client, "0\r\n\r\n").await;
        edge.counted(RequestOutcome::Forward, 1).await;
        say(&mut client, GET).await;
        head_of(&mut upstream).await;
        answer_ok(&mut upstream, &mut client).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Reuse), 1);
    });
}

/// RFC 9112 §9.6: what is left of the request would be read as another.
#[test]
fn a_response_that_is_complete_before_its_request_says_that_the_connection_ends() {
    on_both(&Setting::default(), async |edge| {
        for (answer, says_close) in [
            ("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n", true),
            (
                "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
                true,
            ),
            // The request may be over before it.
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            let mut client = edge.client().await;
            say(&mut client, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 99\r\n\r\nmore").await;
            let mut upstream = edge.accept().await;
            head_of(&mut upstream).await;
            exactly(&mut upstream, "more").await;
            say(&mut upstream, answer).await;
            let head = head_of(&mut client).await;
            assert_eq!(head.contains("\r\nconnection: close"), says_close, "{head}");
            let asks = answer.contains("Upgrade: x");
            assert_eq!(head.contains("\r\nconnection: close, upgrade\r\n"), asks, "{head}");
        }
    });
}

#[test]
fn an_upstream_that_is_down_is_answered_with_a_page() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        let Edge { upstream, metrics, address, .. } = edge;
        drop(upstream);
        say(&mut client, GET).await;
        let head = head_of(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        assert!(head.contains("content-type: text/html; charset=utf-8\r\n"), "{head}");
        assert_eq!(metrics.requests.count(RequestOutcome::Unreachable), 1, "{address}");
    });
}

#[test]
fn a_truncated_answer_is_not_made_whole() {
    on_both(&Setting::default(), async |edge| {
        for (n, answer, seen) in [
            (1, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "half"),
            (2, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "4\r\nhalf\r\n"),
        ] {
            let mut client = edge.client().await;
            say(&mut client, GET).await;
            let mut upstream = edge.accept().await;
            head_of(&mut upstream).await;
            say(&mut upstream, answer).await;
            head_of(&mut client).await;
            exactly(&mut client, seen).await;
            drop(upstream);
            assert_eq!(rest(&mut client).await, "", "{answer:?}");
            edge.counted(RequestOutcome::Truncated, n).await;
        }
    });
}

/// Ends a connection as a process does that is killed while there is something to read.
fn reset(client: TcpStream) {
    client.set_zero_linger().unwrap();
    drop(client);
}

#[test]
fn a_client_that_sends_nothing_more_gets_its_response() {
    on_both(&Setting::default(), async |edge| {
        for (early, late) in [("", OK), ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "k")] {
            let mut client = edge.client().await;
            say(&mut client, GET).await;
            let mut upstream = edge.accept().await;
            head_of(&mut upstream).await;
            say(&mut upstream, early).await;
            client.shutdown().await.unwrap();
            // Over loopback the end is there at once; the proxy has seen it before the response is complete.
            few_turns().await;
            say(&mut upstream, late).await;
            let answer = rest(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
        }
        edge.counted(RequestOutcome::Forward, 2).await;
    });
}

#[test]
fn interim_responses_reach_the_client() {
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n";
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, GET).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        say(&mut upstream, &format!("{HINTS}connection: x\r\nx: y\r\ncontent-length: 9\r\n\r\n")).await;
        exactly(&mut client, &format!("{HINTS}\r\n")).await;
        say(&mut upstream, &format!("{HINTS}\r\n{HINTS}\r\n{OK}")).await;
        exactly(&mut client, &format!("{HINTS}\r\n{HINTS}\r\nHTTP/1.1 200 OK\r\n")).await;
        head_of(&mut client).await;
        exactly(&mut client, "ok").await;
        // HTTP/1.0 has none.
        say(&mut client, "GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n").await;
        head_of(&mut upstream).await;
        say(&mut upstream, &format!("{HINTS}\r\n{OK}")).await;
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

const EXPECTING: &str =
    "PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn a_client_that_waits_sends_its_body_when_the_upstream_says_so() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, EXPECTING).await;
        let mut upstream = edge.accept().await;
        let head = head_of(&mut upstream).await;
        assert!(
            head.contains("expect: 100-continue\r\n") && head.contains("content-length: 4\r\n"),
            "{head}"
        );
        say(&mut upstream, CONTINUE).await;
        exactly(&mut client, CONTINUE).await;
        say(&mut client, "body").await;
        exactly(&mut upstream, "body").await;
        answer_ok(&mut upstream, &mut client).await;
        // On the same connections, an upstream that knows nothing of it.
        say(&mut client, EXPECTING).await;
        head_of(&mut upstream).await;
        exactly(&mut client, CONTINUE).await;
        say(&mut client, "body").await;
        exactly(&mut upstream, "body").await;
        answer_ok(&mut upstream, &mut client).await;
        // A client that does not wait is not made to.
        say(&mut client, &format!("{EXPECTING}body")).await;
        assert!(!head_of(&mut upstream).await.contains("expect"));
        exactly(&mut upstream, "body").await;
        say(&mut upstream, OK).await;
        head_of(&mut client).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Reuse), 2);
    });
}

#[test]
fn an_upstream_that_refuses_a_body_in_advance_is_sent_none() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, EXPECTING).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        say(&mut upstream, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(rest(&mut upstream).await, "", "a request without its body is the connection's last");
    });
}

#[test]
fn trailers_pass_both_ways() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        let chunks = "2\r\nok\r\n0\r\nhost: evil\r\nx-sum: 1\r\n\r\n";
        let passed = "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
        for _ in 0..2 {
            let fields = "Host: shop.example\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum";
            say(&mut client, &format!("PUT / HTTP/1.1\r\n{fields}\r\n\r\n{chunks}")).await;
        }
        let mut upstream = edge.accept().await;
        for _ in 0..2 {
            let head = head_of(&mut upstream).await;
            assert!(head.contains("te: trailers\r\n") && head.contains("trailer: x-sum\r\n"), "{head}");
            exactly(&mut upstream, passed).await;
            say(&mut upstream, &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"))
                .await;
            head_of(&mut client).await;
            exactly(&mut client, passed).await;
        }
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Reuse), 1);
    });
}

#[test]
fn a_client_that_leaves_ends_the_request_upstream() {
    on_both(&Setting::default(), async |edge| {
        let mut waiting = edge.client().await;
        say(&mut waiting, GET).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        reset(waiting);
        assert_eq!(rest(&mut upstream).await, "", "before the answer");
        edge.counted(RequestOutcome::ClientGone, 1).await;

        let mut reading = edge.client().await;
        say(&mut reading, GET).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
        head_of(&mut reading).await;
        reset(reading);
        while upstream.write_all(b"1\r\na\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
        edge.counted(RequestOutcome::ClientGone, 2).await;

        let mut sending = edge.client().await;
        say(&mut sending, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9\r\n\r\nhalf").await;
        let mut upstream = edge.accept().await;
        assert!(head_of(&mut upstream).await.contains("content-length: 9\r\n"));
        exactly(&mut upstream, "half").await;
        reset(sending);
        assert_eq!(rest(&mut upstream).await, "", "while it was sending");
        edge.counted(RequestOutcome::ClientGone, 3).await;
    });
}

#[test]
fn a_side_that_does_not_read_stops_the_other() {
    const LARGE: usize = 64 << 20;
    on_both(&Setting::default(), async |edge| {
        let (mut client, body) = (edge.client().await, vec![7; LARGE]);
        say(&mut client, &format!("PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {LARGE}\r\n\r\n"))
            .await;
        // The upstream is asked once there is something to send.
        client.write_all(&body[..1]).await.unwrap();
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        let mut sent = 1;
        // The upstream's side is stopped first, and for good; then the client's.
        let (to_upstream, from_client) = (edge.upstream.local_addr().unwrap(), edge.address);
        for listener in [to_upstream, from_client] {
            while let Some(count) = unless_stuck(listener, client.write(&body[sent..])).await {
                sent += count.unwrap();
            }
        }
        assert!(sent < LARGE / 2, "{sent} bytes were taken although nobody read them");
        let (mut read, mut buffer) = (0, vec![0; 1 << 16]);
        let (mut from_client, mut to_client) = client.split();
        let _ = tokio::join!(async { to_client.write_all(&body[sent..]).await.unwrap() }, async {
            while read < LARGE {
                read += upstream.read(&mut buffer).await.unwrap();
            }
            upstream.write_all(OK.as_bytes()).await.unwrap();
        });
        let mut answer = vec![0; 12];
        from_client.read_exact(&mut answer).await.unwrap();
        assert_eq!((answer.as_slice(), read), (&b"HTTP/1.1 200"[..], LARGE));
    });
}

#[test]
fn framing_towards_the_upstream_is_our_own() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(
            &mut client,
            "GET / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nHost: b\r\n\r\n",
        )
        .await;
        let mut upstream = edge.accept().await;
        let head = head_of(&mut upstream).await;
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"),
            "{head}"
        );
        exactly(&mut upstream, "2\r\nhi\r\n0\r\n\r\n").await;
        answer_ok(&mut upstream, &mut client).await;
        say(&mut client, "HEAD / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        head_of(&mut upstream).await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n").await;
        assert!(head_of(&mut client).await.contains("content-length: 5000\r\n"));
        edge.counted(RequestOutcome::Forward, 2).await;
    });
}

#[test]
fn every_request_is_counted_once() {
    on_both(&Setting::default(), async |edge| {
        for (n, request, status) in [
            (1, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", "421"),
            (2, "GET / HTTP/1.1\r\nHost: shop.example\r\nTransfer_Encoding: chunked\r\n\r\n", "400"),
            (
                3,
                "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400",
            ),
        ] {
            let mut client = edge.client().await;
            say(&mut client, request).await;
            let head = head_of(&mut client).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
            edge.counted(RequestOutcome::RefuseViolation, n).await;
        }
        assert_eq!(edge.metrics.violations.count(RequestViolation::HostUnlikeServerName), 1);
        assert_eq!(edge.metrics.violations.count(RequestViolation::ShadowField), 1);
        assert_eq!(edge.metrics.violations.count(RequestViolation::TransferRepeated), 1);
    });
}

#[test]
fn a_request_that_comes_back_is_refused() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, "GET / HTTP/1.1\r\nHost: shop.example\r\nCDN-Loop: other\r\n\r\n").await;
        let mut upstream = edge.accept().await;
        let head = head_of(&mut upstream).await;
        let marks: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("cdn-loop: ")).collect();
        assert_eq!(marks.first(), Some(&"other"), "{head}");
        answer_ok(&mut upstream, &mut client).await;
        let again = format!("GET / HTTP/1.1\r\nHost: shop.example\r\nCDN-Loop: {}\r\n\r\n", marks.join(", "));
        say(&mut client, &again).await;
        let head = head_of(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 508 Loop Detected\r\n"), "{head}");
        edge.counted_all(RequestOutcome::Loop, 1, 2).await;
    });
}

#[test]
fn a_target_that_is_the_fleet_itself_is_not_asked() {
    let addresses = config::UpstreamConfig {
        edge_addresses: vec!["127.0.0.0/8".to_owned().try_into().unwrap()],
        ..config::UpstreamConfig::default()
    };
    let names = config::UpstreamConfig {
        edge_names: vec!["*.operator.example".parse().unwrap()],
        ..config::UpstreamConfig::default()
    };
    for (origin, upstream) in [("http://127.0.0.1", addresses), ("http://edge.operator.example", names)] {
        on_both(&Setting { origin, upstream, ..Setting::default() }, async |edge| {
            let mut client = edge.client().await;
            say(&mut client, GET).await;
            let head = head_of(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 508 Loop Detected\r\n"), "{origin}: {head}");
            edge.counted(RequestOutcome::Loop, 1).await;
        });
    }
}

#[test]
fn a_name_that_leads_to_this_host_is_refused() {
    let to_ourselves = Setting { origin: "http://localhost", ..Setting::default() };
    on_both(&to_ourselves, async |edge| {
        let mut client = edge.client().await;
        say(&mut client, GET).await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 502 "));
        edge.counted(RequestOutcome::Forbidden, 1).await;
    });
}
