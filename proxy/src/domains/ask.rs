//! The ask endpoint: `GET <url>?domain=NAME`, as Caddy's `on_demand_tls.ask` does it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{
    config::without_query,
    http_client::{PooledClient, client_of_urls},
    name::ServerName,
    telemetry::{BoxedError, admit_line},
};

/// A client of one endpoint. Redirects are never followed: where one leads was not chosen by the operator.
pub(super) struct Ask {
    client: PooledClient<Empty<Bytes>>,
    url: String,
    timeout: Duration,
}

/// What the endpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Allow,
    Deny,
    /// No answer about the name.
    Silence(Silence),
}

/// Why the endpoint says nothing of a name: never a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// A redirect.
    Redirected,
    /// It reports that it cannot answer now.
    Unavailable,
    /// It did not answer in time.
    TimedOut,
    /// No connection, or none that lasted.
    Unreachable,
}

impl Silence {
    fn cause(self) -> &'static str {
        match self {
            Self::Redirected => "ask_redirected",
            Self::Unavailable => "ask_unavailable",
            Self::TimedOut => "ask_timed_out",
            Self::Unreachable => "ask_unreachable",
        }
    }
}

/// How the endpoint fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskState {
    /// There is none.
    #[default]
    Off,
    /// It answered the last question, or was not asked yet.
    Answers,
    /// It redirected, failed or did not answer in time.
    Silent,
}

/// Why the endpoint cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Not a URL that can be asked.
    #[error("domains.ask: `{0}` is not an endpoint; write it like `https://domains.example.com/check`")]
    Url(String),
    /// No TLS for it.
    #[error("domains.ask: no TLS client could be created; install the package `ca-certificates`")]
    Tls(#[from] rustls::Error),
}

/// What an endpoint makes of a name that nobody has.
#[derive(Debug)]
pub enum Probed {
    /// It denies it, as it should.
    Denies,
    /// It allows it.
    Allows,
    /// It says nothing of it: a redirect, an error of its own, or no answer; with what it said instead.
    Silent {
        /// Which of them.
        why: Silence,
        /// Its status, or how it failed.
        said: String,
    },
}

/// Asks the endpoint at `url` once, for a name that nobody has (RFC 6761 §6.4).
///
/// # Cancel safety
/// As [`Ask::ask`].
pub async fn probe(url: &str, timeout: Duration) -> Result<Probed, AskError> {
    let ask = Ask::new(url, timeout)?;
    let Ok(nobody) = ServerName::parse("gatehouse-doctor.invalid") else { return Ok(Probed::Denies) };
    let (reply, cause) = ask.reply(&nobody).await;
    Ok(match reply {
        Reply::Allow => Probed::Allows,
        Reply::Deny => Probed::Denies,
        Reply::Silence(why) => {
            let said = cause.map_or_else(String::new, |cause| crate::telemetry::error_chain(&*cause));
            Probed::Silent { why, said }
        }
    })
}

impl Ask {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, AskError> {
        let refuse = || AskError::Url(without_query(url).to_owned());
        let parsed: http::Uri = url.parse().map_err(|_| refuse())?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.authority().is_none() {
            return Err(refuse());
        }
        Ok(Self { client: client_of_urls(IDLE)?, url: url.to_owned(), timeout })
    }

    /// Asks for `name`.
    ///
    /// # Cancel safety
    /// Dropped, the request is given up and its connection closed.
    pub(super) async fn ask(&self, name: &ServerName) -> Reply {
        let (reply, cause) = self.reply(name).await;
        if let Reply::Silence(silence) = reply {
            self.warn(silence, cause.as_ref());
        }
        reply
    }

    async fn reply(&self, name: &ServerName) -> (Reply, Option<BoxedError>) {
        let Ok(uri) = question(&self.url, name).parse::<http::Uri>() else {
            return (Reply::Silence(Silence::Unreachable), None);
        };
        match tokio::time::timeout(self.timeout, self.status(uri)).await {
            Ok(Ok(status)) => (meaning(status), Some(status.to_string().into())),
            Ok(Err(error)) => (Reply::Silence(Silence::Unreachable), Some(error.into())),
            Err(late) => (Reply::Silence(Silence::TimedOut), Some(late.into())),
        }
    }

    /// The URL's query may hold a secret and is left out.
    fn warn(&self, silence: Silence, cause: Option<&BoxedError>) {
        let endpoint = without_query(&self.url);
        let Some(left_out) = admit_line(silence.cause(), endpoint) else { return };
        let error = cause.map(|cause| &**cause as &(dyn std::error::Error + 'static));
        warn!(
            endpoint,
            ?silence,
            error,
            left_out,
            "the ask endpoint does not answer whether names may be served: names that it allowed are still served, new ones are refused; check `domains.ask`"
        );
    }

    async fn status(&self, uri: http::Uri) -> Result<http::StatusCode, hyper_util::client::legacy::Error> {
        let response = self.client.get(uri).await?;
        let status = response.status();
        // A short body is read so that the connection can be used again; what it says does not matter.
        let _ = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok(status)
    }
}

/// Names hold nothing that a query must escape (RFC 3986 §3.4).
fn question(url: &str, name: &ServerName) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}domain={name}")
}

/// 2xx allows and others deny, save those that say nothing of the name: a redirect (RFC 9110 §15.4), and those by which a server
/// says that it cannot answer now (RFC 9110 §15.5.9 and §15.6, RFC 6585 §4). An outage must not look like a denial of all names.
fn meaning(status: http::StatusCode) -> Reply {
    match status.as_u16() {
        200..300 => Reply::Allow,
        300..400 => Reply::Silence(Silence::Redirected),
        408 | 429 | 500.. => Reply::Silence(Silence::Unavailable),
        _ => Reply::Deny,
    }
}

const IDLE: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_one_more_parameter_of_the_url() {
        let name = ServerName::parse("a.example").unwrap();
        for (url, asked) in [
            ("http://ask.example", "http://ask.example?domain=a.example"),
            ("https://ask.example/check", "https://ask.example/check?domain=a.example"),
            ("https://ask.example/check?key=1", "https://ask.example/check?key=1&domain=a.example"),
            ("https://ask.example/check#part", "https://ask.example/check?domain=a.example"),
        ] {
            assert_eq!(question(url, &name), asked);
            asked.parse::<http::Uri>().unwrap();
        }
    }

    #[test]
    fn only_an_answer_about_the_name_denies_it() {
        for (status, reply) in [
            (200, Reply::Allow),
            (204, Reply::Allow),
            (301, Reply::Silence(Silence::Redirected)),
            (302, Reply::Silence(Silence::Redirected)),
            (308, Reply::Silence(Silence::Redirected)),
            (400, Reply::Deny),
            (404, Reply::Deny),
            (403, Reply::Deny),
            (408, Reply::Silence(Silence::Unavailable)),
            (429, Reply::Silence(Silence::Unavailable)),
            (502, Reply::Silence(Silence::Unavailable)),
        ] {
            assert_eq!(meaning(http::StatusCode::from_u16(status).unwrap()), reply, "{status}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for url in ["", "ask.example", "/check", "ftp://ask.example", "unix:/run/ask"] {
            assert!(Ask::new(url, Duration::from_secs(1)).is_err(), "{url}");
        }
    }
}
