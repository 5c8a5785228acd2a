//! `/metrics` in Prometheus's text format 0.0.4.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

use super::server::ControlResponse;

/// Answers a scrape. Collectors read the kernel's counters, so it happens off the runtime's own threads.
pub(super) async fn answer<B>(registry: Registry, request: Request<B>) -> ControlResponse {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {}
        (_, "/metrics") => return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"),
        _ => return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    }
    let gathered =
        tokio::task::spawn_blocking(move || TextEncoder::new().encode_to_string(&registry.gather()));
    match gathered.await {
        Ok(Ok(text)) => with(StatusCode::OK, TEXT_FORMAT, text),
        Ok(Err(error)) => {
            tracing::error!(%error, "metrics could not be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n")
        }
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
    }
}

/// A response in words.
pub(super) fn plain(status: StatusCode, text: &str) -> ControlResponse {
    with(status, "text/plain; charset=utf-8", text.to_owned())
}

/// A response of these three parts.
pub(super) fn with(status: StatusCode, kind: &'static str, text: String) -> ControlResponse {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use http_body_util::BodyExt;

    use super::*;
    use crate::telemetry;

    async fn ask(method: &str, path: &str) -> (StatusCode, String) {
        let registry = Registry::new();
        telemetry::measure_process(&registry).unwrap();
        crate::worker::WorkerMetrics::register(&registry).unwrap();
        crate::forward::RequestMetrics::register(&registry).unwrap();
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let response = answer(registry, request).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_metrics_are_told() {
        for (method, path, status) in [
            ("GET", "/metrics", 200),
            ("HEAD", "/metrics", 200),
            ("POST", "/metrics", 405),
            ("GET", "/", 404),
            ("GET", "/metrics/x", 404),
        ] {
            assert_eq!(ask(method, path).await.0, status, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn promtool_finds_no_fault_in_what_rooms_register() {
        let (_, text) = ask("GET", "/metrics").await;
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is part of Debian's `prometheus`");
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let said = promtool.wait_with_output().unwrap();
        assert!(said.status.success(), "{}\n{text}", String::from_utf8_lossy(&said.stderr));
    }
}
