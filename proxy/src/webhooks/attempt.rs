//! One POST to a receiver.
//! Invariants: it ends within fifteen seconds, with what is read of the answer bounded; redirects are not followed, since where one leads was
//! not chosen by the operator (`answers_are_judged_by_their_status`).

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::{course::Attempted, metrics::Outcome, payload, signature::Secret};
use crate::{
    store::{instant::Micros, state_table::Event},
    telemetry::error_chain,
};

/// Sends events; connections are shared. Addresses of private networks are permitted: the URL is the operator's.
#[derive(Clone)]
pub(super) struct Poster(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Poster {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self(client))
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
        match tokio::time::timeout(PATIENCE, self.exchange(request)).await {
            Ok(Ok((status, headers))) => judge(status, &headers),
            Ok(Err(error)) => {
                let cause = error.source().map_or_else(|| error.to_string(), error_chain);
                failed(Outcome::Unreachable, format!("not reached: {cause}"))
            }
            Err(_) => failed(Outcome::TimedOut, format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap), hyper_util::client::legacy::Error> {
        let (head, body) = self.0.request(request).await?.into_parts();
        // A short body is read so that the connection can be used again; what it says does not matter.
        let _ = Limited::new(body, LONGEST_ANSWER).collect().await;
        Ok((head.status, head.headers))
    }
}

fn request(
    url: &Uri,
    secret: &Secret,
    event: &Event,
    now: Micros,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let (id, seconds, body) = (event.id.to_string(), now.since_epoch() / 1_000_000, payload::body(event));
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
const IDLE: Duration = Duration::from_mins(1);
const LONGEST_ANSWER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

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
}
