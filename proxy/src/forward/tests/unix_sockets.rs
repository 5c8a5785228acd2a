//! Upstreams at Unix sockets. hyper plays them.

use std::{convert::Infallible, path::Path};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use super::*;

/// Answers each request with its Host or `:authority`, path and version.
async fn serve(listener: UnixListener, protocol: &'static str) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(async |request: Request<Incoming>| {
            let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
            let host = host.or(request.uri().authority().map(ToString::to_string));
            let seen = format!("{} {} {:?}", host.unwrap(), request.uri().path(), request.version());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(seen))))
        });
        tokio::task::spawn_local(async move {
            let stream = TokioIo::new(stream);
            let _ = match protocol {
                "h2" => conn::http2::Builder::new(Local).serve_connection(stream, service).await,
                _ => conn::http1::Builder::new().serve_connection(stream, service).await,
            };
        });
    }
}

/// Plays `case` over each back end, before a target of which `text` makes its URL.
fn before<F: Future<Output = ()>>(
    setting: &Setting,
    protocol: &'static str,
    text: impl Fn(&Path) -> String,
    case: impl Fn(Edge) -> F,
) {
    async fn play<T: Transport, F: Future<Output = ()>>(
        transport: T,
        setting: &Setting,
        (protocol, text): (&'static str, &dyn Fn(&Path) -> String),
        case: &impl Fn(Edge) -> F,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        tokio::task::spawn_local(serve(UnixListener::bind(&path).unwrap(), protocol));
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let edge = edge_to(transport, setting, unused, &text(&path));
        tokio::time::timeout(Duration::from_secs(20), case(edge)).await.expect("the case hangs");
    }
    Epoll::run(|transport| play(transport, setting, (protocol, &text), &case)).unwrap();
    Uring::run(|transport| play(transport, setting, (protocol, &text), &case)).unwrap();
}

#[test]
fn requests_to_a_socket_share_its_connection_and_name_the_clients_host() {
    for (protocol, version) in [("http/1.1", "HTTP/1.1"), ("h2", "HTTP/2.0")] {
        let text = |path: &Path| format!("unix:{};protocol={protocol}", path.display());
        before(&Setting::default(), protocol, text, async |edge| {
            let mut client = edge.client().await;
            for _ in 0..3 {
                say(&mut client, GET).await;
                let head = head_of(&mut client).await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                exactly(&mut client, &format!("shop.example /a {version}")).await;
            }
            edge.counted(RequestOutcome::Forward, 3).await;
            assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 1);
            assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Reuse), 2);
        });
    }
}

#[test]
fn a_socket_where_nobody_listens_is_failed_over_from() {
    let text = |path: &Path| format!("unix:{0}.gone;weight=9, unix:{0}", path.display());
    before(&Setting::default(), "http/1.1", text, async |edge| {
        let mut client = edge.client().await;
        for _ in 0..16 {
            say(&mut client, GET).await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
            exactly(&mut client, "shop.example /a HTTP/1.1").await;
        }
        edge.counted(RequestOutcome::Forward, 16).await;
    });
}

#[test]
fn an_entry_of_the_table_leads_to_no_socket_that_the_settings_do_not_list() {
    let text = |path: &Path| format!("unix:{}", path.display());
    let folder = format!("{}/", std::env::temp_dir().display());
    for (permitted, status, outcome) in
        [("/run/apps/", "502", RequestOutcome::Forbidden), (folder.as_str(), "200", RequestOutcome::Forward)]
    {
        let upstream = config::UpstreamConfig {
            permitted_sockets: vec![permitted.to_owned().try_into().unwrap()],
            ..config::UpstreamConfig::default()
        };
        let setting = Setting { source: PermissionSource::Table, upstream, ..Setting::default() };
        before(&setting, "http/1.1", text, async |edge| {
            let mut client = edge.client().await;
            say(&mut client, GET).await;
            assert_eq!(&head_of(&mut client).await[9..12], status);
            edge.counted(outcome, 1).await;
        });
    }
}
