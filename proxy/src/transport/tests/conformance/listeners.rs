//! Connections that come, and connections that are made.

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::ensure;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::spawn_local,
    time::timeout,
};

use super::{
    a_round_trip, accept, eventually, kernel, listen, loopback, over_both_back_ends, poll_once, recv, send,
    within_deadline,
};
use crate::transport::{Listener, Stream, Transport};

over_both_back_ends! {
    an_accept_storm_is_served
    a_cancelled_accept_loses_nothing
    a_dropped_listener_ends_listening
    a_dropped_listener_leaves_a_successors_copy_listening
    a_refused_connect_says_so
    a_dropped_connect_leaves_nothing
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
        a_round_trip(&transport).await;
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
        a_round_trip(&transport).await;
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
        let is_connecting = || kernel::sockets_to(address).iter().any(|state| state == kernel::SYN_SENT);
        tokio::select! {
            connected = transport.connect(address) => panic!("the second connect ends: {:?}", connected.err()),
            () = eventually("a SYN to be sent", || {
                ensure!(is_connecting(), "{:?}", kernel::sockets_to(address));
                Ok(())
            }) => {}
        }
        eventually("no SYN-SENT to be left", || {
            ensure!(!is_connecting(), "{:?}", kernel::sockets_to(address));
            Ok(())
        })
        .await;
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

fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}
