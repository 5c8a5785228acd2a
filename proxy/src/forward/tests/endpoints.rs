//! Targets of several endpoints.

use super::*;

/// Answers each request with its port, and says what Host it read.
async fn serve(listener: TcpListener) {
    let port = listener.local_addr().unwrap().port();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::task::spawn_local(answer_each(stream, move |head| {
            let is_ours = head.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n"));
            let body = if is_ours { port.to_string() } else { head };
            Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        }));
    }
}

/// What the client is answered, status and body.
async fn ask(client: &mut TcpStream, request: &str) -> (String, String) {
    say(client, request).await;
    let head = head_of(client).await;
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).await.unwrap();
    (head[9..12].to_owned(), String::from_utf8(body).unwrap())
}

/// Two endpoints that answer, and one where nobody listens.
struct Endpoints {
    live: [std::net::TcpListener; 2],
    dead: u16,
}

impl Endpoints {
    fn new() -> Self {
        let listener = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dead = listener().local_addr().unwrap().port();
        Self { live: [listener(), listener()], dead }
    }

    fn ports(&self) -> [u16; 2] {
        self.live.each_ref().map(|listener| listener.local_addr().unwrap().port())
    }

    /// Serves both, within a runtime.
    fn serve(&self) {
        for listener in &self.live {
            let listener = listener.try_clone().unwrap();
            listener.set_nonblocking(true).unwrap();
            tokio::task::spawn_local(serve(TcpListener::from_std(listener).unwrap()));
        }
    }
}

const POST: &str = "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n";

/// Plays `case` over each back end, before a target of which `text` makes its URLs.
fn before<F: Future<Output = ()>>(
    upstream: &config::UpstreamConfig,
    text: impl Fn(&Endpoints) -> String,
    case: impl Fn(Edge, [u16; 2]) -> F,
) {
    let setting = Setting { upstream: upstream.clone(), ..Setting::default() };
    let endpoints = Endpoints::new();
    let target = text(&endpoints);
    Epoll::run(|transport| play(transport, &setting, &endpoints, &target, &case)).unwrap();
    Uring::run(|transport| play(transport, &setting, &endpoints, &target, &case)).unwrap();
}

async fn play<T: Transport, F: Future<Output = ()>>(
    transport: T,
    setting: &Setting,
    endpoints: &Endpoints,
    target: &str,
    case: impl Fn(Edge, [u16; 2]) -> F,
) {
    endpoints.serve();
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = edge_to(transport, setting, unused, target);
    tokio::time::timeout(Duration::from_secs(20), case(edge, endpoints.ports()))
        .await
        .expect("the case hangs");
}

fn both(endpoints: &Endpoints) -> String {
    endpoints.ports().map(|port| format!("http://127.0.0.1:{port}")).join(", ")
}

#[test]
fn requests_are_spread_and_each_endpoint_is_called_by_its_own_name() {
    before(&config::UpstreamConfig::default(), both, async |edge, ports| {
        let mut client = edge.client().await;
        let mut seen = [0, 0];
        for _ in 0..64 {
            let (status, body) = ask(&mut client, GET).await;
            let at =
                ports.iter().position(|port| body == port.to_string()).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(status, "200");
            seen[at] += 1;
        }
        assert!(seen.iter().all(|count| *count > 8), "{seen:?}");
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 2);
    });
}

#[test]
fn a_client_may_be_kept_at_one_endpoint() {
    let upstream = config::UpstreamConfig {
        balance: config::Balance::ClientAddress,
        ..config::UpstreamConfig::default()
    };
    before(&upstream, both, async |edge, _| {
        let mut client = edge.client().await;
        let (_, first) = ask(&mut client, GET).await;
        for _ in 0..32 {
            assert_eq!(ask(&mut edge.client().await, GET).await.1, first);
        }
    });
}

#[test]
fn an_endpoint_that_is_down_costs_no_request_and_is_left_alone() {
    let with_dead =
        |endpoints: &Endpoints| format!("http://127.0.0.1:{};weight=9, {}", endpoints.dead, both(endpoints));
    // Every attempt opens a connection.
    let upstream = config::UpstreamConfig { idle_per_target: 0, ..config::UpstreamConfig::default() };
    before(&upstream, with_dead, async |edge, _| {
        let mut client = edge.client().await;
        for _ in 0..32 {
            // What was not sent may go elsewhere, whatever the method.
            assert_eq!(ask(&mut client, POST).await.0, "200");
        }
        let count = |origin| edge.metrics.connections.count(origin);
        let (failed, gone_on) = (count(ConnectionOrigin::Fail), count(ConnectionOrigin::Failover));
        assert_eq!((failed, gone_on, edge.metrics.ejections.get()), (3, 3, 1));
        edge.counted(RequestOutcome::Forward, 32).await;
    });
}

#[test]
fn a_request_that_an_endpoint_has_read_goes_to_another_only_if_it_may_be_repeated() {
    on_both(&Setting::default(), async |edge| {
        // Both endpoints are played by one listener that closes the first connection after its request.
        for (request, is_repeated) in [(GET, true), (POST, false)] {
            let port = edge.upstream.local_addr().unwrap().port();
            let setting = Setting::default();
            let target = format!("http://127.0.0.1:{port}, http://127.0.0.2:{port}");
            let wide = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
            let other = edge_to(Epoll, &setting, TcpListener::bind("127.0.0.1:0").await.unwrap(), &target);
            let mut client = other.client().await;
            say(&mut client, request).await;
            let (mut first, _) = tokio::select! {
                accepted = edge.upstream.accept() => accepted.unwrap(),
                accepted = wide.accept() => accepted.unwrap(),
            };
            head_of(&mut first).await;
            drop(first);
            if is_repeated {
                let (mut second, _) = tokio::select! {
                    accepted = edge.upstream.accept() => accepted.unwrap(),
                    accepted = wide.accept() => accepted.unwrap(),
                };
                head_of(&mut second).await;
                say(&mut second, OK).await;
            }
            let status = if is_repeated { "200" } else { "502" };
            assert_eq!(&head_of(&mut client).await[9..12], status);
        }
    });
}
