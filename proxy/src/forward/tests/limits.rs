//! The time limits of a request, on a paused clock.

use tokio::{
    io::DuplexStream,
    time::{Instant, sleep},
};

use super::*;
use crate::transport::tests::memory::{BETWEEN, Memory, MemoryListener};

#[test]
fn an_upstream_that_does_not_answer_is_given_up_at_its_limit() {
    let setting = Setting { response_timeout: config::Span::secs(30), ..Setting::default() };
    paused(&setting, async |mut edge| {
        let mut client = edge.client();
        say(&mut client, GET).await;
        let mut upstream = edge.upstream.accept().await;
        head_of(&mut upstream).await;
        let began = Instant::now();
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"));
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert_eq!(rest(&mut upstream).await, "", "its connection is closed");
        edge.counted(RequestOutcome::ResponseTimeout).await;
    });
}

#[test]
fn a_body_that_is_announced_and_does_not_come_costs_no_upstream() {
    paused(&Setting::default(), async |edge| {
        let mut client = edge.client();
        let began = Instant::now();
        say(&mut client, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9\r\n\r\n").await;
        let refused = head_of(&mut client).await;
        assert!(refused.starts_with("HTTP/1.1 408 "), "{refused}");
        assert_eq!(began.elapsed(), IDLE);
        edge.counted(RequestOutcome::ClientSlow).await;
        let asked: u64 =
            ConnectionOrigin::ALL.iter().map(|reach| edge.metrics.connections.count(*reach)).sum();
        assert_eq!(asked, 0);
    });
}

#[test]
fn a_body_that_stands_still_is_cut_after_one_window_or_two() {
    paused(&Setting::default(), async |mut edge| {
        let mut client = edge.client();
        say(&mut client, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9\r\n\r\nhalf").await;
        let mut upstream = edge.upstream.accept().await;
        head_of(&mut upstream).await;
        let began = Instant::now();
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        assert_eq!(began.elapsed(), IDLE);
        assert!("half".starts_with(&rest(&mut upstream).await), "nothing is made up");
        edge.counted(RequestOutcome::ClientSlow).await;
    });
    paused(&Setting::default(), async |mut edge| {
        let mut client = edge.client();
        say(&mut client, GET).await;
        let mut upstream = edge.upstream.accept().await;
        head_of(&mut upstream).await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        head_of(&mut client).await;
        let began = Instant::now();
        assert_eq!(rest(&mut client).await, "half");
        // What came before the silence meets the first window's rate, which is a byte.
        assert_eq!(began.elapsed(), 2 * IDLE);
        edge.counted(RequestOutcome::Stalled).await;
    });
}

#[test]
fn a_body_above_the_rate_passes_however_long_it_takes_and_one_below_is_cut() {
    for (bytes_per_second, outcome) in
        [(RATE + 10, RequestOutcome::Forward), (RATE - 10, RequestOutcome::ClientSlow)]
    {
        paused(&Setting::default(), async |mut edge| {
            let (mut client, body) = (edge.client(), vec![b'x'; 600 * bytes_per_second]);
            let head =
                format!("PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n", body.len());
            say(&mut client, &head).await;
            let (mut from_client, mut to_client) = tokio::io::split(client);
            let sending = async {
                for piece in body.chunks(bytes_per_second) {
                    if to_client.write_all(piece).await.is_err() {
                        break;
                    }
                    sleep(Duration::from_secs(1)).await;
                }
            };
            let upstream = async {
                let mut upstream = edge.upstream.accept().await;
                head_of(&mut upstream).await;
                let mut received = vec![0; body.len()];
                if upstream.read_exact(&mut received).await.is_ok() {
                    say(&mut upstream, OK).await;
                }
            };
            let ((), (), head) = tokio::join!(sending, upstream, head_of(&mut from_client));
            let expected = if outcome == RequestOutcome::Forward { "200" } else { "408" };
            assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{bytes_per_second} B/s: {head}");
            exactly(&mut from_client, if outcome == RequestOutcome::Forward { "ok" } else { "" }).await;
            edge.counted(outcome).await;
        });
    }
}

/// What comes with a response's header section is held as long as nobody reads, for each stream of a connection.
#[test]
fn little_is_read_ahead_of_a_response_that_waits_on_a_stream() {
    let setting = Setting { version: ServedVersion::Http2, ..Setting::default() };
    paused(&setting, async |mut edge| {
        let mut client = hyper::client::conn::http2::Builder::new(Local);
        client.initial_stream_window_size(0);
        let (mut sender, connection) =
            client.handshake(hyper_util::rt::TokioIo::new(edge.client())).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::get("https://shop.example/").body(http_body_util::Empty::<&[u8]>::new());
        let answer = tokio::task::spawn_local(sender.send_request(request.unwrap()));
        let mut upstream = edge.upstream.accept().await;
        head_of(&mut upstream).await;
        let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec();
        response.resize(200_000, b'x');
        let mut written = 0;
        // Until the proxy takes no more.
        while let Ok(count) =
            tokio::time::timeout(IDLE / 2, upstream.write(response.get(written..).unwrap())).await
        {
            written += count.unwrap();
        }
        assert_eq!(written, BETWEEN + 2048);
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    });
}

/// A proxy in memory, in front of an upstream that the test plays.
pub(super) struct PausedEdge {
    memory: Memory,
    address: SocketAddr,
    pub(super) upstream: MemoryListener,
    metrics: RequestMetrics,
}

impl PausedEdge {
    pub(super) fn client(&self) -> DuplexStream {
        self.memory.dial(self.address).unwrap()
    }

    /// One request, with this outcome.
    async fn counted(&self, outcome: RequestOutcome) {
        counted_all(&self.metrics, outcome, 1, 1).await;
    }
}

pub(super) fn paused<F: Future<Output = ()>>(setting: &Setting, case: impl FnOnce(PausedEdge) -> F) {
    Memory::run(|memory| async move {
        let (upstream, listener) = (memory.bind(), memory.bind());
        let address = listener.address;
        let metrics = RequestMetrics::register(&prometheus::Registry::new()).unwrap();
        let target = Target::parse(&format!("http://{}{}", upstream.address, setting.parameters)).unwrap();
        let limits = config::LimitsConfig { minimum_rate: RATE as u64, ..config::LimitsConfig::default() };
        let limits = config::LimitsConfig { idle: config::Span::secs(IDLE.as_secs()), ..limits };
        let relay = relay_within(memory.clone(), setting, limits, metrics.clone());
        tokio::task::spawn_local(front::<Memory>(
            listener,
            Rc::new(relay),
            permission(target, setting),
            (setting.version, watch::channel(Phase::Serving).1),
            None,
        ));
        case(PausedEdge { memory, address, upstream, metrics }).await;
    })
    .unwrap();
}

pub(super) const IDLE: Duration = Duration::from_mins(1);
const RATE: usize = 240;
