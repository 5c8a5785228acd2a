//! Answers with a size limit: the SDK itself reads as much as it is sent.

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};

/// `client`, whose answers are errors beyond `most_bytes`.
#[must_use]
pub fn bounded(client: SharedHttpClient, most_bytes: usize) -> SharedHttpClient {
    SharedHttpClient::new(Bounded { inner: client, most_bytes })
}

#[derive(Debug)]
struct Bounded<T> {
    inner: T,
    most_bytes: usize,
}

impl HttpClient for Bounded<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Bounded { inner, most_bytes: self.most_bytes })
    }
}

impl HttpConnector for Bounded<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (answer, most_bytes) = (self.inner.call(request), self.most_bytes);
        HttpConnectorFuture::new(async move { read_bounded(answer.await?, most_bytes).await })
    }
}

/// `answer` with its whole body, unless that has more than `most_bytes`.
pub async fn read_bounded(
    mut answer: HttpResponse,
    most_bytes: usize,
) -> Result<HttpResponse, ConnectorError> {
    let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
    let read = Limited::new(body, most_bytes).collect().await;
    // The service's doing, and no reason to ask again.
    let read = read.map_err(|error| ConnectorError::other(error, None))?;
    *answer.body_mut() = SdkBody::from(read.to_bytes());
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn an_answer_beyond_the_bound_is_an_error() {
        for (bytes, fits) in [(0, true), (16, true), (17, false)] {
            let answer =
                HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::from(vec![b'a'; bytes]));
            let read = read_bounded(answer, 16).await;
            assert_eq!(read.is_ok(), fits, "{bytes}");
            if let Ok(answer) = read {
                assert_eq!(answer.body().bytes().map(<[u8]>::len), Some(bytes));
            }
        }
    }
}
