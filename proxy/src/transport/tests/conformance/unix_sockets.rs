//! Connections to Unix sockets.

use std::{future::poll_fn, io, os::unix::net::UnixListener};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{few_turns, over_both_back_ends, recv, send, within_deadline};
use crate::transport::{Outgoing, Stream, Transport};

over_both_back_ends! {
    a_unix_socket_carries_bytes_both_ways
    a_full_queue_is_waited_for
    nobody_at_a_unix_socket_is_an_error
}

fn a_unix_socket_carries_bytes_both_ways<T: Transport>() {
    within_deadline(|transport: T| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (ours, accepted) = tokio::join!(transport.connect_unix(&path), listener.accept());
        let (mut ours, (mut peer, _)) = (ours.unwrap(), accepted.unwrap());
        assert!(ours.is_silent());
        send(&mut ours, b"question").await.unwrap();
        let mut question = [0; 8];
        peer.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
        assert_eq!(ours.outgoing(), Outgoing { given: 8, acknowledged: 8 });
        peer.write_all(b"answer").await.unwrap();
        assert_eq!(&*recv(&mut ours).await.unwrap(), b"answer");
        poll_fn(|cx| ours.poll_shutdown(cx)).await.unwrap();
        assert_eq!(peer.read(&mut question).await.unwrap(), 0);
        drop(peer);
        assert!(recv(&mut ours).await.unwrap().is_empty() && !ours.is_silent());
    });
}

fn a_full_queue_is_waited_for<T: Transport>() {
    within_deadline(|transport: T| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        socket2::SockRef::from(&listener).listen(0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = UnixStream::connect(&path).await {
            waiting.push(stream);
        }
        let connecting = transport.connect_unix(&path);
        let (connected, ()) = tokio::join!(connecting, async {
            few_turns().await;
            listener.accept().unwrap();
        });
        assert!(connected.is_ok(), "{:?}", connected.err());
    });
}

fn nobody_at_a_unix_socket_is_an_error<T: Transport>() {
    within_deadline(|transport: T| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let absent = transport.connect_unix(&path).await.err().unwrap();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        drop(UnixListener::bind(&path).unwrap());
        let refused = transport.connect_unix(&path).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}
