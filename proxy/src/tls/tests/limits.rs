//! The time limits of a handshake and of its end, on a paused clock.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

use super::*;
use crate::{tls::lingering_close::lingering_close, transport::tests::memory::Memory};

#[test]
fn a_hello_that_does_not_come_whole_ends_at_its_limit() {
    for (says, pace) in [
        (&b""[..], SECOND),
        (b"\x16\x03\x01\x02\x00\x01", SECOND),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 252], LIMIT / 4),
    ] {
        Memory::run(|_| async move {
            let (ours, mut peer) = Memory::pair();
            let began = Instant::now();
            let saying = async {
                for byte in says {
                    if peer.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    sleep(pace).await;
                }
                let mut heard = Vec::new();
                let _ = peer.read_to_end(&mut heard).await;
                heard
            };
            let reading = async { (read_hello(ours, LIMIT).await.err(), began.elapsed()) };
            let ((end, took), heard) = tokio::join!(reading, saying);
            assert_eq!((end, took), (Some(HandshakeEnd::HelloTimeout), LIMIT), "{says:?}");
            assert!(heard.is_empty(), "{says:?} is told {heard:?}");
        })
        .unwrap();
    }
}

#[test]
fn a_handshake_that_trickles_ends_at_its_limit() {
    let authority = Authority::new();
    let config = authority.server("good.example");
    let hello = authority.client(&[&version::TLS12]).hello("good.example");
    Memory::run(|_| async move {
        let (ours, mut peer) = Memory::pair();
        peer.write_all(&hello).await.unwrap();
        let (_, pending) = read_hello(ours, DEADLINE).await.map_err(drop).unwrap();
        let trickle = async {
            // A handshake record that never gets whole.
            for byte in [22, 3, 3, 64, 0].into_iter().chain(std::iter::repeat(0)) {
                if peer.write_all(&[byte]).await.is_err() {
                    break;
                }
                sleep(SECOND).await;
            }
        };
        let began = Instant::now();
        let accepting = async { (pending.accept(config, LIMIT).await.err(), began.elapsed()) };
        let (ended, ()) = tokio::join!(accepting, trickle);
        assert_eq!(ended, (Some(HandshakeEnd::HandshakeTimeout), LIMIT));
    })
    .unwrap();
}

#[test]
fn a_close_lingers_for_a_second_or_until_the_peer_ends() {
    for (peer_ends_after, took) in [(SECOND / 5, SECOND / 5), (SECOND / 2, SECOND / 2), (SECOND * 60, SECOND)]
    {
        Memory::run(|_| async move {
            let (mut ours, mut peer) = Memory::pair();
            ours.send(Chunk::copy_of(b"good bye"));
            let began = Instant::now();
            let closing = async {
                lingering_close(&mut ours).await;
                began.elapsed()
            };
            let ending = async {
                let mut heard = Vec::new();
                peer.read_to_end(&mut heard).await.unwrap();
                peer.write_all(b"and more").await.unwrap();
                sleep(peer_ends_after).await;
                let _ = peer.shutdown().await;
                heard
            };
            let (lingered, heard) = tokio::join!(closing, ending);
            assert_eq!((lingered, &heard[..]), (took, &b"good bye"[..]));
        })
        .unwrap();
    }
}

const LIMIT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
