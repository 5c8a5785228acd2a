use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    config::Network,
    transport::{Transport, tests::memory::Memory},
};

/// What becomes of a connection of `peer` that sends `pieces`, and what follows its header.
async fn taken(peer: &str, pieces: &[&[u8]]) -> (Result<SocketAddr, NotTaken>, Vec<u8>, Duration) {
    let from = serde_json::from_str("{ \"from\": [\"10.0.0.0/8\", \"2001:db8:1::/48\"] }").unwrap();
    let connections = Connections::new(9, 1);
    let registry = prometheus::Registry::new();
    let headers = Counters::register(&registry, "headers_total", "Headers.").unwrap();
    let reception = Reception {
        connections: &connections,
        balancers: Some(&from),
        proxies: &TrustedProxies::default(),
        headers: &headers,
        limit: Duration::from_secs(5),
    };
    let (stream, mut client) = Memory::pair();
    let send = async {
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::time::sleep(PAUSE).await;
        }
        // Whoever refused is gone; whoever waits for more waits on.
        let _ = client.read(&mut [0]).await;
    };
    let take = async {
        let taken = reception.take(stream, peer.parse().unwrap()).await;
        let Ok(mut taken) = taken else {
            return (taken.map(|taken| taken.client), Vec::new(), Duration::ZERO);
        };
        let mut rest = Vec::new();
        while !rest.ends_with(b"end") {
            rest.extend_from_slice(&receive(&mut taken.stream).await.unwrap());
        }
        (Ok(taken.client), rest, taken.left)
    };
    tokio::select! { taken = take => taken, () = send => panic!("the sender outlives who takes") }
}

fn in_memory(case: impl AsyncFnOnce()) {
    Memory::run(|_| async { case().await }).unwrap();
}

#[test]
fn a_load_balancer_says_who_the_client_is_however_it_is_cut() {
    in_memory(async || {
        let whole = b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\nhello end";
        for cut in 1..whole.len() {
            let (client, rest, left) = taken("10.1.2.3:999", &[&whole[..cut], &whole[cut..]]).await;
            assert_eq!(client, Ok("198.51.100.7:56324".parse().unwrap()), "cut at {cut}");
            assert_eq!(rest, b"hello end", "cut at {cut}");
            let is_cut_in_header = cut < whole.len() - b"hello end".len();
            assert_eq!(left < Duration::from_secs(5), is_cut_in_header, "{left:?} left, cut at {cut}");
        }
    });
}

#[test]
fn who_is_not_trusted_is_taken_at_its_address() {
    in_memory(async || {
        for peer in ["11.1.2.3:999", "[2001:db8:2::1]:999"] {
            let sent = b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\nhello end";
            let (client, rest, _) = taken(peer, &[sent]).await;
            assert_eq!((client, rest.as_slice()), (Ok(peer.parse().unwrap()), &sent[..]), "{peer}");
        }
    });
}

#[test]
fn a_load_balancer_speaks_for_itself_by_a_header_too() {
    in_memory(async || {
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0end";
        for peer in ["10.1.2.3:999", "[::ffff:10.1.2.3]:999", "[2001:db8:1::9]:999"] {
            let (client, rest, _) = taken(peer, &[local]).await;
            assert_eq!((client, rest.as_slice()), (Ok(peer.parse().unwrap()), &b"end"[..]));
        }
    });
}

#[test]
fn a_load_balancer_that_sends_no_header_is_refused() {
    in_memory(async || {
        for (pieces, outcome) in [
            (&[&b"\x16\x03\x01 hello end"[..]][..], HeaderOutcome::Absent),
            (&[b"GET / HTTP/1.1\r\n\r\nend"], HeaderOutcome::Absent),
            (&[b"PROXY TCP4 198.51.100.7\r\nend"], HeaderOutcome::Malformed),
            (&[b"PROXY TCP4 ", &[b'x'; 16_000], b"end"], HeaderOutcome::Malformed),
            (&[b"PROXY TCP4 "], HeaderOutcome::Timeout),
            (&[], HeaderOutcome::Timeout),
        ] {
            let (client, ..) = taken("10.1.2.3:999", pieces).await;
            assert_eq!(client, Err(NotTaken::Header(outcome)), "{pieces:?}");
        }
    });
}

#[test]
fn the_limit_of_a_source_does_not_hold_for_a_proxy_of_many_clients() {
    in_memory(async || {
        let connections = Connections::new(3, 1);
        let proxies = vec![Network::try_from("198.51.100.0/24".to_owned()).unwrap()];
        let from: ProxyProtocol = serde_json::from_str("{ \"from\": [\"10.0.0.0/8\"] }").unwrap();
        let reception = Reception {
            connections: &connections,
            balancers: Some(&from),
            proxies: &TrustedProxies::new(proxies),
            headers: &Counters::register(&prometheus::Registry::new(), "headers_total", "Headers.").unwrap(),
            limit: Duration::from_secs(5),
        };
        let mut open = Vec::new();
        let mut take = async |peer: &str, header: &[u8]| {
            let (stream, mut client) = Memory::pair();
            client.write_all(header).await.unwrap();
            let taken = reception.take(stream, peer.parse().unwrap()).await;
            taken.map(|taken| open.push(taken.place)).err()
        };
        let header = |client: &str| format!("PROXY TCP4 {client} 192.0.2.1 5 443\r\n").into_bytes();
        assert_eq!(take("198.51.100.1:1", b"").await, None);
        assert_eq!(take("10.0.0.1:1", &header("198.51.100.1")).await, None, "through a load balancer, too");
        assert_eq!(take("10.0.0.1:2", &header("192.0.2.9")).await, None);
        assert_eq!(take("198.51.100.1:2", b"").await, Some(NotTaken::Full(ConnectionsFull::Total)));
        let twice = Some(NotTaken::Full(ConnectionsFull::Source));
        connections.limit(9, 1);
        assert_eq!(take("10.0.0.1:3", &header("192.0.2.8")).await, None);
        assert_eq!(take("10.0.0.1:4", &header("192.0.2.8")).await, twice);
        assert_eq!(take("192.0.2.8:5", b"").await, twice);
    });
}

const PAUSE: Duration = Duration::from_millis(10);
