//! Upstreams that speak HTTP/2, and gRPC over them. hyper plays them.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming},
    client::conn::http2 as client,
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};

use super::{tls::tls_upstream, *};

type AnyBody = UnsyncBoxBody<Bytes, io::Error>;
type Answering = Pin<Box<dyn Future<Output = Response<AnyBody>>>>;

/// A body whose messages come one at a time.
pub(super) struct Messages(pub(super) mpsc::Receiver<io::Result<Bytes>>);

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|message| message.map(|message| message.map(Frame::data)))
    }
}

pub(super) fn over_http2() -> Setting {
    Setting { parameters: ";protocol=h2", ..Setting::default() }
}

/// Answers all requests on the next connection by `answer`, in a task.
pub(super) async fn serve<F: Future<Output = Response<AnyBody>> + 'static>(
    edge: &Edge,
    answer: impl Fn(Request<Incoming>) -> F + 'static,
) -> Serving {
    serve_over(edge.accept().await, &server::Builder::new(Local), answer)
}

/// The same over `stream`, as `builder` says.
pub(super) fn serve_over<F: Future<Output = Response<AnyBody>> + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    builder: &server::Builder<Local>,
    answer: impl Fn(Request<Incoming>) -> F + 'static,
) -> Serving {
    let (stream, builder) = (TokioIo::new(stream), builder.clone());
    let (end, ended) = oneshot::channel();
    let task = tokio::task::spawn_local(async move {
        let answer = Rc::new(answer);
        let service = service_fn(move |request| {
            let answer = Rc::clone(&answer);
            async move { Ok::<_, Infallible>(answer(request).await) }
        });
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = ended => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    });
    Serving { end, task }
}

/// A connection that is served.
pub(super) struct Serving {
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Breaks the connection off.
    pub(super) fn abort(self) {
        self.task.abort();
    }

    /// Ends the connection (RFC 9113 §6.8), and waits until the proxy has seen it.
    async fn end(self) {
        self.end.send(()).unwrap();
        self.task.await.unwrap();
        few_turns().await;
    }
}

pub(super) fn whole(text: &str) -> AnyBody {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

async fn get(client: &mut TcpStream) -> String {
    say(client, GET).await;
    head_of(client).await
}

#[test]
fn requests_to_an_http_2_upstream_share_a_connection() {
    on_both(&over_http2(), async |edge| {
        let mut clients = [edge.client().await, edge.client().await];
        for client in &mut clients {
            say(client, "GET /a?b HTTP/1.1\r\nHost: shop.example\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n")
                .await;
        }
        let together = Rc::new(tokio::sync::Barrier::new(2));
        let upstream = edge.upstream.local_addr().unwrap();
        let _serving = serve(&edge, move |request| {
            let together = Rc::clone(&together);
            async move {
                // Neither is answered before both are there.
                together.wait().await;
                assert_eq!(request.version(), Version::HTTP_2);
                assert_eq!(request.uri().to_string(), format!("http://{upstream}/a?b"));
                let fields = request.headers();
                let of_one_connection = ["connection", "x-hop", "host", "transfer-encoding"];
                assert!(of_one_connection.iter().all(|name| !fields.contains_key(*name)), "{fields:?}");
                assert_eq!(
                    (&fields["te"], &fields["user-custom-domain"]),
                    (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("shop.example"))
                );
                Response::new(whole("ok"))
            }
        })
        .await;
        for client in &mut clients {
            let head = head_of(client).await;
            assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 2\r\n"), "{head}");
            exactly(client, "ok").await;
        }
        edge.counted(RequestOutcome::Forward, 2).await;
        let connections = &edge.metrics.connections;
        assert_eq!(connections.count(ConnectionOrigin::Open), 1);
        assert_eq!(connections.count(ConnectionOrigin::Reuse), 1);
    });
}

#[test]
fn a_body_reaches_an_http_2_upstream_whole_with_its_length_or_without() {
    on_both(&over_http2(), async |edge| {
        let mut client = edge.client().await;
        let sending = async {
            let head = "POST / HTTP/1.1\r\nHost: shop.example\r\n";
            say(&mut client, &format!("{head}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")).await;
            assert_eq!(head_of(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
            say(&mut client, "four").await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
            exactly(&mut client, "4, four").await;
            say(&mut client, &format!("{head}Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")).await;
            say(&mut client, "4\r\nfour\r\n0\r\nX-Sum: 9\r\n\r\n").await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
            exactly(&mut client, "-, four9").await;
        };
        let serving = serve(&edge, |request: Request<Incoming>| async {
            let length =
                request.headers().get("content-length").map_or("-", |length| length.to_str().unwrap());
            let length = length.to_owned();
            assert!(!request.headers().contains_key("expect"));
            let body = request.into_body().collect().await.unwrap();
            let sum = body.trailers().map_or("", |trailers| trailers["x-sum"].to_str().unwrap()).to_owned();
            let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            Response::new(whole(&format!("{length}, {text}{sum}")))
        });
        let ((), _end) = tokio::join!(sending, serving);
        edge.counted(RequestOutcome::Forward, 2).await;
    });
}

#[test]
fn a_base_path_comes_before_each_requests_own_over_http2_too() {
    let setting = Setting { parameters: "/app;protocol=h2", ..Setting::default() };
    on_both(&setting, async |edge| {
        let asking = async {
            let mut client = edge.client().await;
            say(&mut client, GET).await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
            exactly(&mut client, "/app/a?b").await;
        };
        let serving = serve(&edge, |request: Request<Incoming>| async move {
            Response::new(whole(request.uri().path_and_query().unwrap().as_str()))
        });
        let ((), _end) = tokio::join!(asking, serving);
    });
}

/// A client of HTTP/2, and the body of the call it has begun.
pub(super) async fn call(
    edge: &Edge,
    path: &str,
) -> (
    client::SendRequest<Messages>,
    mpsc::Sender<io::Result<Bytes>>,
    impl Future<Output = hyper::Result<Response<Incoming>>> + use<>,
) {
    call_over(edge.client().await, path).await
}

/// The same over `stream`.
async fn call_over<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    path: &str,
) -> (
    client::SendRequest<Messages>,
    mpsc::Sender<io::Result<Bytes>>,
    impl Future<Output = hyper::Result<Response<Incoming>>> + use<S>,
) {
    let (mut sender, connection) = client::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    let (messages, body) = mpsc::channel(1);
    let request = Request::post(format!("https://shop.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let answer = sender.send_request(request.body(Messages(body)).unwrap());
    (sender, messages, answer)
}

async fn message(body: &mut Incoming) -> String {
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    String::from_utf8(data.to_vec()).unwrap()
}

#[test]
fn a_call_streams_both_ways_and_ends_with_trailers() {
    let setting = Setting { version: ServedVersion::Http2, ..over_http2() };
    on_both(&setting, async |edge| {
        let (_sender, messages, answer) = call(&edge, "/service/Method").await;
        // Answers before anything of the body is there, and each message as it comes.
        let serving = serve(&edge, |request| async {
            assert_eq!(request.headers()["te"], "trailers");
            let echo = request.into_body().map_err(io::Error::other);
            let mut status = HeaderMap::new();
            status.insert("grpc-status", HeaderValue::from_static("0"));
            let body = echo.with_trailers(async { Some(Ok(status)) });
            Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync()).unwrap()
        });
        let (_end, response) = tokio::join!(serving, answer);
        let mut body = response.unwrap().into_body();
        for text in ["one", "two"] {
            messages.send(Ok(Bytes::from(text))).await.unwrap();
            assert_eq!(message(&mut body).await, text);
        }
        drop(messages);
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        edge.counted(RequestOutcome::Forward, 1).await;
    });
}

#[test]
fn a_client_that_leaves_ends_its_own_call_alone() {
    let setting = Setting { version: ServedVersion::Http2, ..over_http2() };
    on_both(&setting, async |edge| {
        let (_sender, messages, answer) = call(&edge, "/").await;
        let (left, has_left) = oneshot::channel();
        let (_never, silent) = mpsc::channel(1);
        let once = Rc::new((Cell::new(Some(left)), Cell::new(Some(Messages(silent)))));
        let serving = serve(&edge, move |request| {
            let once = Rc::clone(&once);
            async move {
                if request.method() == "POST" {
                    let (left, silent) = (once.0.take().unwrap(), &once.1);
                    tokio::task::spawn_local(async move {
                        let mut body = request.into_body();
                        while let Some(Ok(_)) = body.frame().await {}
                        left.send(()).unwrap();
                    });
                    return Response::new(silent.take().unwrap().boxed_unsync());
                }
                Response::new(whole("ok"))
            }
        });
        let (_end, response) = tokio::join!(serving, answer);
        let (mut other, connection) =
            client::handshake(Local, TokioIo::new(edge.client().await)).await.unwrap();
        tokio::task::spawn_local(connection);
        drop(response);
        messages.send(Err(io::Error::other("cancelled"))).await.unwrap();
        has_left.await.unwrap();
        let request = Request::get("https://shop.example/").body(Empty::<Bytes>::new()).unwrap();
        let body = other.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
        edge.counted_all(RequestOutcome::ClientGone, 1, 2).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1, "the connection is the same");
    });
}

#[test]
fn requests_over_http_2_are_bounded_as_others_are() {
    let setting = Setting { parameters: ";protocol=h2;max_requests=1", ..Setting::default() };
    on_both(&setting, async |edge| {
        let (mut first, mut second) = (edge.client().await, edge.client().await);
        say(&mut first, GET).await;
        let (sender, messages) = mpsc::channel(1);
        let once = Rc::new(Cell::new(Some(Messages(messages))));
        let _serving = serve(&edge, move |_| {
            let messages = once.take();
            async { Response::new(messages.map_or_else(|| whole("ok"), BodyExt::boxed_unsync)) }
        })
        .await;
        assert!(head_of(&mut first).await.starts_with("HTTP/1.1 200 "));
        say(&mut second, GET).await;
        edge.waiting(1).await;
        drop(sender);
        exactly(&mut first, "0\r\n\r\n").await;
        assert!(head_of(&mut second).await.starts_with("HTTP/1.1 200 "));
        exactly(&mut second, "ok").await;
        edge.counted(RequestOutcome::Forward, 2).await;
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
    });
}

#[test]
fn a_connection_that_has_ended_is_replaced_whatever_the_request() {
    on_both(&over_http2(), async |edge| {
        let mut client = edge.client().await;
        for _ in 0..2 {
            say(&mut client, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nfour").await;
            let serving = serve(&edge, |request| async {
                assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "four");
                Response::new(whole("ok"))
            })
            .await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
            exactly(&mut client, "ok").await;
            serving.end().await;
        }
        edge.counted(RequestOutcome::Forward, 2).await;
    });
}

#[test]
fn a_stream_that_the_upstream_resets_is_no_response() {
    on_both(&over_http2(), async |edge| {
        let mut client = edge.client().await;
        let (sender, messages) = mpsc::channel(1);
        let once = Rc::new(Cell::new(Some(Messages(messages))));
        let serving = serve(&edge, move |_| {
            let messages = once.take().unwrap();
            async { Response::new(messages.boxed_unsync()) }
        });
        let (head, _end) = tokio::join!(get(&mut client), serving);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        sender.send(Ok(Bytes::from("half"))).await.unwrap();
        exactly(&mut client, "4\r\nhalf\r\n").await;
        sender.send(Err(io::Error::other("broken"))).await.unwrap();
        assert_eq!(rest(&mut client).await, "", "it must be seen to be incomplete");
        edge.counted(RequestOutcome::Truncated, 1).await;
    });
}

#[test]
fn an_upstream_that_speaks_another_protocol_is_told_from_one_that_is_down() {
    on_both(&over_http2(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, GET).await;
        let mut upstream = edge.accept().await;
        say(&mut upstream, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 502 "));
        edge.counted(RequestOutcome::Closed, 1).await;
    });
}

#[test]
fn over_tls_http_2_is_what_alpn_has_chosen() {
    for (protocols, status, outcome) in [
        (&[&b"h2"[..]][..], "200", RequestOutcome::Forward),
        (&[][..], "502", RequestOutcome::Invalid),
        (&[&b"http/1.1"[..]][..], "502", RequestOutcome::Untrusted),
    ] {
        let (roots, server) = tls_upstream(protocols);
        let setting =
            Setting { origin: "https://127.0.0.1", roots: Some(roots.path().to_owned()), ..over_http2() };
        let acceptor = tokio_rustls::TlsAcceptor::from(server);
        on_both(&setting, async |edge| {
            let mut client = edge.client().await;
            let acceptor = acceptor.clone();
            let serving = async {
                let Ok(stream) = acceptor.accept(edge.accept().await).await else { return };
                let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(whole("ok"))));
                let _ = server::Builder::new(Local).serve_connection(TokioIo::new(stream), service).await;
            };
            let head = tokio::select! {
                head = get(&mut client) => head,
                head = async { serving.await; std::future::pending().await } => head,
            };
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            edge.counted_all(outcome, 1, 1).await;
        });
    }
}

#[test]
fn a_client_that_does_not_read_stops_its_own_response_alone() {
    on_both(&over_http2(), async |edge| {
        let mut clients = [edge.client().await, edge.client().await];
        let [stopped, other] = &mut clients;
        let large = Bytes::from(vec![b'x'; 32 << 20]);
        let serving = serve(&edge, move |request| {
            let large = large.clone();
            async move {
                let is_large = request.uri().path() == "/large";
                let body = if is_large { Full::new(large) } else { Full::new(Bytes::from("ok")) };
                Response::new(body.map_err(|never| match never {}).boxed_unsync())
            }
        });
        say(stopped, "GET /large HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        let (head, _end) = tokio::join!(head_of(stopped), serving);
        assert!(head.contains("content-length: 33554432\r\n"), "{head}");
        for _ in 0..3 {
            assert!(get(other).await.starts_with("HTTP/1.1 200 "));
            exactly(other, "ok").await;
        }
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
        edge.counted(RequestOutcome::Forward, 3).await;
    });
}

/// How an upstream answers that takes one request at once on a connection: `/wait` once it is released, all else at once.
pub(super) fn one_at_a_time()
-> (server::Builder<Local>, watch::Sender<bool>, impl Fn(Request<Incoming>) -> Answering + Clone) {
    let mut builder = server::Builder::new(Local);
    builder.max_concurrent_streams(1);
    let (release, released) = watch::channel(false);
    let answer = move |request: Request<Incoming>| {
        let mut released = released.clone();
        let answered = async move {
            assert_eq!(request.method(), "GET");
            if request.uri().path() == "/wait" {
                released.wait_for(|released| *released).await.unwrap();
            }
            Response::new(whole("ok"))
        };
        Box::pin(answered) as Answering
    };
    (builder, release, answer)
}

#[test]
fn more_requests_than_a_connection_takes_get_another() {
    on_both(&over_http2(), async |edge| {
        let (builder, release, answer) = one_at_a_time();
        let (mut waiting, mut other) = (edge.client().await, edge.client().await);
        // The first response comes behind the settings: from then on it is known how many requests there may be.
        let serving = async { serve_over(edge.accept().await, &builder, answer.clone()) };
        let (head, _first) = tokio::join!(get(&mut other), serving);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        exactly(&mut other, "ok").await;
        say(&mut waiting, "GET /wait HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        few_turns().await;
        let serving = async { serve_over(edge.accept().await, &builder, answer.clone()) };
        let (head, _second) = tokio::join!(get(&mut other), serving);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        release.send_replace(true);
        assert!(head_of(&mut waiting).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 2);
    });
}

#[test]
fn nobody_waits_for_the_rest_of_a_request_that_the_upstream_has_answered() {
    for version in [ServedVersion::Http1, ServedVersion::Http2] {
        let setting = Setting { version, ..over_http2() };
        on_both(&setting, async |edge| {
            let (ended, has_ended) = oneshot::channel();
            let once = Rc::new(Cell::new(Some(ended)));
            let serving = serve(&edge, move |request| {
                let ended = once.take().unwrap();
                async move {
                    tokio::task::spawn_local(async move {
                        let mut body = request.into_body();
                        while let Some(Ok(_)) = body.frame().await {}
                        ended.send(()).unwrap();
                    });
                    // Until all that there is of the body has come, and its sender waits.
                    few_turns().await;
                    Response::new(whole("refused"))
                }
            });
            // Neither client sends what is left of its body, or ends its connection.
            if version == ServedVersion::Http1 {
                let mut client = edge.client().await;
                say(&mut client, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9\r\n\r\nhalf")
                    .await;
                let (_serving, head) = tokio::join!(serving, head_of(&mut client));
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                exactly(&mut client, "refused").await;
                has_ended.await.unwrap();
            } else {
                let (_sender, messages, answer) = call(&edge, "/").await;
                let (_serving, response) = tokio::join!(serving, answer);
                assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), "refused");
                has_ended.await.unwrap();
                drop(messages);
            }
            edge.counted(RequestOutcome::Forward, 1).await;
        });
    }
}

#[test]
fn a_silent_call_lives_as_long_as_a_silent_tunnel() {
    let setting = Setting { version: ServedVersion::Http2, ..over_http2() };
    limits::paused(&setting, async |mut edge| {
        let (_sender, _messages, answer) = call_over(edge.client(), "/").await;
        let (_never, silent) = mpsc::channel(1);
        let once = Rc::new(Cell::new(Some(Messages(silent))));
        let _serving = serve_over(edge.upstream.accept().await, &server::Builder::new(Local), move |_| {
            let body = once.take().unwrap().boxed_unsync();
            async { Response::builder().header("content-type", "application/grpc+proto").body(body).unwrap() }
        });
        let mut body = answer.await.unwrap().into_body();
        let began = tokio::time::Instant::now();
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(began.elapsed(), *config::LimitsConfig::default().tunnel_idle);
    });
}

/// Most servers send the header section with the first message, which may be long in coming.
#[test]
fn a_call_whose_first_message_is_late_is_waited_for() {
    let setting = Setting { version: ServedVersion::Http2, ..over_http2() };
    limits::paused(&setting, async |mut edge| {
        let (_sender, messages, answer) = call_over(edge.client(), "/").await;
        drop(messages);
        let _serving = serve_over(edge.upstream.accept().await, &server::Builder::new(Local), |_| async {
            tokio::time::sleep(Duration::from_mins(4)).await;
            Response::builder().header("content-type", "application/grpc").body(whole("late")).unwrap()
        });
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "late");
    });
}

/// gRPC's servers end the connection of a client that pings more often than each five minutes.
#[test]
fn an_upstream_that_is_silent_within_a_call_is_pinged_no_more_than_grpc_permits() {
    let setting = Setting { version: ServedVersion::Http2, ..over_http2() };
    limits::paused(&setting, async |mut edge| {
        let (_sender, _messages, answer) = call_over(edge.client(), "/").await;
        tokio::task::spawn_local(answer);
        let mut upstream = edge.upstream.accept().await;
        // RFC 9113 §3.4, and SETTINGS of our own that are empty.
        upstream.read_exact(&mut [0; 24]).await.unwrap();
        upstream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let began = tokio::time::Instant::now();
        loop {
            let mut head = [0; 9];
            upstream.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            upstream.read_exact(&mut vec![0; length]).await.unwrap();
            // RFC 9113 §6.7.
            if head[3] == 6 {
                break;
            }
        }
        assert!(began.elapsed() > Duration::from_mins(5), "{:?}", began.elapsed());
    });
}

/// RFC 9113 §5.4.2: a stream's fault is its own.
#[test]
fn a_request_that_is_cancelled_or_refused_ends_no_other_of_its_connection() {
    let setting = Setting { version: ServedVersion::Http2, ..Setting::default() };
    on_both(&setting, async |edge| {
        let (mut sender, messages, answer) = call(&edge, "/").await;
        let cancelled = tokio::task::spawn_local(answer);
        few_turns().await;
        cancelled.abort();
        drop(messages);
        let shadowed = Request::get("https://shop.example/").header("content_length", "3");
        let (_messages, body) = mpsc::channel(1);
        let refused = sender.send_request(shadowed.body(Messages(body)).unwrap()).await.unwrap();
        assert_eq!(refused.status(), 400);
        // Its end comes behind its header section, in a DATA frame without data.
        let (ended, body) = mpsc::channel(1);
        drop(ended);
        let answer = sender.send_request(Request::get("https://shop.example/").body(Messages(body)).unwrap());
        let upstream = async {
            let mut upstream = edge.accept().await;
            let head = head_of(&mut upstream).await;
            say(&mut upstream, OK).await;
            (upstream, head)
        };
        let (answer, (_upstream, head)) = tokio::join!(answer, upstream);
        assert_eq!(answer.unwrap().status(), 200);
        assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    });
}

#[test]
fn the_clients_host_is_the_authority_where_the_settings_say_so() {
    let upstream = config::UpstreamConfig { host: config::UpstreamHost::Client, ..Default::default() };
    let setting = Setting { upstream, ..over_http2() };
    on_both(&setting, async |edge| {
        let mut client = edge.client().await;
        let serving = serve(&edge, |request: Request<Incoming>| async move {
            Response::new(whole(&request.uri().to_string()))
        });
        let (head, _serving) = tokio::join!(get(&mut client), serving);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        exactly(&mut client, "http://shop.example/a?b").await;
    });
}

#[test]
fn no_other_protocol_is_offered_over_http_2() {
    on_both(&over_http2(), async |edge| {
        let mut client = edge.client().await;
        let offer = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
        say(&mut client, &format!("GET /chat HTTP/1.1\r\nHost: shop.example\r\n{offer}\r\n")).await;
        let serving = serve(&edge, |request: Request<Incoming>| async move {
            assert!(!request.headers().contains_key("upgrade"), "{request:?}");
            Response::new(whole("ok"))
        });
        // RFC 9110 §7.8: an offer may be ignored.
        let (head, _serving) = tokio::join!(head_of(&mut client), serving);
        assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("upgrade"), "{head}");
        exactly(&mut client, "ok").await;
        edge.counted(RequestOutcome::Forward, 1).await;
    });
}
