//! Compressed responses.

use flate2::write::GzDecoder;

use super::*;

fn compressing() -> Setting {
    let compression = config::CompressionConfig {
        encodings: vec![config::ContentCoding::Gzip],
        ..config::CompressionConfig::default()
    };
    Setting { compression, ..Setting::default() }
}

const ACCEPTING: &str = "GET /a?b HTTP/1.1\r\nHost: shop.example\r\nAccept-Encoding: gzip\r\n\r\n";

/// The data of a chunk; none of the last.
async fn chunk(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(client.read_u8().await.unwrap());
    }
    let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    let mut data = vec![0; length + 2];
    client.read_exact(&mut data).await.unwrap();
    data.truncate(length);
    (length > 0).then_some(data)
}

/// What a whole body in chunks is decoded to.
async fn decoded(client: &mut TcpStream) -> String {
    let mut decoder = GzDecoder::new(Vec::new());
    while let Some(data) = chunk(client).await {
        decoder.write_all(&data).unwrap();
    }
    String::from_utf8(decoder.finish().unwrap()).unwrap()
}

fn html(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_response_is_compressed_for_who_takes_it_and_connections_are_used_again() {
    on_both(&compressing(), async |edge| {
        let body = "all of it ".repeat(50_000);
        let mut client = edge.client().await;
        say(&mut client, ACCEPTING).await;
        let mut upstream = edge.accept().await;
        assert!(head_of(&mut upstream).await.contains("accept-encoding: gzip\r\n"));
        let answer = html(&body);
        let ((), head) = tokio::join!(say(&mut upstream, &answer), head_of(&mut client));
        for line in
            ["content-encoding: gzip", "vary: accept-encoding", "etag: W/\"a\"", "transfer-encoding: chunked"]
        {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
        assert!(!head.contains("content-length"), "{head}");
        assert!(decoded(&mut client).await == body);
        // The next asks for nothing of the kind.
        say(&mut client, GET).await;
        head_of(&mut upstream).await;
        say(&mut upstream, &html("short")).await;
        let head = head_of(&mut client).await;
        assert!(!head.contains("content-encoding") && !head.contains("vary"), "{head}");
        exactly(&mut client, "short").await;
        say(&mut client, GET).await;
        head_of(&mut upstream).await;
        let answer = html(&body);
        let ((), head) = tokio::join!(say(&mut upstream, &answer), async {
            let head = head_of(&mut client).await;
            exactly(&mut client, &body).await;
            head
        });
        assert!(
            head.contains("\r\nvary: accept-encoding\r\n") && head.contains("\r\netag: \"a\"\r\n"),
            "{head}"
        );
        edge.counted(RequestOutcome::Forward, 3).await;
        let bytes = &edge.metrics.compressed_bytes;
        let (before, after) = (bytes.count(CompressionSide::Before), bytes.count(CompressionSide::After));
        assert!(before == body.len() as u64 && after > 100 && after < before / 50, "{before}, {after}");
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
    });
}

#[test]
fn what_comes_bit_by_bit_is_not_held_back() {
    on_both(&compressing(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, ACCEPTING).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        say(
            &mut upstream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
        assert!(head_of(&mut client).await.contains("content-encoding: gzip\r\n"));
        let mut decoder = GzDecoder::new(Vec::new());
        let mut expected = String::new();
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            say(&mut upstream, &format!("{:x}\r\n{event}\r\n", event.len())).await;
            expected.push_str(event);
            while decoder.get_ref() != expected.as_bytes() {
                decoder.write_all(&chunk(&mut client).await.unwrap()).unwrap();
                decoder.flush().unwrap();
            }
        }
        say(&mut upstream, "0\r\n\r\n").await;
        while let Some(data) = chunk(&mut client).await {
            decoder.write_all(&data).unwrap();
        }
        assert_eq!(decoder.finish().unwrap(), expected.as_bytes());
        edge.counted(RequestOutcome::Forward, 1).await;
    });
}

#[test]
fn what_breaks_off_is_seen_to() {
    on_both(&compressing(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, ACCEPTING).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\nhalf")
            .await;
        head_of(&mut client).await;
        drop(upstream);
        let read = rest(&mut client).await;
        assert!(!read.ends_with("0\r\n\r\n"), "{read:?}");
        edge.counted(RequestOutcome::Truncated, 1).await;
    });
}

#[test]
fn head_is_answered_as_get_would_be() {
    on_both(&compressing(), async |edge| {
        let mut client = edge.client().await;
        say(&mut client, &ACCEPTING.replace("GET", "HEAD")).await;
        let mut upstream = edge.accept().await;
        head_of(&mut upstream).await;
        say(
            &mut upstream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"a\"\r\nContent-Length: 5000\r\n\r\n",
        )
        .await;
        let head = head_of(&mut client).await;
        for line in ["content-encoding: gzip", "vary: accept-encoding", "etag: W/\"a\""] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
        assert!(!head.contains("content-length"), "{head}");
        say(&mut client, GET).await;
        is_served(&mut upstream, &mut client).await;
    });
}

async fn is_served(upstream: &mut TcpStream, client: &mut TcpStream) {
    head_of(upstream).await;
    answer_ok(upstream, client).await;
}

#[test]
fn more_responses_than_there_is_memory_for_pass_as_they_are() {
    let mut setting = compressing();
    setting.compression.streams = 1;
    on_both(&setting, async |edge| {
        let body = "x".repeat(2_000);
        let mut first = edge.client().await;
        say(&mut first, ACCEPTING).await;
        let mut at_first = edge.accept().await;
        head_of(&mut at_first).await;
        say(
            &mut at_first,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
        assert!(head_of(&mut first).await.contains("content-encoding: gzip\r\n"));
        let mut second = edge.client().await;
        say(&mut second, ACCEPTING).await;
        let mut at_second = edge.accept().await;
        head_of(&mut at_second).await;
        say(&mut at_second, &html(&body)).await;
        let head = head_of(&mut second).await;
        assert!(
            !head.contains("content-encoding") && head.contains("\r\nvary: accept-encoding\r\n"),
            "{head}"
        );
        exactly(&mut second, &body).await;
        // Behind the end of the first there is room again.
        say(&mut at_first, "0\r\n\r\n").await;
        assert_eq!(decoded(&mut first).await, "");
        say(&mut second, ACCEPTING).await;
        head_of(&mut at_first).await;
        say(&mut at_first, &html(&body)).await;
        assert!(head_of(&mut second).await.contains("content-encoding: gzip\r\n"));
        assert_eq!(decoded(&mut second).await, body);
        edge.counted(RequestOutcome::Forward, 3).await;
        assert_eq!(edge.metrics.compression.count(CompressionResult::NoRoom), 1);
    });
}
