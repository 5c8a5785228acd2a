//! Endpoints that are told by a PROXY header whom each connection is for.

use super::{limits::paused, *};

/// The line that a connection begins with.
async fn line_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn a_connection_begins_with_its_client_and_carries_nobody_elses_requests() {
    let setting = Setting { parameters: ";proxy_protocol=v1", ..Setting::default() };
    on_both(&setting, async |edge| {
        let (mut first, mut second) = (edge.client().await, edge.client().await);
        let mut upstreams = Vec::new();
        for client in [&mut first, &mut second] {
            say(client, GET).await;
            let mut upstream = edge.accept().await;
            let (from, to) = (client.local_addr().unwrap(), edge.address);
            let line = format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
            assert_eq!(line_of(&mut upstream).await, line);
            assert!(head_of(&mut upstream).await.starts_with("GET /a?b "));
            answer_ok(&mut upstream, client).await;
            upstreams.push(upstream);
        }
        // Each over its own again, which begins with the request now.
        for (client, upstream) in [&mut first, &mut second].into_iter().zip(&mut upstreams) {
            say(client, GET).await;
            assert!(head_of(upstream).await.starts_with("GET /a?b "));
            answer_ok(upstream, client).await;
        }
        edge.counted(RequestOutcome::Forward, 4).await;
        let count = |origin| edge.metrics.connections.count(origin);
        assert_eq!((count(ConnectionOrigin::Open), count(ConnectionOrigin::Reuse)), (2, 2));
        edge.asked_nobody();
    });
}

#[test]
fn a_check_of_health_is_for_nobody() {
    let setting = Setting { parameters: ";proxy_protocol=v1;health=/up", ..Setting::default() };
    paused(&setting, async |mut edge| {
        let mut client = edge.client();
        say(&mut client, GET).await;
        let (mut asked, mut checked) = (edge.upstream.accept().await, edge.upstream.accept().await);
        assert_eq!(line_of(&mut asked).await, "PROXY TCP4 127.0.0.1 0.0.0.0 1 0\r\n");
        assert_eq!(line_of(&mut checked).await, "PROXY UNKNOWN\r\n");
        assert!(head_of(&mut checked).await.starts_with("GET /up "));
    });
}
