//! When the CA would have a certificate renewed (RFC 9773), which anybody may ask it, without an account.

use std::time::{Duration, Instant, SystemTime};

use hyper::{Method, Request, StatusCode};
use instant_acme::{BodyWrapper, HttpClient as _};

use super::{
    Acme,
    directory::{IssuerDirectoryError, directory},
    http,
};
use crate::{clock, store::state_table::RenewalWindow};

/// What the CA says of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::certificates) struct CaAdvice {
    /// None when it is malformed.
    pub(in crate::certificates) window: Option<RenewalWindow>,
    /// The URL of a page that says why.
    pub(in crate::certificates) explanation: Option<String>,
    /// When it wants to be asked again.
    pub(in crate::certificates) retry_after: Option<SystemTime>,
}

/// Why a CA says nothing of a certificate.
#[derive(Debug, thiserror::Error)]
pub(in crate::certificates) enum CaAdviceError {
    /// Its directory lists no such resource.
    #[error("the CA does not say when certificates are to be renewed")]
    Unsupported,
    /// The directory.
    #[error("the CA's directory cannot be read")]
    Directory(#[from] IssuerDirectoryError),
    /// No valid response.
    #[error("the CA does not answer when a certificate is to be renewed")]
    Unreachable {
        #[source]
        source: instant_acme::Error,
        /// When it may be asked again.
        retry_after: Option<SystemTime>,
    },
    /// Another status than success.
    #[error("the CA answers {status} when it is asked when a certificate is to be renewed")]
    Status {
        status: StatusCode,
        /// When it may be asked again.
        retry_after: Option<SystemTime>,
    },
    /// Another body than RFC 9773 §4.2 wants.
    #[error("the CA's renewal information cannot be read")]
    Malformed(#[from] serde_json::Error),
}

impl CaAdviceError {
    /// When the CA may be asked again, if it says so.
    pub(in crate::certificates) fn retry_after(&self) -> Option<SystemTime> {
        match self {
            Self::Unreachable { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            Self::Unsupported | Self::Directory(_) | Self::Malformed(_) => None,
        }
    }
}

/// The resource's URL as the directory had it, if it had any, and when it was read.
pub(super) type RenewalInfoUrl = (Instant, Option<String>);

impl Acme {
    /// Asks for the window of `certificate`, the identifier of RFC 9773 §4.1.
    pub(in crate::certificates) async fn advice(&self, certificate: &str) -> Result<CaAdvice, CaAdviceError> {
        http::within_order(async {
            let url = self.renewal_info_url().await?.ok_or(CaAdviceError::Unsupported)?;
            // RFC 9773 §4.1: the identifier follows the resource's URL as one more segment.
            let uri = format!("{}/{certificate}", url.trim_end_matches('/'));
            let request = Request::builder().method(Method::GET).uri(uri).body(BodyWrapper::default());
            let request = request.map_err(IssuerDirectoryError::from)?;
            let asked = async {
                let response = self.http.request(request).await?;
                let mut body = response.body;
                body.into_bytes().await.map_err(instant_acme::Error::Other)
            };
            match asked.await {
                Ok(body) => read(&body, http::retry_after()),
                Err(source) => Err(failed(source, http::retry_after())),
            }
        })
        .await
    }

    /// A directory is read again after a while: a CA may begin to say it, or cease to.
    async fn renewal_info_url(&self) -> Result<Option<String>, IssuerDirectoryError> {
        let mut held = self.renewal_info_url.lock().await;
        let now = clock::now();
        if let Some((_, url)) =
            held.as_ref().filter(|(read_at, _)| now.saturating_duration_since(*read_at) < DIRECTORY_LIFE)
        {
            return Ok(url.clone());
        }
        let url = directory(&self.http, &self.directory).await?.renewal_info;
        *held = Some((now, url.clone()));
        Ok(url)
    }
}

fn failed(source: instant_acme::Error, retry_after: Option<SystemTime>) -> CaAdviceError {
    match http::unexpected_status(&source) {
        Some((_, status)) => CaAdviceError::Status { status, retry_after },
        None => CaAdviceError::Unreachable { source, retry_after },
    }
}

fn read(body: &[u8], retry_after: Option<SystemTime>) -> Result<CaAdvice, CaAdviceError> {
    let info: instant_acme::RenewalInfo = serde_json::from_slice(body)?;
    let (start, end) = (info.suggested_window.start, info.suggested_window.end);
    let explanation = info.explanation_url.map(|url| url.chars().take(LONGEST_EXPLANATION).collect());
    Ok(CaAdvice { window: RenewalWindow::new(start.into(), end.into()), explanation, retry_after })
}

const DIRECTORY_LIFE: Duration = Duration::from_hours(1);
/// Of the URL of an explanation, which is logged.
const LONGEST_EXPLANATION: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_read_as_the_rfc_has_it() {
        let body = r#"{"suggestedWindow":{"start":"2026-11-24T02:15:08Z","end":"2026-11-26T04:15:08+02:00"},"explanationURL":"https://ca.example/why"}"#;
        let expected = CaAdvice {
            window: RenewalWindow::new(at(1_795_486_508), at(1_795_659_308)),
            explanation: Some("https://ca.example/why".to_owned()),
            retry_after: Some(at(7)),
        };
        assert_eq!(read(body.as_bytes(), Some(at(7))).unwrap(), expected);
    }

    #[test]
    fn what_is_no_window_is_none() {
        for (start, end) in [
            ("2026-11-24T02:15:08Z", "2026-11-24T02:15:08Z"),
            ("2026-11-24T02:15:08Z", "2026-11-23T02:15:08Z"),
            ("0000-01-01T00:00:00Z", "0000-01-02T00:00:00Z"),
        ] {
            let body = format!(r#"{{"suggestedWindow":{{"start":"{start}","end":"{end}"}}}}"#);
            assert_eq!(read(body.as_bytes(), None).unwrap().window, None, "{start} {end}");
        }
        for body in [
            "",
            "{}",
            r#"{"suggestedWindow":[]}"#,
            r#"{"suggestedWindow":{"start":"soon","end":"later"}}"#,
            r#"{"suggestedWindow":{"start":"2026-11-24T02:15:08Z"}}"#,
        ] {
            assert!(matches!(read(body.as_bytes(), None), Err(CaAdviceError::Malformed(_))), "{body}");
        }
    }
}
