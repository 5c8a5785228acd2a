//! Bytes in both directions, and the end of a stream.

use std::{future::poll_fn, io, rc::Rc, time::Duration};

use anyhow::ensure;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_local,
};

use super::{
    DEADLINE, a_round_trip, accept, eventually, kernel, listen, over_both_back_ends, pair, pair_with,
    pattern, poll_once, recv, send, send_until_stuck, within_deadline,
};
use crate::transport::{Chunk, HyperIo, Outgoing, SEND_LIMIT, Stream, Transport};

over_both_back_ends! {
    half_close_leaves_our_direction_open
    large_writes_reach_a_slow_reader_whole_and_in_order
    a_peer_that_does_not_read_stops_the_sender
    what_a_peer_has_not_taken_is_known
    many_small_sends_to_a_peer_that_does_not_read_share_buffers
    drop_with_operations_in_flight_closes_the_socket
    drop_ends_the_stream_for_the_peer
    a_reset_ends_every_operation
    idle_streams_hold_no_buffer
    open_streams_end_with_the_runtime
    hyper_speaks_over_a_plain_stream
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
        let sent = send_until_stuck(&mut ours, &peer).await;
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
        let sent = send_until_stuck(&mut ours, &peer).await as u64;
        let stuck = ours.outgoing();
        assert!(stuck.given == sent && stuck.acknowledged < sent, "{stuck:?} of {sent}");
        let reading = spawn_local(async move {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
        });
        poll_fn(|cx| ours.poll_shutdown(cx)).await.unwrap();
        reading.await.unwrap();
        eventually("all is acknowledged", || {
            ensure!(ours.outgoing().acknowledged == sent, "{:?} of {sent}", ours.outgoing());
            Ok(())
        })
        .await;
    });
}

fn many_small_sends_to_a_peer_that_does_not_read_share_buffers<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, peer) = pair(&transport).await;
        send_until_stuck(&mut ours, &peer).await;
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
        send_until_stuck(&mut ours, &peer).await;
        assert!(poll_once(|cx| ours.poll_recv(cx)).await.is_none());
        a_round_trip(&transport).await;
        assert!(kernel::is_held(&peer));
        drop(ours);
        eventually("no descriptor holds the socket", || {
            ensure!(!kernel::is_held(&peer), "it is held");
            Ok(())
        })
        .await;
    });
}

fn drop_ends_the_stream_for_the_peer<T: Transport>() {
    within_deadline(|transport: T| async move {
        let (mut ours, mut peer) = pair(&transport).await;
        assert!(poll_once(|cx| ours.poll_recv(cx)).await.is_none());
        a_round_trip(&transport).await;
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
        a_round_trip(&transport).await;
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
        a_round_trip(&transport).await;
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
