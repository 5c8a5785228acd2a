//! Whether an answer is `DynamoDB`'s: any web server answers a POST, and the SDK takes `200` with a body it does not understand for
//! an empty answer, so that a write "succeeds" and is lost.
//! Not here: what a genuine answer says.
//! Invariants: an answer of anything else is an error, for reads and writes alike (`a_web_server_is_told_from_dynamodb`); what says
//! that nothing can be answered now (5xx) is no proof of either (`an_outage_is_not_taken_for_another_server`).

use std::error::Error;

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};

use crate::aws::read_bounded;

/// An answer that no `DynamoDB` gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{endpoint}` answers HTTP {status} {fault}")]
pub struct NotDynamoDb {
    /// Scheme, host and port of whom was asked.
    pub endpoint: String,
    /// What it answered.
    pub status: u16,
    /// How it is recognised.
    pub fault: Evidence,
}

/// How another server is recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Evidence {
    /// Neither the type of an AWS answer nor the number of its request.
    #[error("as `{}`, without the type `application/x-amz-json-1.0` and without `x-amzn-RequestId`", .0.as_deref().unwrap_or("-"))]
    Origin(Option<String>),
    /// Its body is not what the API's answers are.
    #[error("with a body that is not a JSON object")]
    Body,
    /// A refusal without its `__type`.
    #[error("with an error that has no `__type`")]
    Error,
    /// A description of no table.
    #[error("and describes no table when it is asked for one")]
    Description,
}

impl NotDynamoDb {
    /// The one among the causes of `error`.
    pub(super) fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
    }
}

/// `client`, whose answers are errors where they are not `DynamoDB`'s.
pub(super) fn genuine(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Genuine(client))
}

#[derive(Debug)]
struct Genuine<T>(T);

impl HttpClient for Genuine<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Genuine(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for Genuine<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let endpoint = endpoint_of(request.uri());
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let answer = read_bounded(answer.await?, LONGEST_ANSWER).await?;
            match fault_of(&answer) {
                None => Ok(answer),
                Some(fault) => {
                    let status = answer.status().as_u16();
                    Err(ConnectorError::other(NotDynamoDb { endpoint, status, fault }.into(), None))
                }
            }
        })
    }
}

fn endpoint_of(uri: &str) -> String {
    let uri: http::Uri = uri.parse().unwrap_or_default();
    let (scheme, authority) = (uri.scheme_str(), uri.authority().map(http::uri::Authority::as_str));
    format!("{}://{}", scheme.unwrap_or_default(), authority.unwrap_or_default())
}

/// "DynamoDB low-level API" of the developer guide: an answer is `application/x-amz-json-1.0` and has `x-amzn-RequestId`, a refusal
/// names its `__type`. Engines that speak the same API have at least one of them.
fn fault_of(answer: &HttpResponse) -> Option<Evidence> {
    let (status, headers) = (answer.status().as_u16(), answer.headers());
    if status >= 500 {
        return None;
    }
    let kind = headers.get("content-type");
    let is_of_aws = kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/x-amz-json"));
    let body = answer.body().bytes().unwrap_or_default().trim_ascii();
    let is_refusal = (300..500).contains(&status);
    let names_type = is_refusal && body.windows(TYPE.len()).any(|window| window == TYPE);
    if !is_of_aws && !names_type && headers.get("x-amzn-requestid").is_none() {
        return Some(Evidence::Origin(kind.map(|kind| kind.chars().take(LONGEST_KIND).collect())));
    }
    if !(body.starts_with(b"{") && body.ends_with(b"}")) {
        return Some(Evidence::Body);
    }
    (is_refusal && !names_type).then_some(Evidence::Error)
}

const TYPE: &[u8] = b"\"__type\"";
/// Twice what a `BatchGetItem` answers at most (16 MB).
const LONGEST_ANSWER: usize = 32 << 20;
const LONGEST_KIND: usize = 64;

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> HttpResponse {
        let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        for (name, value) in headers {
            answer.headers_mut().insert(*name, *value);
        }
        answer
    }

    const AWS: (&str, &str) = ("content-type", "application/x-amz-json-1.0");

    #[test]
    fn a_web_server_is_told_from_dynamodb() {
        let html = ("content-type", "text/html");
        let origin = |kind: Option<&str>| Some(Evidence::Origin(kind.map(str::to_owned)));
        for (status, headers, body, fault) in [
            (200, &[AWS][..], "{}", None),
            (200, &[("content-type", "application/json"), ("x-amzn-requestid", "A")], " {} ", None),
            (400, &[AWS], r#"{"__type":"x#ValidationException"}"#, None),
            (400, &[], r#"{"__type":"x#AccessDeniedException"}"#, None),
            (200, &[html], "<html>", origin(Some("text/html"))),
            (200, &[], "", origin(None)),
            (200, &[("content-type", "application/json")], "{}", origin(Some("application/json"))),
            (404, &[html], "not found", origin(Some("text/html"))),
            (301, &[], "", origin(None)),
            (200, &[AWS], "", Some(Evidence::Body)),
            (200, &[AWS], "[]", Some(Evidence::Body)),
            (403, &[AWS], r#"{"message":"no"}"#, Some(Evidence::Error)),
        ] {
            assert_eq!(fault_of(&answer(status, headers, body)), fault, "{status} {headers:?} {body}");
        }
    }

    #[test]
    fn an_outage_is_not_taken_for_another_server() {
        for status in [500, 502, 503, 504] {
            assert_eq!(fault_of(&answer(status, &[("content-type", "text/html")], "<html>")), None);
        }
    }

    #[test]
    fn the_endpoint_is_named_without_what_stands_behind_it() {
        for (uri, named) in [
            ("https://dynamodb.eu-central-1.amazonaws.com/", "https://dynamodb.eu-central-1.amazonaws.com"),
            ("http://127.0.0.1:8000/a?b=c", "http://127.0.0.1:8000"),
        ] {
            assert_eq!(endpoint_of(uri), named);
        }
    }
}
