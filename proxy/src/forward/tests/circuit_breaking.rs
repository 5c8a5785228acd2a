//! Bounds on what is at one endpoint at a time.

use super::{tunnels::switched, *};

fn bounded(parameters: &'static str) -> Setting {
    Setting { parameters, ..Setting::default() }
}

/// A client whose request the upstream has read.
async fn begun(edge: &Edge) -> (TcpStream, TcpStream) {
    let mut client = edge.client().await;
    say(&mut client, GET).await;
    let mut upstream = edge.accept().await;
    head_of(&mut upstream).await;
    (client, upstream)
}

/// A client whose request waits, as the one at this place of the queue.
async fn waiting(edge: &Edge, place: i64) -> TcpStream {
    let mut client = edge.client().await;
    say(&mut client, GET).await;
    edge.waiting(place).await;
    client
}

/// The next request over `upstream`'s connection is that of `client`.
async fn is_next(upstream: &mut TcpStream, client: &mut TcpStream) {
    head_of(upstream).await;
    answer_ok(upstream, client).await;
}

async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), case).await.expect("the case did not end in time");
}

fn ended(edge: &Edge) -> [u64; 4] {
    use PendingEnd::{Admitted, ClientGone, QueueFull, Timeout};
    [Admitted, QueueFull, Timeout, ClientGone].map(|end| edge.metrics.pending.count(end))
}

#[test]
fn an_endpoint_has_no_more_requests_than_it_may() {
    for parameters in [";max_requests=1", ";max_connections=1"] {
        on_both(&bounded(parameters), async |edge| {
            let (mut first, mut upstream) = begun(&edge).await;
            let (mut second, mut third) = (waiting(&edge, 1).await, waiting(&edge, 2).await);
            answer_ok(&mut upstream, &mut first).await;
            // Each over the connection that has come free, in order.
            is_next(&mut upstream, &mut second).await;
            is_next(&mut upstream, &mut third).await;
            edge.counted(RequestOutcome::Forward, 3).await;
            assert_eq!((ended(&edge), edge.metrics.pending_now.get()), ([2, 0, 0, 0], 0));
            assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
            edge.asked_nobody();
        });
    }
}

#[test]
fn the_settings_bound_endpoints_that_say_nothing() {
    let upstream = config::UpstreamConfig { max_requests: Some(1), ..config::UpstreamConfig::default() };
    on_both(&Setting { upstream, ..Setting::default() }, async |edge| {
        let (mut first, mut upstream) = begun(&edge).await;
        let mut second = waiting(&edge, 1).await;
        answer_ok(&mut upstream, &mut first).await;
        is_next(&mut upstream, &mut second).await;
    });
}

#[test]
fn where_nobody_may_wait_a_request_is_refused_at_once() {
    on_both(&bounded(";max_requests=1;max_pending=0"), async |edge| {
        let (mut first, mut upstream) = begun(&edge).await;
        let mut second = edge.client().await;
        say(&mut second, GET).await;
        let refused = head_of(&mut second).await;
        assert!(
            refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nretry-after: 1\r\n"),
            "{refused}"
        );
        answer_ok(&mut upstream, &mut first).await;
        edge.counted_all(RequestOutcome::EndpointFull, 1, 2).await;
        assert_eq!(ended(&edge), [0, 1, 0, 0]);
    });
}

#[test]
fn a_client_leaves_places_in_the_queue_to_others() {
    on_both(&bounded(";max_requests=1;max_pending=4"), async |edge| {
        let (mut first, mut upstream) = begun(&edge).await;
        let (mut second, mut third) = (waiting(&edge, 1).await, waiting(&edge, 2).await);
        let mut fourth = edge.client().await;
        say(&mut fourth, GET).await;
        assert!(head_of(&mut fourth).await.starts_with("HTTP/1.1 503 "));
        answer_ok(&mut upstream, &mut first).await;
        is_next(&mut upstream, &mut second).await;
        is_next(&mut upstream, &mut third).await;
        edge.counted_all(RequestOutcome::EndpointFull, 1, 4).await;
    });
}

#[test]
fn who_waits_too_long_is_refused_and_leaves_no_trace() {
    let upstream = config::UpstreamConfig {
        pending_timeout: config::Span::millis(50),
        ..config::UpstreamConfig::default()
    };
    let setting = Setting { upstream, ..bounded(";max_requests=1;max_pending=1") };
    on_both(&setting, async |edge| {
        let (mut first, mut upstream) = begun(&edge).await;
        let mut second = waiting(&edge, 1).await;
        let refused = head_of(&mut second).await;
        assert!(
            refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nretry-after: 1\r\n"),
            "{refused}"
        );
        answer_ok(&mut upstream, &mut first).await;
        say(&mut first, GET).await;
        is_next(&mut upstream, &mut first).await;
        edge.counted_all(RequestOutcome::PendingTimeout, 1, 3).await;
        assert_eq!(ended(&edge), [0, 0, 1, 0]);
    });
}

#[test]
fn clients_that_go_away_leave_their_places_to_others() {
    on_both(&bounded(";max_requests=1"), async |edge| {
        let (first, mut upstream) = begun(&edge).await;
        let second = waiting(&edge, 1).await;
        let mut third = waiting(&edge, 2).await;
        reset(second);
        edge.waiting(1).await;
        reset(first);
        assert_eq!(rest(&mut upstream).await, "");
        let mut upstream = edge.accept().await;
        is_next(&mut upstream, &mut third).await;
        edge.counted_all(RequestOutcome::ClientGone, 2, 3).await;
        assert_eq!((ended(&edge), edge.metrics.pending_now.get()), ([1, 0, 0, 1], 0));
    });
}

#[test]
fn a_response_that_breaks_off_leaves_its_place_to_another() {
    on_both(&bounded(";max_requests=1"), async |edge| {
        let (mut first, mut upstream) = begun(&edge).await;
        let mut second = waiting(&edge, 1).await;
        say(&mut upstream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        head_of(&mut first).await;
        drop(upstream);
        rest(&mut first).await;
        let mut upstream = edge.accept().await;
        is_next(&mut upstream, &mut second).await;
        edge.counted_all(RequestOutcome::Truncated, 1, 2).await;
    });
}

#[test]
fn a_connection_that_switches_protocols_keeps_its_place_to_its_end() {
    for parameters in [";max_requests=1", ";max_connections=1"] {
        on_both(&bounded(parameters), async |edge| {
            let (mut client, mut upstream) = switched(&edge).await;
            let mut second = waiting(&edge, 1).await;
            say(&mut client, "ping").await;
            exactly(&mut upstream, "ping").await;
            assert_eq!(edge.metrics.pending_now.get(), 1);
            drop((client, upstream));
            let mut upstream = edge.accept().await;
            is_next(&mut upstream, &mut second).await;
        });
    }
}

#[test]
fn a_request_goes_where_there_is_room_and_waits_for_whichever_has_some_first() {
    async fn case<T: Transport>(transport: T) {
        let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |listener: &TcpListener| {
            format!("http://127.0.0.1:{};max_requests=1", listener.local_addr().unwrap().port())
        };
        let target = format!("{}, {}", url(&one), url(&other));
        let edge = edge_to(transport, &Setting::default(), one, &target);
        for turn in 0..8 {
            let (mut first, mut second) = (edge.client().await, edge.client().await);
            say(&mut first, GET).await;
            say(&mut second, GET).await;
            // One each, whatever chance says.
            let (mut at_one, mut at_other) = (edge.accept().await, other.accept().await.unwrap().0);
            head_of(&mut at_one).await;
            head_of(&mut at_other).await;
            let mut third = waiting(&edge, 1).await;
            let (next, last) =
                if turn % 2 == 0 { (&mut at_one, &mut at_other) } else { (&mut at_other, &mut at_one) };
            say(next, OK).await;
            is_next(next, &mut third).await;
            say(last, OK).await;
            for client in [&mut first, &mut second] {
                head_of(client).await;
                exactly(client, "ok").await;
            }
            edge.counted(RequestOutcome::Forward, 3 * (turn + 1)).await;
            // The next turn opens others.
            drop((at_one, at_other));
            few_turns().await;
        }
        assert_eq!((ended(&edge), edge.metrics.ejections.get()), ([8, 0, 0, 0], 0));
    }
    Epoll::run(|transport| in_time(case(transport))).unwrap();
    Uring::run(|transport| in_time(case(transport))).unwrap();
}

#[test]
fn unused_connections_of_another_worker_make_room() {
    async fn case<T: Transport>(transport: T) {
        let setting = Setting::default();
        let listener = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let upstream = listener().await;
        let port = upstream.local_addr().unwrap().port();
        let target = format!("http://127.0.0.1:{port}/app;max_connections=2");
        let settings = upstream_settings(&setting);
        let one = worker(transport.clone(), &setting, upstream, &target, Arc::clone(&settings));
        // Another base path is another destination, at the same address.
        let target = target.replace("/app", "");
        let other = worker(transport, &setting, listener().await, &target, settings);
        let ((mut first, mut at_first), (mut second, mut at_second)) = (begun(&one).await, begun(&one).await);
        answer_ok(&mut at_first, &mut first).await;
        answer_ok(&mut at_second, &mut second).await;
        one.counted(RequestOutcome::Forward, 2).await;
        let mut third = other.client().await;
        say(&mut third, GET).await;
        // The longest unused is closed, and no other.
        assert_eq!(rest(&mut at_first).await, "");
        let mut at_third = one.accept().await;
        is_next(&mut at_third, &mut third).await;
        say(&mut second, GET).await;
        is_next(&mut at_second, &mut second).await;
        one.counted(RequestOutcome::Forward, 3).await;
        other.counted(RequestOutcome::Forward, 1).await;
    }
    Epoll::run(|transport| in_time(case(transport))).unwrap();
    Uring::run(|transport| in_time(case(transport))).unwrap();
}
