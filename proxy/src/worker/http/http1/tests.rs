//! A client that writes bytes by hand against one connection of a worker, on both back ends.

use std::{future::poll_fn, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    config::LimitsConfig,
    forward::{Answer, own_response},
    transport::Transport,
    worker::http::{
        Version as Served,
        tests::{Serving, on_both, rest, serving},
    },
};

on_both! {
    requests_sent_together_are_answered_in_order,
    a_client_that_waits_before_its_body_is_told_to_go_on,
    a_client_that_waits_and_is_refused_sends_no_body,
    bodies_end_where_they_say_and_the_next_request_begins_there,
    an_answer_that_comes_early_arrives_although_the_client_still_sends,
    what_is_no_request_is_answered_by_what_is_wrong_with_it,
    http_1_0_keeps_a_connection_only_on_request,
    an_answer_to_head_has_no_body,
    a_client_that_leaves_gives_its_request_up,
    a_client_is_read_no_further_than_somebody_takes,
}

async fn requests_sent_together_are_answered_in_order<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    client
        .write_all(
            b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\nConnection: close\r\n\r\n",
        )
        .await
        .unwrap();
    let answers = rest(&mut client).await;
    let order: Vec<_> =
        ["GET /a 0", "GET /b 0", "GET /c 0"].iter().map(|answer| answers.find(answer)).collect();
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    assert_eq!(answers.matches("\r\ndate: ").count(), 3, "{answers}");
}

async fn a_client_that_waits_before_its_body_is_told_to_go_on<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    let head = b"PUT /a HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head).await.unwrap();
    exactly(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"body").await.unwrap();
    assert!(answer(&mut client).await.ends_with("PUT /a 4"));
    // A client that does not wait is not told.
    client.write_all(&[&head[..], b"body"].concat()).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
}

async fn a_client_that_waits_and_is_refused_sends_no_body<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    client
        .write_all(b"PUT /refuse HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}

async fn bodies_end_where_they_say_and_the_next_request_begins_there<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    for (fields, body) in [
        ("Content-Length: 5", "hello"),
        ("Transfer-Encoding: chunked", "2;x\r\nhe\r\n3\r\nllo\r\n0\r\nHost: trailer\r\n\r\n"),
    ] {
        client.write_all(format!("POST /a HTTP/1.1\r\n{fields}\r\n\r\n{body}").as_bytes()).await.unwrap();
        assert!(answer(&mut client).await.ends_with("POST /a 5"), "{fields}");
        // A body that nobody reads, and that is there already, costs no connection.
        client
            .write_all(format!("POST /refuse HTTP/1.1\r\n{fields}\r\n\r\n{body}").as_bytes())
            .await
            .unwrap();
        let refused = answer(&mut client).await;
        assert!(!refused.contains("connection: close"), "{refused}");
    }
}

async fn an_answer_that_comes_early_arrives_although_the_client_still_sends<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    client.write_all(b"POST /refuse HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
    let (mut reading, mut writing) = client.split();
    let sending = async {
        // Until the proxy has read enough, or has closed.
        while writing.write_all(&[b'x'; 1000]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut answer = [0; 15];
    let (_, read) = tokio::join!(tokio::time::timeout(PATIENCE, sending), reading.read_exact(&mut answer));
    read.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

async fn what_is_no_request_is_answered_by_what_is_wrong_with_it<T: Transport>(transport: T) {
    let long = "x".repeat(40_000);
    for (request, status) in [
        ("\u{1}\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n".to_owned(), 400),
        (format!("GET /{long}"), 414),
        (format!("GET / HTTP/1.1\r\nA: {long}"), 431),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(200)), 431),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), 505),
    ] {
        let edge = Edge::new(&transport);
        let mut client = edge.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.40}: {answer}");
        assert!(answer.contains("connection: close") && answer.contains("content-length: 0"), "{answer}");
        // It is counted when the connection has ended, of which the client may hear before.
        while edge.serving.metrics.unparsed.get() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn http_1_0_keeps_a_connection_only_on_request<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    client.write_all(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
    assert!(answer(&mut client).await.contains("connection: keep-alive\r\n"));
    client.write_all(b"GET /b HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(rest(&mut client).await.contains("connection: close\r\n"));
}

async fn an_answer_to_head_has_no_body<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    client.write_all(b"HEAD /a HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
}

async fn a_client_that_leaves_gives_its_request_up<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    client.write_all(b"GET /never HTTP/1.1\r\n\r\n").await.unwrap();
    edge.asked.notified().await;
    client.set_zero_linger().unwrap();
    drop(client);
    tokio::time::timeout(PATIENCE, edge.given_up.notified()).await.expect("the request goes on");
}

async fn a_client_is_read_no_further_than_somebody_takes<T: Transport>(transport: T) {
    let edge = Edge::new(&transport);
    let mut client = edge.connect().await;
    client.write_all(b"POST /never HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    edge.asked.notified().await;
    let sending = async {
        for sent in 0..1000 {
            if client.write_all(&vec![b'x'; 1 << 20]).await.is_err() {
                return sent;
            }
        }
        1000
    };
    let stuck = tokio::time::timeout(Duration::from_millis(500), sending).await;
    assert!(stuck.is_err(), "{stuck:?} MiB of a body that nobody reads were taken");
}

/// A listener that answers with method, path and length of the body that was read; `/refuse` reads none, `/never` does not answer.
struct Edge {
    serving: Serving,
    asked: Rc<tokio::sync::Notify>,
    given_up: Rc<tokio::sync::Notify>,
}

impl Edge {
    fn new<T: Transport>(transport: &T) -> Self {
        let (asked, given_up) = (Rc::<tokio::sync::Notify>::default(), Rc::<tokio::sync::Notify>::default());
        let (tell_asked, tell_ended) = (Rc::clone(&asked), Rc::clone(&given_up));
        let answer = move |head, body| respond(head, body, Rc::clone(&tell_asked), Rc::clone(&tell_ended));
        let serving = serving(transport, Served::Http1, LimitsConfig::default(), answer);
        Self { serving, asked, given_up }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.serving.address).await.unwrap()
    }
}

async fn respond(
    head: Box<RequestParts>,
    mut body: RequestBody,
    asked: Rc<tokio::sync::Notify>,
    given_up: Rc<tokio::sync::Notify>,
) -> Answer {
    let path = head.uri.path();
    if path == "/never" {
        let _told = NotifyOnDrop(given_up);
        asked.notify_one();
        std::future::pending::<()>().await;
    }
    let mut length = 0;
    while path != "/refuse"
        && let Some(Ok(data)) = poll_fn(|cx| body.poll_data(cx)).await
    {
        length += data.len();
    }
    let text = format!("{} {path} {length}", head.method);
    own_response(StatusCode::OK, text.into(), &[])
}

struct NotifyOnDrop(Rc<tokio::sync::Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// One response with its body, whose length is in its header section.
async fn answer(client: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(tokio::time::timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap().into());
    }
    let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).await.unwrap();
    text + std::str::from_utf8(&body).unwrap()
}

async fn exactly(client: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

const PATIENCE: Duration = Duration::from_secs(10);
