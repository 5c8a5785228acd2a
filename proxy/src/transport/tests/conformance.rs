//! What both back ends must do: each case runs on each, against a peer that uses tokio's sockets.

mod kernel;
mod listeners;
mod streams;
mod unix_sockets;

use std::{
    future::{Future, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use anyhow::ensure;
use testbed::wait;
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::transport::{
    Chunk, Listener, Stream, Transport,
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

/// Sends the pattern until the stream takes no more of it, and says how much that was.
async fn send_until_stuck<S: Stream>(stream: &mut S, peer: &TcpStream) -> usize {
    let (mut sent, listener) = (0, peer.peer_addr().unwrap());
    while let Some(ready) = unless_stuck(listener, poll_fn(|cx| stream.poll_send_ready(cx))).await {
        ready.unwrap();
        stream.send(Chunk::copy_of(&pattern(sent, Chunk::SIZE)));
        sent += Chunk::SIZE;
        assert!(sent < KERNEL_BUFFERS, "the sender is never stopped");
    }
    sent
}

/// What `writing` comes to, or nothing when it waits for a peer that does not read: on a connection to `listener` a sender is stopped, and the
/// runtime has been idle since.
pub(crate) async fn unless_stuck<F: Future>(listener: SocketAddr, writing: F) -> Option<F::Output> {
    let stopped = async {
        eventually("a sender to be stopped", || {
            ensure!(kernel::is_stopped(listener), "none is");
            Ok(())
        })
        .await;
        few_turns().await;
    };
    let (mut writing, mut stopped) = (pin!(writing), pin!(stopped));
    tokio::select! {
        biased;
        output = &mut writing => Some(output),
        () = &mut stopped => None,
    }
}

/// Lets the runtime see what the kernel has done: what was queued goes out when it first parks, and what came of it may be known only
/// after the next turn.
pub(crate) async fn few_turns() {
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
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

/// A byte there over a connection of its own: what was queued before it has been given to the kernel, too.
async fn a_round_trip<T: Transport>(transport: &T) {
    let (mut ours, mut peer) = pair(transport).await;
    send(&mut ours, b"!").await.unwrap();
    assert_eq!(peer.read_u8().await.unwrap(), b'!');
}

pub(crate) async fn eventually(what: &str, look: impl Fn() -> anyhow::Result<()>) {
    wait::until_async(what, DEADLINE / 2, async || look()).await.unwrap();
}

/// More than the buffers of two sockets and all that Gatehouse buffers.
pub(crate) const KERNEL_BUFFERS: usize = 64 << 20;
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
