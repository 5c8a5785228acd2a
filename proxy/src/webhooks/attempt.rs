//! One POST to a receiver.
//! Invariants: it ends within sixteen seconds, with what is read of the answer bounded, and its status counts, whether its body ends or not
//! (`an_answer_counts_whether_its_body_ends_or_not`); redirects are not followed, since where one leads was
//! not chosen by the operator (`answers_are_judged_by_their_status`).

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};

use super::{course::Attempted, metrics::Outcome, payload, signature::Secret};
use crate::{
    http_client::{PooledClient, client_of_urls},
    store::{instant::Micros, state_table::Event},
    telemetry::error_chain,
};

/// Sends events; connections are shared. Addresses of private networks are permitted: the URL is the operator's.
#[derive(Clone)]
pub(super) struct Poster(PooledClient<Full<Bytes>>);

impl Poster {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        client_of_urls(IDLE).map(Self)
    }

    /// Sends `event` to `url` at `now`, signed with `secret`.
    ///
    /// # Cancel safety
    /// Dropped, the request is given up; the receiver may have it.
    pub(super) async fn post(&self, url: &Uri, secret: &Secret, event: &Event, now: Micros) -> Attempted {
        let request = match request(url, secret, event, now) {
            Ok(request) => request,
            Err(error) => return failed(Outcome::Unreachable, error.to_string()),
        };
        match tokio::time::timeout(PATIENCE, self.0.request(request)).await {
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                // A short body is read so that the connection can be used again. Neither what it says nor whether it ends matters: the
                // receiver has the event.
                let body = Limited::new(body, LONGEST_ANSWER).collect();
                let _ = tokio::time::timeout(BODY_PATIENCE, body).await;
                judge(head.status, &head.headers)
            }
            Ok(Err(error)) => {
                let cause = error.source().map_or_else(|| error.to_string(), error_chain);
                failed(Outcome::Unreachable, format!("not reached: {cause}"))
            }
            Err(_) => failed(Outcome::TimedOut, format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

fn request(
    url: &Uri,
    secret: &Secret,
    event: &Event,
    now: Micros,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let (id, seconds, body) = (event.id.to_string(), now.seconds(), payload::body(event));
    Request::builder()
        .method(Method::POST)
        .uri(url.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("gatehouse/", env!("CARGO_PKG_VERSION")))
        .header("webhook-signature", secret.sign(&id, seconds, &body))
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds)
        .body(Full::new(body.into()))
}

fn judge(status: StatusCode, headers: &HeaderMap) -> Attempted {
    let outcome = match status.as_u16() {
        200..300 => Outcome::Delivered,
        300..400 => Outcome::Redirected,
        410 => Outcome::Gone,
        // RFC 9110 §15.5.9, §15.6; RFC 8470 §5.2; RFC 6585 §4. A 500 is a program that ran, and fails with this event.
        408 | 425 | 429 | 502..=504 => Outcome::Unavailable,
        _ => Outcome::Refused,
    };
    // A date instead of seconds is not looked at: our own pause will do.
    let retry_after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let problem = match outcome {
        Outcome::Redirected => format!("answered {status}; redirects are not followed"),
        _ => format!("answered {status}"),
    };
    Attempted { outcome, problem, retry_after: retry_after.map(Duration::from_secs) }
}

fn failed(outcome: Outcome, problem: String) -> Attempted {
    Attempted { outcome, problem, retry_after: None }
}

/// The specification asks for 15 to 30 s ("Request timeout").
const PATIENCE: Duration = Duration::from_secs(15);
/// For the body of an answer.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_mins(1);
const LONGEST_ANSWER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::webhooks::fixture::{SECRET, message};

    #[test]
    fn answers_are_judged_by_their_status() {
        for (status, outcome) in [
            (200, Outcome::Delivered),
            (204, Outcome::Delivered),
            (301, Outcome::Redirected),
            (307, Outcome::Redirected),
            (400, Outcome::Refused),
            (404, Outcome::Refused),
            (410, Outcome::Gone),
            (422, Outcome::Refused),
            (500, Outcome::Refused),
            (408, Outcome::Unavailable),
            (425, Outcome::Unavailable),
            (429, Outcome::Unavailable),
            (502, Outcome::Unavailable),
            (503, Outcome::Unavailable),
            (504, Outcome::Unavailable),
        ] {
            let judged = judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
            assert_eq!((judged.outcome, judged.retry_after), (outcome, None), "{status}");
        }
        let asks = |text: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            judge(StatusCode::TOO_MANY_REQUESTS, &headers).retry_after
        };
        assert_eq!(asks("120"), Some(Duration::from_mins(2)));
        assert_eq!(asks("Sun, 29 Nov 2026 03:20:00 GMT"), None);
        assert_eq!(asks("-1"), None);
    }

    /// What is made of a receiver that answers `answer` and keeps the connection.
    async fn answered(answer: &'static str) -> Attempted {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
        let receiver = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            message(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let secret = Secret::read(SECRET.as_bytes()).unwrap();
        let (domain, now) = ("a.example".parse().unwrap(), Micros::from_epoch(1));
        let event =
            Event::new(crate::config::EventKind::DomainCreated, &domain, None, &serde_json::json!({}), now);
        let attempted = Poster::new().unwrap().post(&url, &secret, &event.unwrap(), now).await;
        receiver.abort();
        attempted
    }

    #[tokio::test]
    async fn an_answer_counts_whether_its_body_ends_or_not() {
        for (answer, outcome) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Outcome::Delivered),
            ("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", Outcome::Delivered),
            ("HTTP/1.1 204 No Content\r\n\r\n", Outcome::Delivered),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n\r\n", Outcome::Refused),
        ] {
            assert_eq!(answered(answer).await.outcome, outcome, "{answer}");
        }
    }
}
