//! Upstreams over TLS that choose the version of HTTP (RFC 7301).

use std::convert::Infallible;

use hyper::{server::conn::http2 as server, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::task::{JoinHandle, JoinSet};

use super::{
    http2_upstreams::{call, whole},
    tls::tls_upstream,
    *,
};

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
const POST: &str = "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nfour";

/// An upstream's next connections: each chooses of the protocols of its place, or of those of the last, and answers with the version that it
/// chose and its number.
struct Choosing {
    task: JoinHandle<()>,
}

impl Drop for Choosing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The setting for an upstream at 127.0.0.1, and the acceptors of one that knows what `each` lists.
fn choosing(each: &[&[&[u8]]]) -> (Setting, tempfile::NamedTempFile, Vec<tokio_rustls::TlsAcceptor>) {
    let (roots, server) = tls_upstream(&[]);
    let acceptors = each.iter().map(|protocols| {
        let mut server = (*server).clone();
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        tokio_rustls::TlsAcceptor::from(Arc::new(server))
    });
    let setting = Setting {
        origin: "https://127.0.0.1",
        parameters: ";protocol=auto",
        roots: Some(roots.path().to_owned()),
        ..Setting::default()
    };
    (setting, roots, acceptors.collect())
}

/// Serves what connects to `upstream`, each connection by its place in `acceptors`, and keeps it for `kept` requests over HTTP/1.1.
fn serve_each(upstream: TcpListener, acceptors: &[tokio_rustls::TlsAcceptor], kept: usize) -> Choosing {
    let acceptors = acceptors.to_vec();
    let task = tokio::task::spawn_local(async move {
        // Ended with this task.
        let mut connections = JoinSet::new();
        for number in 0.. {
            let acceptor = acceptors.get(number).or(acceptors.last()).unwrap();
            let Ok(stream) = acceptor.accept(upstream.accept().await.unwrap().0).await else { continue };
            let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            if chosen.as_deref() == Some(H2) {
                connections.spawn_local(answer_http2(stream, number));
            } else {
                connections.spawn_local(answer_http1(stream, number, kept));
            }
        }
    });
    Choosing { task }
}

async fn answer_http2(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, number: usize) {
    let service =
        service_fn(
            move |_| async move { Ok::<_, Infallible>(Response::new(whole(&format!("h2 {number}")))) },
        );
    let _ = server::Builder::new(Local).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, number: usize, kept: usize) {
    for _ in 0..kept {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        if head.contains("upgrade: websocket") {
            say(
                &mut stream,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .await;
            let (mut from, mut to) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            return;
        }
        if head.starts_with("POST") {
            exactly(&mut stream, "four").await;
        }
        let body = format!("h1 {number}");
        say(&mut stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    }
    let _ = stream.shutdown().await;
}

/// What the upstream says to `request`.
async fn ask(client: &mut TcpStream, request: &str) -> String {
    say(client, request).await;
    let head = head_of(client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = [0; 4];
    client.read_exact(&mut body).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

impl Edge {
    /// The upstream's listener, for a task.
    fn split(mut self) -> (Self, TcpListener) {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        unused.set_nonblocking(true).unwrap();
        let upstream = std::mem::replace(&mut self.upstream, TcpListener::from_std(unused).unwrap());
        (self, upstream)
    }
}

#[test]
fn a_server_is_spoken_to_as_it_chooses() {
    for (protocols, said) in [
        (&[H2, HTTP_1_1][..], "h2 0"),
        (&[HTTP_1_1, H2][..], "h1 0"),
        (&[H2][..], "h2 0"),
        (&[HTTP_1_1][..], "h1 0"),
        // It knows nothing of ALPN.
        (&[][..], "h1 0"),
    ] {
        let (setting, _roots, acceptors) = choosing(&[protocols]);
        on_both(&setting, async |edge| {
            let (edge, upstream) = edge.split();
            let _serving = serve_each(upstream, &acceptors, usize::MAX);
            let mut client = edge.client().await;
            for request in [GET, POST, GET] {
                assert_eq!(ask(&mut client, request).await, said, "{protocols:?}");
            }
            edge.counted(RequestOutcome::Forward, 3).await;
            let count = |origin| edge.metrics.connections.count(origin);
            assert_eq!((count(ConnectionOrigin::Open), count(ConnectionOrigin::Reuse)), (1, 2));
        });
    }
}

#[test]
fn requests_that_come_at_once_share_a_connection_once_they_can() {
    let (setting, _roots, acceptors) = choosing(&[&[H2, HTTP_1_1]]);
    on_both(&setting, async |edge| {
        let (edge, upstream) = edge.split();
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = edge.client().await;
            say(&mut client, GET).await;
            clients.push(client);
        }
        let _serving = serve_each(upstream, &acceptors, usize::MAX);
        for client in &mut clients {
            assert!(head_of(client).await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
    });
}

#[test]
fn a_server_that_is_downgraded_or_upgraded_is_followed() {
    // Each connection of HTTP/1.1 carries one request, so that the next one is asked again.
    let (setting, _roots, acceptors) = choosing(&[&[HTTP_1_1], &[HTTP_1_1], &[H2, HTTP_1_1], &[HTTP_1_1]]);
    on_both(&setting, async |edge| {
        let (edge, upstream) = edge.split();
        let address = upstream.local_addr().unwrap();
        let serving = serve_each(upstream, &acceptors, 1);
        let mut client = edge.client().await;
        for said in ["h1 0", "h1 1", "h2 2", "h2 2"] {
            assert_eq!(ask(&mut client, POST).await, said);
            few_turns().await;
        }
        // It starts anew, with HTTP/1.1 alone.
        drop(serving);
        few_turns().await;
        let upstream = TcpListener::bind(address).await.unwrap();
        let _serving = serve_each(upstream, &acceptors[3..], usize::MAX);
        for said in ["h1 0", "h1 0"] {
            assert_eq!(ask(&mut client, POST).await, said);
        }
        edge.counted(RequestOutcome::Forward, 6).await;
    });
}

#[test]
fn a_websocket_goes_over_a_connection_that_offers_http_1_1_alone() {
    let (setting, _roots, acceptors) = choosing(&[&[H2, HTTP_1_1]]);
    on_both(&setting, async |edge| {
        let (edge, upstream) = edge.split();
        let _serving = serve_each(upstream, &acceptors, usize::MAX);
        let offer = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
        let offer = format!("GET /chat HTTP/1.1\r\nHost: shop.example\r\n{offer}\r\n");
        // Before anything is known of the server, and after.
        for known in [false, true] {
            let mut client = edge.client().await;
            say(&mut client, &offer).await;
            let head = head_of(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{known}: {head}");
            say(&mut client, "ping").await;
            exactly(&mut client, "ping").await;
            // That it was spoken to in HTTP/1.1 says nothing of what it chooses.
            assert_eq!(ask(&mut edge.client().await, GET).await, "h2 1");
        }
    });
}

#[test]
fn a_call_is_not_kept_waiting_for_its_body_where_the_server_may_speak_http_2() {
    let (setting, _roots, acceptors) = choosing(&[&[H2, HTTP_1_1]]);
    let setting = Setting { version: ServedVersion::Http2, ..setting };
    on_both(&setting, async |edge| {
        let (edge, upstream) = edge.split();
        let _serving = serve_each(upstream, &acceptors, usize::MAX);
        // Its client sends nothing before the header section of the response.
        let (_sender, _messages, answer) = call(&edge, "/service/Method").await;
        assert_eq!(answer.await.unwrap().status(), 200);
    });
}

#[test]
fn a_client_that_sends_no_body_costs_a_server_of_http_1_1_nothing() {
    let (setting, _roots, acceptors) = choosing(&[&[HTTP_1_1]]);
    let limits = config::LimitsConfig { idle: config::Span::millis(300), ..config::LimitsConfig::default() };
    let setting = Setting { limits, ..setting };
    on_both(&setting, async |edge| {
        let (edge, upstream) = edge.split();
        let _serving = serve_each(upstream, &acceptors, 1);
        assert_eq!(ask(&mut edge.client().await, GET).await, "h1 0");
        let mut client = edge.client().await;
        say(&mut client, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\n").await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 408 "));
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
    });
}

#[test]
fn its_health_is_asked_for_in_the_version_that_it_chooses() {
    for protocol in [H2, HTTP_1_1] {
        let (setting, _roots, acceptors) = choosing(&[&[protocol]]);
        let setting = Setting { parameters: ";protocol=auto;health=/up", ..setting };
        on_both(&setting, async |edge| {
            let (edge, upstream) = edge.split();
            let _serving = serve_each(upstream, &acceptors, usize::MAX);
            ask(&mut edge.client().await, GET).await;
            wait::until_async("a check", Duration::from_secs(15), async || {
                anyhow::ensure!(edge.metrics.checks.count(CheckResult::Passed) > 0, "none has passed");
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(edge.metrics.checks.count(CheckResult::Failed), 0);
        });
    }
}

#[test]
fn connections_are_bounded_as_long_as_they_are_of_http_1_1() {
    for (protocols, opened) in [(&[HTTP_1_1][..], 2), (&[H2][..], 1)] {
        let (setting, _roots, acceptors) = choosing(&[protocols]);
        let setting = Setting { parameters: ";protocol=auto;max_connections=2", ..setting };
        on_both(&setting, async |edge| {
            let (edge, upstream) = edge.split();
            let _serving = serve_each(upstream, &acceptors, usize::MAX);
            let mut clients = Vec::new();
            for _ in 0..6 {
                let mut client = edge.client().await;
                say(&mut client, GET).await;
                clients.push(client);
            }
            for client in &mut clients {
                assert!(head_of(client).await.starts_with("HTTP/1.1 200 "), "{protocols:?}");
            }
            let count = edge.metrics.connections.count(ConnectionOrigin::Open);
            assert!((1..=opened).contains(&count), "{protocols:?}: {count}");
        });
    }
}
