//! WebSocket to upstreams over HTTP/2 (RFC 8441). hyper plays them.

use http::Version;
use hyper::{body::Incoming, ext::Protocol, server::conn::http2 as server, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::{
    http2_upstreams::{Serving, one_at_a_time, over_http2, serve_over, whole},
    tls::tls_upstream,
    tunnels::{asked, talk_until_ended},
    *,
};
use crate::telemetry::{Kept, Lines};

/// The key of RFC 6455 §1.3, and what is answered to it.
const OFFER: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const PROOF: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

type Socket = TokioIo<Upgraded>;

/// Serves `stream`: each WebSocket that is asked for is agreed to and handed out, and all else is answered with `ok`.
fn agree(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> (Serving, mpsc::UnboundedReceiver<Socket>) {
    let mut builder = server::Builder::new(Local);
    builder.enable_connect_protocol();
    let (agreed, sockets) = mpsc::unbounded_channel();
    let serving = serve_over(stream, &builder, move |mut request: Request<Incoming>| {
        let agreed = agreed.clone();
        async move {
            if request.method() != "CONNECT" {
                return Response::new(whole("ok"));
            }
            let protocol =
                request.extensions().get::<Protocol>().map(|protocol| protocol.as_str().to_owned());
            assert_eq!((protocol.as_deref(), request.version()), (Some("websocket"), Version::HTTP_2));
            let of_http1 = ["connection", "upgrade", "host", "sec-websocket-key", "content-length"];
            let fields = request.headers();
            assert!(of_http1.iter().all(|name| !fields.contains_key(*name)), "{fields:?}");
            assert!(
                fields["sec-websocket-version"] == "13" && fields["user-custom-domain"] == "shop.example"
            );
            let chosen = fields.get("sec-websocket-protocol").cloned();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::task::spawn_local(async move {
                let _ = agreed.send(TokioIo::new(upgrade.await.unwrap()));
            });
            let mut response = Response::new(whole(""));
            if let Some(chosen) = chosen {
                response.headers_mut().insert("sec-websocket-protocol", chosen);
            }
            // What is of HTTP/1.1 is not the server's to say.
            response.headers_mut().insert("sec-websocket-accept", "forged".parse().unwrap());
            response
        }
    });
    (serving, sockets)
}

/// Serves `stream`, and takes no WebSocket.
fn decline(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Serving {
    serve_over(stream, &server::Builder::new(Local), |request: Request<Incoming>| async move {
        assert!(request.method() == "GET" && !request.headers().contains_key("upgrade"), "{request:?}");
        Response::new(whole("ok"))
    })
}

/// A client of HTTP/1.1 and an upstream of HTTP/2 that have switched.
async fn switched(edge: &Edge) -> (TcpStream, Socket, (Serving, mpsc::UnboundedReceiver<Socket>)) {
    let mut client = edge.client().await;
    say(&mut client, OFFER).await;
    let (serving, mut sockets) = agree(edge.accept().await);
    let head = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains(PROOF) && !head.contains("forged"), "{head}");
    assert!(head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
    let socket = sockets.recv().await.unwrap();
    (client, socket, (serving, sockets))
}

async fn passes(
    one: &mut (impl AsyncRead + AsyncWrite + Unpin),
    other: &mut (impl AsyncRead + AsyncWrite + Unpin),
) {
    say(one, "ping").await;
    exactly(other, "ping").await;
    say(other, "pong").await;
    exactly(one, "pong").await;
}

#[test]
fn a_websocket_passes_both_ways_and_each_end_apart() {
    on_both(&over_http2(), async |edge| {
        let (mut client, mut upstream, _serving) = switched(&edge).await;
        assert_eq!(edge.metrics.tunnels.get(), 1);
        for _ in 0..3 {
            passes(&mut client, &mut upstream).await;
        }
        // More than the windows of a stream.
        let large = "x".repeat(1 << 20);
        let (mut from, mut to) = (tokio::io::split(&mut client), tokio::io::split(&mut upstream));
        tokio::join!(say(&mut from.1, &large), exactly(&mut to.0, &large));
        tokio::join!(say(&mut to.1, &large), exactly(&mut from.0, &large));
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut upstream).await, "");
        say(&mut upstream, "last").await;
        exactly(&mut client, "last").await;
        upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, "");
        edge.counted(RequestOutcome::Forward, 1).await;
        assert_eq!(edge.metrics.tunnels.get(), 0);
        let bytes = [Direction::In, Direction::Out].map(|way| edge.metrics.body_bytes.count(way));
        assert_eq!(bytes, [12 + (1 << 20), 16 + (1 << 20)]);
    });
}

#[test]
fn the_upstream_may_end_first() {
    on_both(&over_http2(), async |edge| {
        let (mut client, mut upstream, _serving) = switched(&edge).await;
        upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, "");
        say(&mut client, "last").await;
        exactly(&mut upstream, "last").await;
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut upstream).await, "");
        edge.counted(RequestOutcome::Forward, 1).await;
    });
}

#[test]
fn a_websocket_over_http_2_on_both_sides_has_no_handshake_of_http_1_1() {
    let kept = Kept::default();
    let lines = Lines::start(kept.clone()).unwrap();
    let access_log = AccessLog::start(lines.clone(), config::LogFormat::Text);
    let setting = Setting { version: ServedVersion::Http2, access_log, ..over_http2() };
    on_both(&setting, async |edge| {
        let answer = tokio::task::spawn_local(asked(&edge).await);
        let (_serving, mut sockets) = agree(edge.accept().await);
        let response = answer.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("sec-websocket-accept"), "{response:?}");
        let mut client = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut upstream = sockets.recv().await.unwrap();
        passes(&mut client, &mut upstream).await;
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut upstream).await, "");
        upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, "");
        edge.counted(RequestOutcome::Forward, 1).await;
        lines.flush(Duration::from_secs(10));
        assert!(kept.text().contains("HTTP/2.0\" 200 forwarded"), "{}", kept.text());
    });
    let kept = Kept::default();
    let lines = Lines::start(kept.clone()).unwrap();
    let access_log = AccessLog::start(lines.clone(), config::LogFormat::Text);
    on_both(&Setting { access_log, ..over_http2() }, async |edge| {
        drop(switched(&edge).await);
        edge.counted(RequestOutcome::Forward, 1).await;
        lines.flush(Duration::from_secs(10));
        assert!(kept.text().contains("HTTP/1.1\" 101 forwarded"), "{}", kept.text());
    });
}

#[test]
fn websockets_and_requests_share_a_connection() {
    on_both(&over_http2(), async |edge| {
        let (mut client, mut upstream, _serving) = switched(&edge).await;
        let mut other = edge.client().await;
        say(&mut other, GET).await;
        assert!(head_of(&mut other).await.starts_with("HTTP/1.1 200 "));
        exactly(&mut other, "ok").await;
        passes(&mut client, &mut upstream).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
    });
}

#[test]
fn a_server_that_takes_none_gets_the_request_without_its_offer() {
    for (version, status) in [(ServedVersion::Http1, 200), (ServedVersion::Http2, 502)] {
        let setting = Setting { version, ..over_http2() };
        on_both(&setting, async |edge| {
            // Before it is known of the server, and after.
            let mut serving = None;
            for _ in 0..2 {
                let answered = async {
                    if version == ServedVersion::Http1 {
                        let mut client = edge.client().await;
                        say(&mut client, OFFER).await;
                        let head = head_of(&mut client).await;
                        head[9..12].parse().unwrap()
                    } else {
                        asked(&edge).await.await.unwrap().status().as_u16()
                    }
                };
                let accepted = async {
                    if serving.is_none() {
                        serving = Some(decline(edge.accept().await));
                    }
                };
                // RFC 9110 §7.8: an offer may be ignored; an HTTP/2 client would take success for a switch.
                assert_eq!(tokio::join!(answered, accepted).0, status);
            }
            assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
        });
    }
}

#[test]
fn a_server_without_settings_is_waited_for_as_long_as_for_a_connection() {
    let connect_timeout = config::Span::millis(300);
    let upstream = config::UpstreamConfig { connect_timeout, ..config::UpstreamConfig::default() };
    on_both(&Setting { upstream, ..over_http2() }, async |edge| {
        let mut client = edge.client().await;
        say(&mut client, OFFER).await;
        let mut upstream = edge.accept().await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 504 "));
        // The proxy ends its side, too.
        upstream.shutdown().await.unwrap();
        // RFC 9113 §3.4 and §4.1: the preface, and SETTINGS, WINDOW_UPDATE and the like, but no header section.
        let mut preface = [0; 24];
        upstream.read_exact(&mut preface).await.unwrap();
        let mut head = [0; 9];
        while upstream.read_exact(&mut head).await.is_ok() {
            assert_ne!(head[3], 1, "a request came before the settings");
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            upstream.read_exact(&mut vec![0; length]).await.unwrap();
        }
    });
}

#[test]
fn what_is_no_agreement_is_passed_on_or_is_an_error() {
    for (status, told) in [(403, "403"), (426, "426"), (204, "502")] {
        on_both(&over_http2(), async |edge| {
            let mut client = edge.client().await;
            say(&mut client, OFFER).await;
            let mut builder = server::Builder::new(Local);
            builder.enable_connect_protocol();
            let _serving =
                serve_over(edge.accept().await, &builder, move |request: Request<Incoming>| async move {
                    assert_eq!(request.method(), "CONNECT");
                    Response::builder().status(status).body(whole("")).unwrap()
                });
            assert_eq!(&head_of(&mut client).await[9..12], told);
            assert_eq!(edge.metrics.tunnels.get(), 0);
        });
    }
}

#[test]
fn other_protocols_and_what_is_no_handshake_are_not_asked_for() {
    on_both(&over_http2(), async |edge| {
        let (mut serving, others) = (
            None,
            [
                OFFER.replace("websocket", "other"),
                OFFER.replace("GET", "OPTIONS"),
                OFFER.replace("-Key", "-Kee"),
            ],
        );
        for request in others {
            let mut client = edge.client().await;
            say(&mut client, &request).await;
            if serving.is_none() {
                serving = Some(agree(edge.accept().await));
            }
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "), "{request}");
        }
    });
}

#[test]
fn a_websocket_that_passes_nothing_or_whose_instance_ends_is_closed() {
    let tunnel_idle = config::Span::millis(300);
    let limits = config::LimitsConfig { tunnel_idle, ..Default::default() };
    let setting = Setting { limits, ..over_http2() };
    on_both(&setting, async |edge| {
        let (mut client, mut upstream, _serving) = switched(&edge).await;
        assert_eq!((rest(&mut client).await, rest(&mut upstream).await), (String::new(), String::new()));
        edge.counted(RequestOutcome::TunnelIdle, 1).await;
    });
    let limits = config::LimitsConfig { tunnel_idle: config::Span::secs(1), ..Default::default() };
    let setting = Setting { limits, ..over_http2() };
    on_both(&setting, async |edge| {
        let (mut client, mut upstream, _serving) = switched(&edge).await;
        edge.phase.send_replace(Phase::Leaving);
        talk_until_ended(&mut client, &mut upstream).await;
        edge.counted(RequestOutcome::Forward, 1).await;
    });
}

#[test]
fn a_side_that_is_gone_ends_the_other_and_no_other_stream() {
    on_both(&over_http2(), async |edge| {
        let (client, mut upstream, serving) = switched(&edge).await;
        let (mut beside, mut sockets) = (edge.client().await, serving.1);
        say(&mut beside, OFFER).await;
        assert!(head_of(&mut beside).await.starts_with("HTTP/1.1 101 "));
        let mut beside_upstream = sockets.recv().await.unwrap();
        reset(client);
        assert_eq!(rest(&mut upstream).await, "");
        edge.counted(RequestOutcome::ClientGone, 1).await;
        passes(&mut beside, &mut beside_upstream).await;
        // The whole connection.
        drop((beside_upstream, upstream, serving.0.abort()));
        assert_eq!(rest(&mut beside).await, "");
        edge.counted_all(RequestOutcome::Truncated, 1, 2).await;
    });
}

#[test]
fn a_websocket_counts_to_its_end() {
    let setting = Setting { parameters: ";protocol=h2;max_requests=1", ..Setting::default() };
    on_both(&setting, async |edge| {
        let (mut client, mut upstream, _serving) = switched(&edge).await;
        let mut other = edge.client().await;
        say(&mut other, GET).await;
        edge.waiting(1).await;
        client.shutdown().await.unwrap();
        upstream.shutdown().await.unwrap();
        assert!(head_of(&mut other).await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn an_endpoint_that_takes_websockets_is_found_and_remembered() {
    on_both(&over_http2(), async |edge| {
        let port = edge.upstream.local_addr().unwrap().port();
        let other = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let target = format!("http://127.0.0.1:{port};protocol=h2, http://127.0.0.2:{port};protocol=h2");
        let both = edge_to(Epoll, &over_http2(), TcpListener::bind("127.0.0.1:0").await.unwrap(), &target);
        let mut served = Vec::new();
        let mut sockets = None;
        for _ in 0..8 {
            let mut client = both.client().await;
            say(&mut client, OFFER).await;
            let head = loop {
                tokio::select! {
                    head = head_of(&mut client) => break head,
                    accepted = edge.upstream.accept() => served.push(decline(accepted.unwrap().0)),
                    accepted = other.accept() => {
                        let (serving, agreed) = agree(accepted.unwrap().0);
                        sockets = Some(agreed);
                        served.push(serving);
                    }
                }
            };
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let mut upstream = sockets.as_mut().unwrap().recv().await.unwrap();
            passes(&mut client, &mut upstream).await;
        }
        let failovers = both.metrics.connections.count(ConnectionOrigin::Failover);
        assert!(failovers <= 1 && both.metrics.ejections.get() == 0, "{failovers}");
    });
}

#[test]
fn endpoints_of_http_1_1_get_websockets_until_it_is_known_of_others() {
    on_both(&over_http2(), async |edge| {
        let port = edge.upstream.local_addr().unwrap().port();
        let other = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let target = format!("http://127.0.0.1:{port};protocol=h2;weight=256, http://127.0.0.2:{port}");
        let both = edge_to(Epoll, &over_http2(), TcpListener::bind("127.0.0.1:0").await.unwrap(), &target);
        for _ in 0..4 {
            let mut client = both.client().await;
            say(&mut client, OFFER).await;
            let mut upstream = other.accept().await.unwrap().0;
            assert!(head_of(&mut upstream).await.starts_with("GET /chat?room=1 HTTP/1.1\r\n"));
            say(
                &mut upstream,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 101 "));
        }
        // A request goes to the heavy one, which tells it.
        let mut client = both.client().await;
        say(&mut client, GET).await;
        let (_serving, mut sockets) = agree(edge.accept().await);
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
        let mut client = both.client().await;
        say(&mut client, OFFER).await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 101 "));
        passes(&mut client, &mut sockets.recv().await.unwrap()).await;
    });
}

/// As behind a load balancer in TCP, or amid an update.
#[test]
fn of_servers_at_one_address_that_differ_the_one_that_takes_it_gets_it() {
    on_both(&over_http2(), async |edge| {
        let (builder, release, answer) = one_at_a_time();
        let (mut waiting, mut client) = (edge.client().await, edge.client().await);
        say(&mut client, GET).await;
        let _declines = serve_over(edge.accept().await, &builder, answer);
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
        exactly(&mut client, "ok").await;
        // With that one occupied, the next request opens another.
        say(&mut waiting, &GET.replace("/a?b", "/wait")).await;
        few_turns().await;
        say(&mut client, GET).await;
        let (_agrees, mut sockets) = agree(edge.accept().await);
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
        release.send_replace(true);
        assert!(head_of(&mut waiting).await.starts_with("HTTP/1.1 200 "));
        let mut asking = edge.client().await;
        say(&mut asking, OFFER).await;
        assert!(head_of(&mut asking).await.starts_with("HTTP/1.1 101 "));
        passes(&mut asking, &mut sockets.recv().await.unwrap()).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 2);
    });
}

#[test]
fn where_the_server_chooses_a_websocket_goes_over_http_2_once_it_is_known_to_take_it() {
    let (roots, server) = tls_upstream(&[b"h2", b"http/1.1"]);
    let acceptor = tokio_rustls::TlsAcceptor::from(server);
    let setting = Setting {
        origin: "https://127.0.0.1",
        parameters: ";protocol=auto",
        roots: Some(roots.path().to_owned()),
        ..Setting::default()
    };
    on_both(&setting, async |edge| {
        let mut client = edge.client().await;
        say(&mut client, GET).await;
        let (serving, mut sockets) = agree(acceptor.accept(edge.accept().await).await.unwrap());
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
        let mut client = edge.client().await;
        say(&mut client, OFFER).await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 101 "));
        passes(&mut client, &mut sockets.recv().await.unwrap()).await;
        // Without a connection there is only what offers HTTP/1.1 alone.
        drop(client);
        serving.abort();
        few_turns().await;
        let mut client = edge.client().await;
        say(&mut client, OFFER).await;
        let upstream = acceptor.accept(edge.accept().await).await.unwrap();
        assert_eq!(upstream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    });
}
