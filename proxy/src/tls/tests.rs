//! The bridge against rustls's own client on a blocking socket, and against itself; over both back ends.

mod client;
mod limits;

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use rustls::{AlertDescription, HandshakeKind, version};

use self::client::Authority;
use super::*;
use crate::config::TlsVersion;
use crate::transport::{
    ByteStream, Chunk, SEND_LIMIT, Transport,
    tests::conformance::{
        DEADLINE, KERNEL_BUFFERS, accept, loopback, over_both_back_ends, pattern, recv, unless_stuck,
        within_deadline,
    },
};

over_both_back_ends! {
    both_versions_shake_hands_and_resume
    a_session_does_not_resume_under_another_name
    an_older_version_than_is_served_is_told_by_alert_70
    a_foreign_name_is_told_by_alert_112
    a_refusal_is_one_alert_and_the_end
    a_refused_peer_hears_why_although_it_goes_on_talking
    a_connection_that_says_no_hello_ends_as_what_it_was
    a_validation_is_answered_with_its_certificate_and_protocol
    sixteen_mebibytes_are_echoed
    an_end_is_told_from_a_truncation
    our_end_is_told_by_close_notify
    a_reader_that_stops_stops_the_peer
    a_writer_whose_peer_does_not_read_is_stopped
    garbage_after_the_handshake_is_an_error
    an_upstream_with_another_name_is_refused
    an_idle_connection_holds_no_buffer
    the_beginning_of_a_record_holds_no_buffer
    a_client_that_updates_its_keys_is_followed_and_answered
}

fn both_versions_shake_hands_and_resume<T: Transport>() {
    let authority = Authority::new();
    let config = authority.server("good.example");
    for (version, expected) in [(&version::TLS12, "TLSv1.2"), (&version::TLS13, "TLSv1.3")] {
        let client = authority.client(&[version]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let config = Arc::clone(&config);
            let (tls, ()) = check::<T, _, _, _>(
                client.talk("good.example", |mut stream| {
                    // A TLS 1.3 ticket comes with the first bytes of the server's.
                    stream.read_exact(&mut [0; 5]).unwrap();
                }),
                async move |stream| {
                    let mut tls = shake(stream, config).await.unwrap();
                    write_all(&mut tls, b"hello").await.unwrap();
                    (tls.version(), tls.is_resumed(), tls.is_http2())
                },
            );
            assert_eq!(tls, (expected, kind == HandshakeKind::Resumed, true));
        }
    }
}

fn a_session_does_not_resume_under_another_name<T: Transport>() {
    let authority = Authority::new();
    for version in [&version::TLS12, &version::TLS13] {
        // This client offers whatever session it has to whomever it meets.
        let client = authority.careless_client(&[version]);
        for (name, expected) in [("good.example", false), ("good.example", true), ("other.example", false)] {
            let config = authority.server(name);
            let (is_resumed, ()) = check::<T, _, _, _>(
                client.talk(name, |mut stream| stream.read_exact(&mut [0; 5]).unwrap()),
                async move |stream| {
                    let mut tls = shake(stream, config).await.unwrap();
                    write_all(&mut tls, b"hello").await.unwrap();
                    tls.is_resumed()
                },
            );
            assert_eq!(is_resumed, expected, "{name} by {version:?}");
        }
    }
}

fn an_older_version_than_is_served_is_told_by_alert_70<T: Transport>() {
    let authority = Authority::new();
    for (minimum, version, expected) in [
        (TlsVersion::Tls13, &version::TLS12, Some(HandshakeEnd::Version)),
        (TlsVersion::Tls13, &version::TLS13, None),
        (TlsVersion::Tls12, &version::TLS12, None),
    ] {
        let config = authority.server_from("good.example", minimum);
        let (end, error) = check::<T, _, _, _>(
            authority.client(&[version]).talk("good.example", first_error),
            async move |stream| shake(stream, config).await.err(),
        );
        assert_eq!(end, expected, "{version:?} from {minimum} on");
        let alert = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
        assert_eq!(error, expected.map(|_| alert), "{version:?} from {minimum} on");
    }
}

fn a_foreign_name_is_told_by_alert_112<T: Transport>() {
    let (hello, error) = check::<T, _, _, _>(
        Authority::new().client(rustls::ALL_VERSIONS).talk("foreign.example", first_error),
        async |stream| {
            let (hello, pending) = read_hello(stream, DEADLINE).await.map_err(drop).unwrap();
            pending.refuse(Alert::UnrecognizedName).await;
            hello
        },
    );
    assert_eq!(hello.server_name.unwrap().as_str(), "foreign.example");
    assert_eq!(error, Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)));
}

fn a_refused_peer_hears_why_although_it_goes_on_talking<T: Transport>() {
    let (end, heard) = check::<T, _, _, _>(
        |mut socket| {
            socket.write_all(&[b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![b'x'; 40_000]].concat()).unwrap();
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).map(|_| heard)
        },
        async |stream| read_hello(stream, DEADLINE).await.err(),
    );
    assert_eq!(end, Some(HandshakeEnd::PlainHttp));
    assert!(heard.unwrap().starts_with(b"HTTP/1.1 400"));
}

fn a_refusal_is_one_alert_and_the_end<T: Transport>() {
    let hello = Authority::new().client(rustls::ALL_VERSIONS).hello("foreign.example");
    within_deadline(|transport: T| async move {
        let socket = loopback();
        let address = socket.local_addr().unwrap();
        let mut listener = transport.listen(socket).unwrap();
        let mut peer = transport.connect(address).await.unwrap();
        peer.send(Chunk::copy_of(&hello));
        poll_fn(|cx| Stream::poll_flush(&mut peer, cx)).await.unwrap();
        let (_, pending) = read_hello(accept(&mut listener).await, DEADLINE).await.map_err(drop).unwrap();
        tokio::join!(pending.refuse(Alert::UnrecognizedName), async {
            assert_eq!(&*recv(&mut peer).await.unwrap(), [21, 3, 3, 0, 2, 2, 112]);
            assert!(recv(&mut peer).await.unwrap().is_empty());
            drop(peer);
        });
    });
}

fn a_connection_that_says_no_hello_ends_as_what_it_was<T: Transport>() {
    for (says, then_closes, limit, end, answer) in [
        (&b""[..], true, DEADLINE, HandshakeEnd::Closed, &b""[..]),
        (b"\x16\x03\x01\x02\x00\x01", true, DEADLINE, HandshakeEnd::Closed, b""),
        (
            b"GET / HTTP/1.1\r\n\r\n",
            false,
            DEADLINE,
            HandshakeEnd::PlainHttp,
            b"HTTP/1.1 400 Bad Request\r\n",
        ),
        // RFC 8446 §6: a fatal alert, in a record of version 3.3.
        (b"SSH-2.0", false, DEADLINE, HandshakeEnd::PlainHttp, b"HTTP/1.1 400"),
        (
            b"\x16\x03\x01\x00\x04\x02\0\0\0",
            false,
            DEADLINE,
            HandshakeEnd::Malformed,
            b"\x15\x03\x03\x00\x02\x02",
        ),
        (
            b"\x00\x00\x00\x00\x00\x00\x00",
            false,
            DEADLINE,
            HandshakeEnd::Malformed,
            b"\x15\x03\x03\x00\x02\x02",
        ),
    ] {
        let client = move |mut socket: std::net::TcpStream| {
            socket.write_all(says).unwrap();
            if then_closes {
                socket.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).unwrap();
            heard
        };
        let server = async move |stream| read_hello(stream, limit).await.err();
        let (seen, heard) = check::<T, _, _, _>(client, server);
        assert_eq!(seen, Some(end), "{says:?}");
        assert!(heard.starts_with(answer), "{says:?} is told {heard:?}");
        assert_eq!(heard.is_empty(), answer.is_empty(), "{says:?} is told {heard:?}");
    }
}

fn a_validation_is_answered_with_its_certificate_and_protocol<T: Transport>() {
    let authority = Authority::new();
    let config = authority.answering("good.example");
    let client = authority.client(rustls::ALL_VERSIONS).with_protocols(&["acme-tls/1"]);
    let (hello, protocol) = check::<T, _, _, _>(
        client.talk("good.example", |mut stream| {
            stream.conn.complete_io(&mut stream.sock).unwrap();
            stream.conn.alpn_protocol().map(<[u8]>::to_vec)
        }),
        async move |stream| {
            let (hello, pending) = read_hello(stream, DEADLINE).await.map_err(drop).unwrap();
            pending.accept(config, DEADLINE).await.map_err(drop).unwrap();
            hello
        },
    );
    assert!(hello.acme_challenge);
    assert_eq!(protocol.as_deref(), Some(&b"acme-tls/1"[..]));
}

/// Both ends are bridges here, and each reads and writes at once.
fn sixteen_mebibytes_are_echoed<T: Transport>() {
    const TOTAL: usize = 16 << 20;
    let authority = Authority::new();
    within_deadline(|transport: T| async move {
        let (mut server, mut client) = bridges(&transport, &authority).await.unwrap();
        let echoing = tokio::task::spawn_local(async move {
            loop {
                let bytes = read(&mut server).await.unwrap();
                if bytes.is_empty() {
                    break;
                }
                write_all(&mut server, &bytes).await.unwrap();
            }
            poll_fn(|cx| server.poll_shutdown(cx)).await.unwrap();
        });
        let (sent, mut written, mut received) = (pattern(0, TOTAL), 0, Vec::new());
        poll_fn(|cx| {
            loop {
                let wrote = exchange_step(&mut client, cx, &sent, &mut written)?;
                let before = received.len();
                if let Poll::Ready(bytes) = poll_read(&mut client, cx) {
                    received.extend_from_slice(&bytes?);
                    if received.len() >= TOTAL || received.len() == before {
                        return Poll::Ready(io::Result::Ok(()));
                    }
                } else if !wrote {
                    return Poll::Pending;
                }
            }
        })
        .await
        .unwrap();
        assert!(received == sent, "{} of {TOTAL} bytes", received.len());
        poll_fn(|cx| client.poll_shutdown(cx)).await.unwrap();
        assert!(read(&mut client).await.unwrap().is_empty());
        echoing.await.unwrap();
    });
}

/// Writes and flushes what goes; whether anything did.
fn exchange_step<S: Stream>(
    client: &mut TlsStream<S>,
    cx: &mut std::task::Context<'_>,
    sent: &[u8],
    written: &mut usize,
) -> io::Result<bool> {
    if *written == sent.len() {
        return match client.poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(false),
        };
    }
    match client.poll_write(cx, &[IoSlice::new(&sent[*written..])]) {
        Poll::Ready(count) => {
            *written += count?;
            Ok(true)
        }
        Poll::Pending => Ok(false),
    }
}

fn an_end_is_told_from_a_truncation<T: Transport>() {
    let authority = Authority::new();
    let client = authority.client(rustls::ALL_VERSIONS);
    for (closes, expected) in [(true, Ok(0)), (false, Err(io::ErrorKind::UnexpectedEof))] {
        let config = authority.server("good.example");
        let (end, ()) = check::<T, _, _, _>(
            client.talk("good.example", move |mut stream| {
                stream.write_all(b"hello").unwrap();
                if closes {
                    stream.conn.send_close_notify();
                    stream.conn.complete_io(&mut stream.sock).unwrap();
                }
                stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
                let _ = stream.sock.read_to_end(&mut Vec::new());
            }),
            async move |stream| {
                let mut tls = shake(stream, config).await.unwrap();
                assert_eq!(read(&mut tls).await.unwrap(), b"hello");
                read(&mut tls).await.map(|bytes| bytes.len()).map_err(|error| error.kind())
            },
        );
        assert_eq!(end, expected);
    }
}

fn our_end_is_told_by_close_notify<T: Transport>() {
    let authority = Authority::new();
    let config = authority.server("good.example");
    let ((), heard) = check::<T, _, _, _>(
        authority.client(rustls::ALL_VERSIONS).talk("good.example", |mut stream| {
            // rustls's reader fails on an end without close_notify.
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            heard
        }),
        async move |stream| {
            let mut tls = shake(stream, config).await.unwrap();
            write_all(&mut tls, b"good bye").await.unwrap();
            poll_fn(|cx| tls.poll_shutdown(cx)).await.unwrap();
            // The client's own close_notify may come or not.
            let _ = read(&mut tls).await;
        },
    );
    assert_eq!(heard, b"good bye");
}

fn a_reader_that_stops_stops_the_peer<T: Transport>() {
    let authority = Authority::new();
    within_deadline(|transport: T| async move {
        let (socket, address) = listening();
        let (mut server, mut client) = bridges_over(socket, &transport, &authority).await.unwrap();
        write_until_stuck(&mut client, address).await;
        assert_eq!(read(&mut server).await.unwrap()[..3], pattern(0, 3));
        let buffers = Chunk::lent();
        assert!(buffers <= 2 * SEND_LIMIT / Chunk::SIZE + 8, "{buffers} buffers, all but a few the client's");
    });
}

fn a_writer_whose_peer_does_not_read_is_stopped<T: Transport>() {
    let authority = Authority::new();
    within_deadline(|transport: T| async move {
        let (socket, address) = listening();
        let (mut server, client) = bridges_over(socket, &transport, &authority).await.unwrap();
        write_until_stuck(&mut server, address).await;
        assert!(Chunk::lent() <= 2 * SEND_LIMIT / Chunk::SIZE + 8, "{} buffers", Chunk::lent());
        drop(client);
        let flushed = poll_fn(|cx| server.poll_flush(cx)).await;
        assert!(flushed.is_err(), "the peer is gone");
    });
}

fn garbage_after_the_handshake_is_an_error<T: Transport>() {
    let authority = Authority::new();
    for garbage in
        [&b"\x17\x03\x03\x00\x20garbage garbage garbage garbage."[..], b"\xff\xff\xff\xff\xff\xff\xff"]
    {
        let config = authority.server("good.example");
        let (error, ()) = check::<T, _, _, _>(
            authority.client(rustls::ALL_VERSIONS).talk("good.example", move |mut stream| {
                stream.read_exact(&mut [0; 5]).unwrap();
                stream.sock.write_all(garbage).unwrap();
                let _ = stream.sock.read_to_end(&mut Vec::new());
            }),
            async move |stream| {
                let mut tls = shake(stream, config).await.unwrap();
                write_all(&mut tls, b"hello").await.unwrap();
                let read = read(&mut tls).await.map_err(|error| error.kind());
                let written = write_all(&mut tls, b"behind our alert").await;
                (read, written.map_err(|error| error.kind()))
            },
        );
        let wrong = io::ErrorKind::InvalidData;
        assert_eq!(error, (Err(wrong), Err(wrong)), "{garbage:?}");
    }
}

fn an_upstream_with_another_name_is_refused<T: Transport>() {
    let authority = Authority::new();
    within_deadline(|transport: T| async move {
        let config = authority.server("other.example");
        let ended =
            bridge(loopback(), &transport, config, authority.client(rustls::ALL_VERSIONS).config()).await;
        let (server, client) = (ended.0.err(), ended.1.err().map(|error| error.kind()));
        assert_eq!((server, client), (Some(HandshakeEnd::Failed), Some(io::ErrorKind::InvalidData)));
    });
}

fn an_idle_connection_holds_no_buffer<T: Transport>() {
    let authority = Authority::new();
    within_deadline(|transport: T| async move {
        let (mut server, mut client) = bridges(&transport, &authority).await.unwrap();
        write_all(&mut client, b"question").await.unwrap();
        assert_eq!(read(&mut server).await.unwrap(), b"question");
        write_all(&mut server, b"answer").await.unwrap();
        assert_eq!(read(&mut client).await.unwrap(), b"answer");
        // The answer has come: nothing is on its way to either side any more.
        let idle = poll_fn(|cx| Poll::Ready(poll_read(&mut server, cx).is_pending())).await;
        assert!(idle);
        assert_eq!(Chunk::lent(), 0);
    });
}

fn the_beginning_of_a_record_holds_no_buffer<T: Transport>() {
    let authority = Authority::new();
    let config = authority.server("good.example");
    let (go_on, waits) = std::sync::mpsc::channel();
    let (read, ()) = check::<T, _, _, _>(
        authority.client(rustls::ALL_VERSIONS).talk("good.example", move |mut stream| {
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.conn.writer().write_all(b"in parts").unwrap();
            let mut record = Vec::new();
            stream.conn.write_tls(&mut record).unwrap();
            for byte in record {
                stream.sock.write_all(&[byte]).unwrap();
                waits.recv().unwrap();
            }
        }),
        async move |stream| {
            let mut tls = shake(stream, config).await.unwrap();
            write_all(&mut tls, b"hello").await.unwrap();
            let mut parts = 0;
            let read = poll_fn(|cx| {
                let read = poll_read(&mut tls, cx);
                if read.is_pending() {
                    assert_eq!(Chunk::lent(), 0, "after {parts} bytes");
                    parts += 1;
                }
                let _ = go_on.send(());
                read
            });
            let read = read.await.unwrap();
            assert!(parts > 3, "the record came in {parts} parts");
            read
        },
    );
    assert_eq!(read, b"in parts");
}

/// RFC 8446 §4.6.3: rustls asks for an update of our keys with each of its own.
fn a_client_that_updates_its_keys_is_followed_and_answered<T: Transport>() {
    let authority = Authority::new();
    let config = authority.server("good.example");
    let (heard, ()) = check::<T, _, _, _>(
        authority.client(&[&version::TLS13]).talk("good.example", |mut stream| {
            let mut echo = [0; 5];
            for _ in 0..5 {
                stream.write_all(b"hello").unwrap();
                stream.read_exact(&mut echo).unwrap();
                assert_eq!(&echo, b"hello");
                stream.conn.refresh_traffic_keys().unwrap();
            }
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }),
        async move |stream| {
            let mut tls = shake(stream, config).await.unwrap();
            let mut heard = 0;
            loop {
                let bytes = read(&mut tls).await.unwrap();
                if bytes.is_empty() {
                    return heard;
                }
                heard += bytes.len();
                write_all(&mut tls, &bytes).await.unwrap();
            }
        },
    );
    assert_eq!(heard, 25);
}

/// One connection: `client` on a thread of its own, `server` over the transport; what both came to.
fn check<T: Transport, C: Send + 'static, O, F: Future<Output = O>>(
    client: impl FnOnce(std::net::TcpStream) -> C + Send + 'static,
    server: impl FnOnce(T::Stream) -> F,
) -> (O, C) {
    let socket = loopback();
    let address: SocketAddr = socket.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let socket = std::net::TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        client(socket)
    });
    let output = within_deadline(|transport: T| async move {
        let mut listener = transport.listen(socket).unwrap();
        server(accept(&mut listener).await).await
    });
    (output, client.join().unwrap())
}

fn first_error(mut stream: client::Blocking) -> Option<rustls::Error> {
    let error = stream.conn.complete_io(&mut stream.sock).err()?;
    error.into_inner()?.downcast().ok().map(|error| *error)
}

async fn shake<S: Stream>(
    stream: S,
    config: Arc<rustls::ServerConfig>,
) -> Result<TlsStream<S>, HandshakeEnd> {
    let (_, pending) = read_hello(stream, DEADLINE).await?;
    pending.accept(config, DEADLINE).await
}

/// A server's and a client's bridge, joined.
async fn bridges<T: Transport>(
    transport: &T,
    authority: &Authority,
) -> io::Result<(TlsStream<T::Stream>, TlsStream<T::Stream>)> {
    bridges_over(loopback(), transport, authority).await
}

async fn bridges_over<T: Transport>(
    socket: std::net::TcpListener,
    transport: &T,
    authority: &Authority,
) -> io::Result<(TlsStream<T::Stream>, TlsStream<T::Stream>)> {
    let config = authority.client(rustls::ALL_VERSIONS).config();
    let (server, client) = bridge(socket, transport, authority.server("good.example"), config).await;
    Ok((server.map_err(|end| io::Error::other(format!("{end:?}")))?, client?))
}

type Bridged<S> = (Result<TlsStream<S>, HandshakeEnd>, io::Result<TlsStream<S>>);

fn listening() -> (std::net::TcpListener, SocketAddr) {
    let socket = loopback();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn bridge<T: Transport>(
    socket: std::net::TcpListener,
    transport: &T,
    server: Arc<rustls::ServerConfig>,
    client: Arc<ClientConfig>,
) -> Bridged<T::Stream> {
    let address = socket.local_addr().unwrap();
    let mut listener = transport.listen(socket).unwrap();
    let name = "good.example".try_into().unwrap();
    let connecting =
        async { connect(transport.connect(address).await.unwrap(), name, client, DEADLINE).await };
    tokio::join!(async { shake(accept(&mut listener).await, server).await }, connecting)
}

fn poll_read<S: Stream>(
    tls: &mut TlsStream<S>,
    cx: &mut std::task::Context<'_>,
) -> Poll<io::Result<Vec<u8>>> {
    let mut bytes = BytesMut::new();
    ready!(tls.poll_read_buffer(cx, &mut bytes, 10_000))?;
    Poll::Ready(Ok(bytes.to_vec()))
}

async fn read<S: Stream>(tls: &mut TlsStream<S>) -> io::Result<Vec<u8>> {
    poll_fn(|cx| poll_read(tls, cx)).await
}

async fn write_all<S: Stream>(tls: &mut TlsStream<S>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| tls.poll_write(cx, &[IoSlice::new(bytes)])).await?;
        bytes = &bytes[count..];
    }
    poll_fn(|cx| tls.poll_flush(cx)).await
}

/// Writes the pattern until the bridge, on a connection to `listener`, takes no more.
async fn write_until_stuck<S: Stream>(tls: &mut TlsStream<S>, listener: SocketAddr) {
    let piece = pattern(0, 251 * 64);
    let mut written = 0;
    loop {
        let writing = poll_fn(|cx| tls.poll_write(cx, &[IoSlice::new(&piece[written % 251..])]));
        let Some(count) = unless_stuck(listener, writing).await else { return };
        written += count.unwrap();
        assert!(written < KERNEL_BUFFERS, "the writer is never stopped");
    }
}
