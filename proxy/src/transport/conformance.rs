//! What both back ends must do: each case runs on each, against a peer that uses tokio's sockets.

use std::{
    future::{Future, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::spawn_local,
    time::timeout,
};

use super::{
    Chunk, HyperIo, Listener, Outgoing, SEND_LIMIT, Stream, Transport,
    socket::{Awaits, bind_listener},
};

/// Makes a test of each named generic function over each back end.
macro_rules! over_both_back_ends {
    ($($case:ident)+) => {
        mod over_uring {
            $(#[test] fn $case() { super::$case::<$crate::transport::Uring>(); })+
        }
        mod over_epoll {
            $(#[test] fn $case() { super::$case::<$crate::transport::Epoll>(); })+
        }
    };
}
pub(crate) use over_both_back_ends;

over_both_back_ends! {
    half_close_leaves_our_direction_open
    large_writes_reach_a_slow_reader_whole_and_in_order
    a_peer_that_does_not_read_stops_the_sender
    what_a_peer_has_not_taken_is_known
    many_small_sends_to_a_peer_that_does_not_read_share_buffers
    drop_with_operations_in_flight_closes_the_socket
    drop_ends_the_stream_for_the_peer
    a_reset_ends_every_operation
    an_accept_storm_is_served
    a_cancelled_accept_loses_nothing
    a_dropped_listener_ends_listening
    a_dropped_listener_leaves_a_successors_copy_listening
    a_refused_connect_says_so
    a_dropped_connect_leaves_nothing
    idle_streams_hold_no_buffer
    open_streams_end_with_the_runtime
    hyper_speaks_over_a_plain_stream
}

/// Runs a case on a runtime of its own, within the deadline.
pub(crate) fn within_deadline<T: Transport, F: Future>(main: impl FnOnce(T) -> F) -> F::Output {
    T::run(|transport| async { timeout(DEADLINE, main(transport)).await.expect("the case hangs") }).unwrap()
}

/// The next bytes of `stream`.
pub(crate) async fn recv<S: Stream>(stream: &mut S) -> io::Result<Chunk> {
    poll_fn(|cx| stream.poll_recv(cx)).await
}

pub(crate) async fn accept<L: Listener>(listener: &mut L) -> L::Stream {
    poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().0
}

pub(crate) fn loopback() -> std::net::TcpListener {
    bind_listener((Ipv4Addr::LOCALHOST, 0).into(), Awaits::Connection).unwrap()
}

fn half_close_leaves_our_direction_open<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, mut peer) = pair(&transport).await;
        peer.write_all(b"question").await.unwrap();
        peer.shutdown().await.unwrap();
        assert_eq!(&*recv(&mut ours).await.unwrap(), b"question");
        for _ in 0..2 {
            assert!(recv(&mut ours).await.unwrap().is_empty(), "the end stays the end");
        }
        send(&mut ours, b"answer").await.unwrap();
        poll_fn(|cx| ours.poll_shutdown(cx)).await.unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    });
}

fn large_writes_reach_a_slow_reader_whole_and_in_order<T: Transport>() {
    const TOTAL: usize = 64 << 20;
    within_deadline(|transport: T| async move {
        let (mut ours, mut peer) = pair_with(&transport, Some(64 * 1024)).await;
        let sending = spawn_local(async move {
            let sizes = [Chunk::SIZE, 1, 4096, 333].into_iter().cycle();
            let mut sent = 0;
            for size in sizes {
                let size = size.min(TOTAL - sent);
                poll_fn(|cx| ours.poll_send_ready(cx)).await.unwrap();
                ours.send(Chunk::copy_of(&pattern(sent, size)));
                sent += size;
                if sent == TOTAL {
                    break;
                }
            }
            poll_fn(|cx| ours.poll_shutdown(cx)).await.unwrap();
        });
        let (mut received, mut buffer) = (0, vec![0; 7919]);
        loop {
            let count = peer.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            assert!(buffer[..count] == pattern(received, count), "after {received} bytes");
            received += count;
            tokio::task::yield_now().await;
        }
        assert_eq!(received, TOTAL);
        sending.await.unwrap();
    });
}

fn a_peer_that_does_not_read_stops_the_sender<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, mut peer) = pair(&transport).await;
        let sent = send_until_stuck(&mut ours, Chunk::SIZE).await;
        assert!(Chunk::lent() <= 2 * SEND_LIMIT / Chunk::SIZE, "{} buffers", Chunk::lent());
        // Reading sets it going again, and nothing was lost.
        let closing = spawn_local(async move { poll_fn(|cx| ours.poll_shutdown(cx)).await.unwrap() });
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.unwrap();
        assert!(all == pattern(0, sent), "{} of {sent} bytes", all.len());
        closing.await.unwrap();
    });
}

fn what_a_peer_has_not_taken_is_known<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, mut peer) = pair(&transport).await;
        assert_eq!(ours.outgoing(), Outgoing { given: 0, acknowledged: 0 });
        let sent = send_until_stuck(&mut ours, Chunk::SIZE).await as u64;
        let stuck = ours.outgoing();
        assert!(stuck.given == sent && stuck.acknowledged < sent, "{stuck:?} of {sent}");
        let reading = spawn_local(async move {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
        });
        poll_fn(|cx| ours.poll_shutdown(cx)).await.unwrap();
        reading.await.unwrap();
        eventually("all is acknowledged", || ours.outgoing().acknowledged == sent).await;
    });
}

fn many_small_sends_to_a_peer_that_does_not_read_share_buffers<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, _peer) = pair(&transport).await;
        send_until_stuck(&mut ours, Chunk::SIZE).await;
        let _ = poll_once(|cx| ours.poll_flush(cx)).await;
        for _ in 0..SEND_LIMIT / 40 {
            ours.send(Chunk::copy_of(&[0; 39]));
        }
        assert!(Chunk::lent() <= 4 * SEND_LIMIT / Chunk::SIZE, "{} buffers", Chunk::lent());
    });
}

fn drop_with_operations_in_flight_closes_the_socket<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, peer) = pair(&transport).await;
        send_until_stuck(&mut ours, Chunk::SIZE).await;
        assert!(poll_once(|cx| ours.poll_recv(cx)).await.is_none());
        let_operations_start().await;
        assert!(is_held(&peer));
        drop(ours);
        eventually("no descriptor holds the socket", || !is_held(&peer)).await;
    });
}

fn drop_ends_the_stream_for_the_peer<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, mut peer) = pair(&transport).await;
        assert!(poll_once(|cx| ours.poll_recv(cx)).await.is_none());
        let_operations_start().await;
        drop(ours);
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    });
}

fn a_reset_ends_every_operation<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, peer) = pair(&transport).await;
        assert!(poll_once(|cx| ours.poll_recv(cx)).await.is_none());
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert!(recv(&mut ours).await.is_err());
        let mut refused = 0;
        for _ in 0..3 {
            refused += usize::from(send(&mut ours, b"late").await.is_err());
        }
        assert_eq!(refused, 3, "a failed stream stays failed");
        poll_fn(|cx| ours.poll_shutdown(cx)).await.unwrap();
    });
}

fn an_accept_storm_is_served<T: Transport>() {
    const CLIENTS: u32 = 2000;
    raise_descriptor_limit();
    within_deadline(|transport: T| async move {
        let (mut listener, address) = listen(&transport);
        let serving = spawn_local(async move {
            for _ in 0..CLIENTS {
                let stream = accept(&mut listener).await;
                spawn_local(echo(stream));
            }
        });
        let clients: Vec<_> = (0..CLIENTS).map(|id| spawn_local(ask(address, id))).collect();
        for client in clients {
            client.await.unwrap();
        }
        serving.await.unwrap();
    });
}

async fn echo<S: Stream>(mut stream: S) {
    loop {
        let chunk = recv(&mut stream).await.unwrap();
        if chunk.is_empty() {
            break;
        }
        stream.send(chunk);
        poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
    }
}

async fn ask(address: SocketAddr, id: u32) {
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_u32(id).await.unwrap();
    assert_eq!(peer.read_u32().await.unwrap(), id);
}

fn a_cancelled_accept_loses_nothing<T: Transport>() {
    const CLIENTS: usize = 50;
    within_deadline(|transport: T| async move {
        let (mut listener, address) = listen(&transport);
        let mut peers = Vec::new();
        let mut accepted = Vec::new();
        while accepted.len() < CLIENTS {
            if peers.len() < CLIENTS {
                peers.push(TcpStream::connect(address).await.unwrap());
            }
            if let Ok(stream) = timeout(Duration::ZERO, accept(&mut listener)).await {
                accepted.push(stream);
            }
        }
        for (mut peer, mut stream) in peers.into_iter().zip(accepted) {
            send(&mut stream, b"!").await.unwrap();
            assert_eq!(peer.read_u8().await.unwrap(), b'!');
        }
    });
}

fn a_dropped_listener_ends_listening<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut listener, address) = listen(&transport);
        assert!(poll_once(|cx| listener.poll_accept(cx)).await.is_none());
        let_operations_start().await;
        drop(listener);
        loop {
            match TcpStream::connect(address).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    });
}

fn a_dropped_listener_leaves_a_successors_copy_listening<T: Transport>() {
    within_deadline(|transport: T| async move {
        let socket = loopback();
        let (address, copy) = (socket.local_addr().unwrap(), socket.try_clone().unwrap());
        let mut listener = transport.listen(socket).unwrap();
        assert!(poll_once(|cx| listener.poll_accept(cx)).await.is_none());
        let_operations_start().await;
        drop(listener);
        let mut successor = transport.listen(copy).unwrap();
        for id in 0..3 {
            let asking = spawn_local(ask(address, id));
            spawn_local(echo(accept(&mut successor).await));
            asking.await.unwrap();
        }
    });
}

fn a_refused_connect_says_so<T: Transport>() {
    within_deadline(|transport: T| async move {
        let address = loopback().local_addr().unwrap();
        let error = transport.connect(address).await.err().expect("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

fn a_dropped_connect_leaves_nothing<T: Transport>() {
    within_deadline(|transport: T| async move {
        // A backlog of none takes one connection; the kernel drops further SYNs, so their connects hang.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _taken = transport.connect(address).await.unwrap();
        let connecting = timeout(Duration::from_millis(100), transport.connect(address)).await;
        assert!(connecting.is_err(), "the second connect hangs");
        eventually("no SYN-SENT is left", || !sockets_to(address).contains(&SYN_SENT.to_owned())).await;
    });
}

fn idle_streams_hold_no_buffer<T: Transport>() {
    within_deadline(|transport: T| async move {
        let mut pairs = Vec::new();
        for _ in 0..20 {
            let (mut ours, mut peer) = pair(&transport).await;
            peer.write_all(b"hello").await.unwrap();
            assert_eq!(&*recv(&mut ours).await.unwrap(), b"hello");
            send(&mut ours, b"hello").await.unwrap();
            assert!(poll_once(|cx| ours.poll_recv(cx)).await.is_none());
            pairs.push((ours, peer));
        }
        let_operations_start().await;
        assert_eq!(Chunk::lent(), 0);
    });
}

fn open_streams_end_with_the_runtime<T: Transport>() {
    let peers = Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = Rc::clone(&peers);
    within_deadline(|transport: T| async move {
        let (mut listener, address) = listen(&transport);
        kept.borrow_mut().push(std::net::TcpStream::connect(address).unwrap());
        let mut ours = accept(&mut listener).await;
        spawn_local(async move { recv(&mut ours).await.map(drop) });
        spawn_local(async move { accept(&mut listener).await });
        let_operations_start().await;
    });
    for mut peer in peers.take() {
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(io::Read::read(&mut peer, &mut [0]).unwrap(), 0);
    }
}

fn hyper_speaks_over_a_plain_stream<T: Transport>() {
    use http_body_util::{BodyExt, Full};
    use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};

    within_deadline(|transport: T| async move {
        let (mut listener, address) = listen(&transport);
        spawn_local(async move {
            let echo = service_fn(|request: Request<Incoming>| async {
                request.into_body().collect().await.map(|body| Response::new(Full::new(body.to_bytes())))
            });
            let io = HyperIo::new(accept(&mut listener).await);
            hyper::server::conn::http1::Builder::new().serve_connection(io, echo).await.unwrap();
        });
        let io = HyperIo::new(transport.connect(address).await.unwrap());
        let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        spawn_local(connection);
        let body = Bytes::from(pattern(0, 1 << 20));
        for _ in 0..2 {
            let request =
                Request::post("/").header("host", "a.example").body(Full::new(body.clone())).unwrap();
            let answer = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            assert!(answer.to_bytes() == body);
        }
    });
}

fn listen<T: Transport>(transport: &T) -> (T::Listener, SocketAddr) {
    let socket = loopback();
    let address = socket.local_addr().unwrap();
    (transport.listen(socket).unwrap(), address)
}

/// Our stream, accepted, and its peer.
async fn pair<T: Transport>(transport: &T) -> (T::Stream, TcpStream) {
    pair_with(transport, None).await
}

async fn pair_with<T: Transport>(transport: &T, receive_buffer: Option<u32>) -> (T::Stream, TcpStream) {
    let (mut listener, address) = listen(transport);
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size).unwrap();
    }
    let (peer, ours) = tokio::join!(socket.connect(address), accept(&mut listener));
    (ours, peer.unwrap())
}

async fn send<S: Stream>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    poll_fn(|cx| stream.poll_send_ready(cx)).await?;
    stream.send(Chunk::copy_of(bytes));
    poll_fn(|cx| stream.poll_flush(cx)).await
}

/// Sends the pattern in pieces of `size` until the stream takes no more, and says how much that was.
async fn send_until_stuck<S: Stream>(stream: &mut S, size: usize) -> usize {
    const KERNEL_BUFFERS: usize = 64 << 20;
    let mut sent = 0;
    while let Ok(ready) = timeout(STUCK, poll_fn(|cx| stream.poll_send_ready(cx))).await {
        ready.unwrap();
        stream.send(Chunk::copy_of(&pattern(sent, size)));
        sent += size;
        assert!(sent < KERNEL_BUFFERS, "the sender is never stopped");
    }
    sent
}

/// `count` bytes of an endless pattern from `offset` on.
pub(crate) fn pattern(offset: usize, count: usize) -> Vec<u8> {
    // A prime period, so that a lost or repeated buffer shows.
    (0..=250).cycle().skip(offset % 251).take(count).collect()
}

/// What one poll gives, if it is ready.
async fn poll_once<R>(mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<R>) -> Option<R> {
    poll_fn(|cx| match poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// Lets the runtime park once, upon which the ring submits what is queued.
async fn let_operations_start() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let reached = timeout(DEADLINE / 2, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    reached.await.expect(what);
}

/// Whether a descriptor holds the other end of `peer`'s connection.
fn is_held(peer: &TcpStream) -> bool {
    let (near, far) = (peer.peer_addr().unwrap(), peer.local_addr().unwrap());
    rows().any(|row| row[1].ends_with(&port(near)) && row[2].ends_with(&port(far)) && row[9] != "0")
}

/// The states of sockets connected, or connecting, to `address`.
fn sockets_to(address: SocketAddr) -> Vec<String> {
    rows().filter(|row| row[2].ends_with(&port(address))).map(|row| row[3].clone()).collect()
}

/// The rows of `proc_net_tcp`: local address, remote address, state and, tenth, the inode, 0 when no descriptor is left.
fn rows() -> impl Iterator<Item = Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let rows: Vec<Vec<String>> =
        table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    rows.into_iter()
}

fn port(address: SocketAddr) -> String {
    format!(":{:04X}", address.port())
}

fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

const SYN_SENT: &str = "02";
const STUCK: Duration = Duration::from_millis(500);
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
