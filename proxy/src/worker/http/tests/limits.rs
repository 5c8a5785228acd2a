//! The time limits of a connection, on a paused clock: each is met to the second it is set to.

use tokio::time::{Instant, sleep};

use super::*;
use crate::transport::tests::memory::Memory;

#[test]
fn a_connection_without_a_request_is_closed_after_the_idle_time() {
    paused(Version::Http1, limits(), async |edge, memory| {
        let mut client = memory.dial(edge.address).unwrap();
        let began = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(began.elapsed(), IDLE);
        edge.ended(LimitReached::Idle).await;
    });
}

#[test]
fn an_idle_connection_stays_for_a_moment_when_the_instance_ends_and_for_no_longer() {
    for (before, phase) in [
        (Phase::Serving, Phase::Draining),
        (Phase::Serving, Phase::Replaced),
        (Phase::Leaving, Phase::Draining),
        (Phase::Leaving, Phase::Replaced),
    ] {
        paused(Version::Http1, limits(), async move |edge, memory| {
            let mut client = memory.dial(edge.address).unwrap();
            client.write_all(REQUEST).await.unwrap();
            answer(&mut client).await;
            edge.phase.send_replace(before);
            sleep(SECOND * 5).await;
            edge.phase.send_replace(phase);
            let began = Instant::now();
            assert_eq!(rest(&mut client).await, "");
            assert_eq!(began.elapsed(), GRACE, "{before:?} {phase:?}");
        });
    }
}

#[test]
fn a_request_that_has_begun_to_come_within_that_moment_is_answered() {
    for part in [1, REQUEST.len() - 1, REQUEST.len()] {
        paused(Version::Http1, limits(), async move |edge, memory| {
            let mut client = memory.dial(edge.address).unwrap();
            client.write_all(REQUEST).await.unwrap();
            answer(&mut client).await;
            edge.phase.send_replace(Phase::Draining);
            sleep(GRACE.saturating_sub(SECOND / 1000)).await;
            client.write_all(&REQUEST[..part]).await.unwrap();
            sleep(SECOND * 5).await;
            if part < REQUEST.len() {
                client.write_all(&REQUEST[part..]).await.unwrap();
            }
            let answer = rest(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
        });
    }
}

/// RFC 9113 §6.8: a stream that has crossed the first GOAWAY is not to be lost.
#[test]
fn a_request_that_crosses_the_goaway_of_the_idle_limit_is_answered() {
    for acknowledges in [true, false] {
        paused(Version::Http2, limits(), async move |edge, memory| {
            let mut client = answered_once(memory.dial(edge.address).unwrap()).await;
            let began = Instant::now();
            let ping = loop {
                let frame = Frame::read(&mut client).await.unwrap();
                if frame.kind == PING {
                    break frame;
                }
            };
            assert_eq!(began.elapsed(), IDLE);
            sleep(GRACE / 2).await;
            if acknowledges {
                client.write_all(&http2_request(3)).await.unwrap();
                client.write_all(&Frame { flags: ACK, ..ping }.bytes()).await.unwrap();
                until_headers_of(&mut client, 3).await;
            }
            while Frame::read(&mut client).await.is_some() {}
            let at_most = IDLE + if acknowledges { GRACE / 2 } else { GRACE };
            assert_eq!(began.elapsed(), at_most, "{acknowledges}");
            edge.ended(LimitReached::Idle).await;
        });
    }
}

/// The same for one whose idle time ends just then.
#[test]
fn a_request_that_crosses_the_goaway_of_an_end_is_answered_also_where_the_idle_limit_comes_due() {
    paused(Version::Http2, limits(), async |edge, memory| {
        let mut client = answered_once(memory.dial(edge.address).unwrap()).await;
        sleep(IDLE.saturating_sub(SECOND / 100)).await;
        edge.phase.send_replace(Phase::Draining);
        sleep(GRACE / 2).await;
        client.write_all(&http2_request(3)).await.unwrap();
        until_headers_of(&mut client, 3).await;
    });
}

/// What is before a PING on a slow link takes its time, and a client with large windows says nothing meanwhile.
#[test]
fn a_slow_reader_over_http2_is_not_lost_by_a_ping() {
    for minimum_rate in [0, RATE as u64] {
        let limits = LimitsConfig { minimum_rate, ..limits() };
        paused(Version::Http2, limits, async move |edge, memory| {
            let mut client = memory.dial(edge.address).unwrap();
            client.write_all(PREFACE_OF_LARGE_WINDOWS).await.unwrap();
            client.write_all(&http2_request_for(1, b"/large")).await.unwrap();
            let mut buffer = [0; 1000];
            for second in 0..300 {
                let count = client.read(&mut buffer).await.unwrap_or_default();
                assert_ne!(count, 0, "after {second} s at a rate of {minimum_rate}");
                sleep(SECOND).await;
            }
        });
    }
}

#[test]
fn idle_time_begins_anew_with_each_answer() {
    paused(Version::Http1, limits(), async |edge, memory| {
        let mut client = memory.dial(edge.address).unwrap();
        for _ in 0..3 {
            sleep(Duration::from_secs(59)).await;
            client.write_all(REQUEST).await.unwrap();
            answer(&mut client).await;
        }
        let began = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(began.elapsed(), IDLE);
    });
}

#[test]
fn a_head_that_trickles_in_is_cut_off_at_its_limit_whatever_its_pace() {
    for pace in [SECOND / 100, SECOND, SECOND * 9] {
        paused(Version::Http1, limits(), async |edge, memory| {
            let mut client = memory.dial(edge.address).unwrap();
            let began = Instant::now();
            while client.write_all(b"G").await.is_ok() {
                sleep(pace).await;
            }
            let took = began.elapsed();
            assert!((HEADER_TIMEOUT..=HEADER_TIMEOUT + pace).contains(&took), "{took:?} at {pace:?} a byte");
            edge.ended(LimitReached::Head).await;
        });
    }
}

#[test]
fn a_client_that_stops_reading_is_cut_between_one_window_and_two() {
    paused(Version::Http1, limits(), async |edge, memory| {
        let mut client = memory.dial(edge.address).unwrap();
        client.write_all(LARGE_REQUEST).await.unwrap();
        let began = Instant::now();
        edge.ended(LimitReached::NotReading).await;
        let took = began.elapsed();
        assert!(took >= IDLE && took <= 2 * IDLE + SECOND, "{took:?}");
        assert!(rest(&mut client).await.len() < LARGE, "what was given before is all there is");
    });
}

#[test]
fn a_slow_reader_above_the_rate_gets_everything_and_one_below_is_cut() {
    for (bytes_per_second, whole) in [(LARGE / 600, true), (RATE * 2, true), (RATE / 2, false)] {
        paused(Version::Http1, limits(), async |edge, memory| {
            let mut client = memory.dial(edge.address).unwrap();
            client.write_all(LARGE_REQUEST).await.unwrap();
            let (mut read, mut buffer) = (0, vec![0; bytes_per_second]);
            // Of a very slow one an hour is enough to see.
            for _ in 0..3600 {
                match client.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => read += count,
                }
                sleep(SECOND).await;
            }
            assert_eq!(
                edge.metrics.ended.count(LimitReached::NotReading),
                u64::from(!whole),
                "{bytes_per_second} B/s"
            );
            assert!(!whole || read >= LARGE.min(bytes_per_second * 3600), "{read} at {bytes_per_second} B/s");
        });
    }
}

#[test]
fn a_stream_whose_client_opens_no_window_is_reset_and_its_connection_goes_on() {
    paused(Version::Http2, limits(), async |edge, memory| {
        let (mut sender, _connection) = edge.connect_http2(&memory).await;
        let starved = sender.send_request(request("/large")).await.unwrap();
        let began = Instant::now();
        while edge.metrics.ended.count(LimitReached::StreamNotReading) == 0 {
            sleep(SECOND).await;
            let answer = sender.send_request(request("/")).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "done");
        }
        let took = began.elapsed();
        assert!(took >= IDLE && took <= 2 * IDLE + SECOND, "{took:?}");
        assert!(starved.into_body().collect().await.is_err(), "a part is not taken for the whole");
        assert_eq!(edge.metrics.ended.count(LimitReached::NotReading), 0);
    });
}

#[test]
fn a_client_that_gives_up_what_it_asks_for_is_cut() {
    let limits = LimitsConfig { http2_resets: 60, ..limits() };
    paused(Version::Http2, limits, async |edge, memory| {
        let (mut sender, connection) = edge.connect_http2(&memory).await;
        // In the long run as many as it likes.
        for number in 0..200 {
            assert_eq!(edge.metrics.ended.count(LimitReached::Resets), 0, "after {number} slow ones");
            give_up(&edge, &mut sender).await;
            sleep(SECOND).await;
        }
        for number in 0..60 {
            assert_eq!(edge.metrics.ended.count(LimitReached::Resets), 0, "after {number}");
            // What is answered beside makes up for nothing.
            let answer = sender.send_request(request("/")).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "done");
            give_up(&edge, &mut sender).await;
        }
        give_up(&edge, &mut sender).await;
        edge.ended(LimitReached::Resets).await;
        assert!(connection.await.unwrap().is_err(), "cut, and not closed in order");
    });
}

/// Asks for what is not answered, and resets the stream once the request was read.
async fn give_up(edge: &Edge, sender: &mut Client) {
    sender.ready().await.unwrap();
    let request = tokio::task::spawn_local(sender.send_request(request("/slow")));
    edge.asked.notified().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    // Until the reset has arrived.
    sleep(SECOND / 1000).await;
}

/// Limits of which no two are near to each other.
fn limits() -> LimitsConfig {
    LimitsConfig {
        idle: Span::secs(IDLE.as_secs()),
        header_timeout: Span::secs(HEADER_TIMEOUT.as_secs()),
        minimum_rate: RATE as u64,
        ..LimitsConfig::default()
    }
}

fn paused<F: Future<Output = ()>>(
    version: Version,
    limits: LimitsConfig,
    case: impl FnOnce(Edge, Memory) -> F,
) {
    Memory::run(|memory| async move {
        let edge = Edge::new(&memory, version, limits);
        case(edge, memory).await;
    })
    .unwrap();
}

const IDLE: Duration = Duration::from_mins(1);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const RATE: usize = 240;
const SECOND: Duration = Duration::from_secs(1);
const LARGE_REQUEST: &[u8] = b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
