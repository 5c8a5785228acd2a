//! Connections that switch to another protocol.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{client::conn::http2, ext::Protocol};
use hyper_util::rt::TokioIo;

use super::*;
use crate::telemetry::{Kept, Lines};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: a\r\n\r\n";

/// A client and an upstream that have switched.
pub(super) async fn switched(edge: &Edge) -> (TcpStream, TcpStream) {
    let mut client = edge.client().await;
    say(&mut client, UPGRADE).await;
    let mut upstream = edge.accept().await;
    let head = head_of(&mut upstream).await;
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("sec-websocket-key: k\r\n"), "{head}");
    say(&mut upstream, SWITCHED).await;
    let head = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: WebSocket\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: a\r\n") && !head.contains("content-length"), "{head}");
    (client, upstream)
}

#[test]
fn a_tunnel_passes_both_ways_and_each_end_apart() {
    on_both(&Setting::default(), async |edge| {
        let (mut client, mut upstream) = switched(&edge).await;
        assert_eq!(edge.metrics.tunnels.get(), 1);
        for _ in 0..3 {
            say(&mut client, "ping").await;
            exactly(&mut upstream, "ping").await;
            say(&mut upstream, "pong").await;
            exactly(&mut client, "pong").await;
        }
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut upstream).await, "");
        say(&mut upstream, "last").await;
        exactly(&mut client, "last").await;
        drop(upstream);
        assert_eq!(rest(&mut client).await, "");
        edge.counted(RequestOutcome::Forward, 1).await;
        assert_eq!(edge.metrics.tunnels.get(), 0);
        let bytes = [Direction::In, Direction::Out].map(|way| edge.metrics.body_bytes.count(way));
        assert_eq!(bytes, [12, 16]);
    });
}

#[test]
fn bytes_behind_an_upgrade_wait_for_the_switch() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, &format!("{UPGRADE}{GET}")).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        few_turns().await;
        assert_eq!(upstream.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        say(&mut upstream, SWITCHED).await;
        exactly(&mut upstream, GET).await;
        // An upstream that stays with HTTP: they are the next request.
        let mut client = edge.client().await;
        say(&mut client, &format!("{UPGRADE}{GET}")).await;
        let mut upstream = edge.accept().await;
        assert!(head_of(&mut upstream).await.starts_with("GET /chat "));
        say(&mut upstream, OK).await;
        assert!(head_of(&mut upstream).await.starts_with("GET /a?b "));
        say(&mut upstream, OK).await;
        for _ in 0..2 {
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
            exactly(&mut client, "ok").await;
        }
    });
}

#[test]
fn what_was_sent_with_the_switch_comes_through() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, UPGRADE).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        say(&mut upstream, &format!("{SWITCHED}hello")).await;
        head_of(&mut client).await;
        exactly(&mut client, "hello").await;
    });
}

#[test]
fn a_client_that_must_upgrade_is_told_to_what() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, GET).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        let answer = "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n";
        say(&mut upstream, answer).await;
        let head = head_of(&mut client).await;
        assert!(
            head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"),
            "{head}"
        );
    });
}

#[test]
fn only_what_was_offered_is_switched_to() {
    on_both(&Setting::default(), async |edge| {
        let other = SWITCHED.replace("WebSocket", "other");
        let none = SWITCHED.replace("Upgrade: WebSocket\r\n", "");
        for (request, answer) in [(UPGRADE, &other), (UPGRADE, &none), (GET, &SWITCHED.to_owned())] {
            let mut client = edge.client().await;
            say(&mut client, request).await;
            let mut upstream = edge.accept().await;
            head_of(&mut upstream).await;
            say(&mut upstream, answer).await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 502 "), "{answer}");
            assert_eq!(rest(&mut upstream).await, "");
        }
        edge.counted(RequestOutcome::Invalid, 3).await;
    });
}

#[test]
fn a_tunnel_without_traffic_ends() {
    let tunnel_idle = config::Span::millis(200);
    let setting =
        Setting { limits: config::LimitsConfig { tunnel_idle, ..Default::default() }, ..Setting::default() };
    on_both(&setting, async |edge| {
        let (mut client, mut upstream) = switched(&edge).await;
        assert_eq!((rest(&mut client).await, rest(&mut upstream).await), (String::new(), String::new()));
        edge.counted(RequestOutcome::TunnelIdle, 1).await;
    });
}

/// Has `client` talk until the tunnel has ended, of which `upstream` is the other side.
pub(super) async fn talk_until_ended(client: &mut TcpStream, upstream: &mut (impl AsyncRead + Unpin)) {
    let talking = async {
        while client.write_all(b"x").await.is_ok() && client.try_read(&mut [0]).is_err() {
            few_turns().await;
        }
    };
    let _ = tokio::join!(talking, rest(upstream));
}

#[test]
fn an_instance_that_ends_closes_its_tunnels() {
    let tunnel_idle = config::Span::secs(1);
    let setting =
        Setting { limits: config::LimitsConfig { tunnel_idle, ..Default::default() }, ..Setting::default() };
    on_both(&setting, async |edge| {
        let (mut client, mut upstream) = switched(&edge).await;
        edge.phase.send_replace(Phase::Leaving);
        // Traffic does not keep it open.
        talk_until_ended(&mut client, &mut upstream).await;
        edge.counted(RequestOutcome::Forward, 1).await;
    });
}

#[test]
fn a_side_that_is_gone_ends_the_other() {
    on_both(&Setting::default(), async |edge| {
        let (client, mut upstream) = switched(&edge).await;
        reset(client);
        assert_eq!(rest(&mut upstream).await, "");
        edge.counted(RequestOutcome::ClientGone, 1).await;
        let (mut client, upstream) = switched(&edge).await;
        reset(upstream);
        assert_eq!(rest(&mut client).await, "");
        edge.counted_all(RequestOutcome::Truncated, 1, 2).await;
    });
}

/// A client of HTTP/2 that has asked for a WebSocket (RFC 8441 §5).
pub(super) async fn asked(
    edge: &Edge,
) -> impl Future<Output = hyper::Result<Response<hyper::body::Incoming>>> + use<> {
    let (mut sender, connection) = http2::handshake(Local, TokioIo::new(edge.client().await)).await.unwrap();
    tokio::task::spawn_local(connection);
    let request = || {
        let request =
            Request::connect("https://shop.example/chat").extension(Protocol::from_static("websocket"));
        request.header("sec-websocket-version", "13").body(Empty::<Bytes>::new()).unwrap()
    };
    // Until the settings have come, it must not ask (RFC 8441 §3).
    few_turns().await;
    let answer = sender.send_request(request());
    async move {
        let answer = answer.await;
        drop(sender);
        answer
    }
}

/// The answer to the handshake in `head`.
fn accepting(head: &str) -> String {
    let key = head.split("sec-websocket-key: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    SWITCHED.replace(": a\r\n", &format!(": {}\r\n", websocket_accept::websocket_accept(key.as_bytes())))
}

#[test]
fn a_websocket_over_http_2_is_one_over_http_1_1_upstream() {
    let kept = Kept::default();
    let lines = Lines::start(kept.clone()).unwrap();
    let access_log = AccessLog::start(lines.clone(), config::LogFormat::Text);
    let setting = Setting { version: ServedVersion::Http2, access_log, ..Setting::default() };
    on_both(&setting, async |edge| {
        let answer = tokio::task::spawn_local(asked(&edge).await);
        let mut upstream = edge.accept().await;
        let head = head_of(&mut upstream).await;
        assert!(
            head.starts_with("GET /chat HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("sec-websocket-version: 13\r\n"),
            "{head}"
        );
        say(&mut upstream, &accepting(&head)).await;
        let response = answer.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut client = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        say(&mut client, "ping").await;
        exactly(&mut upstream, "ping").await;
        say(&mut upstream, "pong").await;
        exactly(&mut client, "pong").await;
        assert_eq!(edge.metrics.tunnels.get(), 1);
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut upstream).await, "");
        drop(upstream);
        assert_eq!(rest(&mut client).await, "");
        edge.counted(RequestOutcome::Forward, 1).await;
        lines.flush(Duration::from_secs(10));
        assert!(kept.text().contains("HTTP/2.0\" 200 forwarded"), "{}", kept.text());
    });
}

#[test]
fn a_websocket_over_http_2_that_the_upstream_does_not_agree_to_is_refused() {
    let setting = Setting { version: ServedVersion::Http2, ..Setting::default() };
    on_both(&setting, async |edge| {
        let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        // With success, or with a proof that is not one, the client would take for a switch what is none.
        let ok_with_upgrade = OK.replace("OK\r\n", "OK\r\nUpgrade: websocket\r\n");
        for (answer, status) in [(refusal, 403), (OK, 502), (&ok_with_upgrade, 502), (SWITCHED, 502)] {
            let asked = tokio::task::spawn_local(asked(&edge).await);
            let mut upstream = edge.accept().await;
            head_of(&mut upstream).await;
            say(&mut upstream, answer).await;
            assert_eq!(asked.await.unwrap().unwrap().status(), status, "{answer}");
        }
        assert_eq!(edge.metrics.requests.count(RequestOutcome::Invalid), 3);
    });
}
