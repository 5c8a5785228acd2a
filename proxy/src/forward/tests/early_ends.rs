//! Requests and responses that end before, or behind, what is usual: by their clients, or by frames of their own.

use std::{cell::Cell, future, io};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http2 as server};
use tokio::sync::{mpsc, oneshot};

use super::{
    http2_upstreams::{Messages, call, over_http2, serve, serve_over},
    *,
};

const HEAD: &str = "POST / HTTP/1.1\r\nHost: shop.example\r\n";

/// hyper itself does not look for that while the body waits for the window of its stream.
#[test]
fn an_upload_that_nobody_reads_ends_with_its_client() {
    let setting = Setting { version: ServedVersion::Http2, ..over_http2() };
    on_both(&setting, async |edge| {
        let (_sender, sent, answer) = call(&edge, "/").await;
        let (messages, body) = mpsc::channel::<io::Result<Bytes>>(1);
        let unread = Rc::new(Cell::new(None));
        let once = Rc::new((Cell::new(Some(Messages(body))), Rc::clone(&unread)));
        let mut narrow = server::Builder::new(Local);
        narrow.initial_stream_window_size(10);
        let serving = async {
            serve_over(edge.accept().await, &narrow, move |request: Request<Incoming>| {
                once.1.set(Some(request));
                let body = once.0.take().unwrap();
                async { Response::new(body.boxed_unsync()) }
            })
        };
        let (_serving, response) = tokio::join!(serving, answer);
        // The first part is taken, window or no window; the second waits for it.
        for _ in 0..2 {
            sent.send(Ok(Bytes::from("x".repeat(100)))).await.unwrap();
            few_turns().await;
        }
        drop(response);
        sent.send(Err(io::Error::other("cancelled"))).await.unwrap();
        messages.closed().await;
        drop(unread);
        edge.counted(RequestOutcome::ClientGone, 1).await;
    });
}

/// Where another task has read the body.
#[test]
fn a_client_that_is_gone_behind_its_body_ends_its_request_over_http2_too() {
    on_both(&over_http2(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, &format!("{HEAD}Content-Length: 2\r\n\r\n")).await;
        let (read, has_read) = oneshot::channel();
        let (kept, dropped) = oneshot::channel::<()>();
        let once = Rc::new(Cell::new(Some((read, kept))));
        let _serving = serve(&edge, move |request: Request<Incoming>| {
            let (read, kept) = once.take().unwrap();
            async move {
                request.into_body().collect().await.unwrap();
                read.send(()).unwrap();
                let _kept = kept;
                future::pending().await
            }
        })
        .await;
        say(&mut client, "ok").await;
        has_read.await.unwrap();
        few_turns().await;
        reset(client);
        assert!(dropped.await.is_err(), "the stream is reset");
    });
}

/// RFC 9113 §8.1: `END_STREAM` may come in a DATA frame of its own.
#[test]
fn a_response_without_a_body_that_ends_in_a_frame_of_its_own_is_whole() {
    on_both(&over_http2(), async |edge| {
        let serving = serve(&edge, |request: Request<Incoming>| {
            let status = request.uri().path().trim_start_matches('/').parse::<u16>().unwrap();
            // Says that it is over only when it is asked for the next frame.
            let (_, body) = mpsc::channel(1);
            let body = Messages(body).boxed_unsync();
            async move { Response::builder().status(status).body(body).unwrap() }
        });
        let mut client = edge.client().await;
        let asking = async {
            for (count, (method, status)) in (1..).zip([("HEAD", 200), ("GET", 204), ("GET", 304)]) {
                say(&mut client, &format!("{method} /{status} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
                let head = head_of(&mut client).await;
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
                edge.counted(RequestOutcome::Forward, count).await;
            }
        };
        let (_serving, ()) = tokio::join!(serving, asking);
    });
}

#[test]
fn a_request_that_ends_with_its_early_response_ends_no_connection() {
    let upstream = config::UpstreamConfig { idle_per_target: 0, ..Default::default() };
    on_both(&Setting { upstream, ..Setting::default() }, async |edge| {
        let mut client = edge.client().await;
        say(&mut client, &format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        exactly(&mut upstream, "4\r\nhalf\r\n").await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
        head_of(&mut client).await;
        exactly(&mut client, "2\r\nok\r\n").await;
        // In one turn of the worker.
        say(&mut upstream, "0\r\n\r\n").await;
        say(&mut client, "0\r\n\r\n").await;
        exactly(&mut client, "0\r\n\r\n").await;
        say(&mut client, GET).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        answer_ok(&mut upstream, &mut client).await;
    });
}

#[test]
fn a_websocket_goes_to_an_endpoint_that_can_switch() {
    on_both(&Setting::default(), async |edge| {
        let port = edge.upstream.local_addr().unwrap().port();
        let other = std::net::TcpListener::bind(("127.0.0.2", port)).unwrap();
        other.set_nonblocking(true).unwrap();
        let target = format!("http://127.0.0.2:{port};protocol=h2;weight=9, http://127.0.0.1:{port}");
        let address = edge.beside(&Setting::default(), &target);
        for _ in 0..4 {
            let mut client = TcpStream::connect(address).await.unwrap();
            let offer = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
            say(&mut client, &format!("GET /chat HTTP/1.1\r\nHost: shop.example\r\n{offer}\r\n")).await;
            let mut upstream = edge.accept().await;
            assert!(head_of(&mut upstream).await.contains("\r\nupgrade: websocket\r\n"));
        }
        let asked = other.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(asked, Err(io::ErrorKind::WouldBlock));
    });
}

#[test]
fn trace_shows_nothing_and_its_connection_goes_on() {
    on_both(&Setting::default(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, "TRACE / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        let head = head_of(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nallow: GET, "), "{head}");
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        let mut page = vec![0; length.parse().unwrap()];
        client.read_exact(&mut page).await.unwrap();
        say(&mut client, GET).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        answer_ok(&mut upstream, &mut client).await;
    });
}
