//! Calls of AWS's JSON protocol 1.1, signed by hand, for services of which one or two calls are made: an SDK client of each would be a
//! hundred operations to compile.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_runtime_api::client::{
    http::HttpConnector as _,
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use http::{HeaderName, Request, header::CONTENT_TYPE};
use serde::Deserialize;

use super::{connector, read_bounded};
use crate::{clock, telemetry::BoxedError};

/// How long a call may take, and how much it may answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallLimits {
    pub(crate) connect: Duration,
    pub(crate) answer: Duration,
    pub(crate) most_bytes: usize,
}

/// What is called, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonCall<'a> {
    /// As signatures name it.
    pub(crate) service: &'static str,
    /// Version of the service and operation.
    pub(crate) target: &'static str,
    pub(crate) region: &'a str,
    pub(crate) endpoint: &'a str,
}

/// Why a service did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AwsFault {
    /// With the service's message.
    Denied(String),
    /// It may succeed soon; with its message.
    Again(String),
    /// Asking again would not help.
    Refused {
        /// As the API reference names it; none if it is no answer of the service.
        code: Option<String>,
        /// With its message.
        said: String,
    },
}

/// Some services write `message`, some `Message`, some compatible ones both.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type")]
    code: String,
    message: Option<String>,
    #[serde(rename = "Message")]
    capital: Option<String>,
}

impl JsonCall<'_> {
    /// The answer to `body`, whatever it says.
    pub(crate) async fn send(
        &self,
        body: String,
        credentials: &Credentials,
        limits: CallLimits,
    ) -> Result<HttpResponse, BoxedError> {
        let request = HttpRequest::try_from(self.signed(body, credentials, clock::wall())?)?;
        let answer = connector(limits.connect, limits.answer).call(request).await?;
        Ok(read_bounded(answer, limits.most_bytes).await?)
    }

    /// The request with `body`, signed (Signature Version 4) as of `at`.
    pub(crate) fn signed(
        &self,
        body: String,
        credentials: &Credentials,
        at: SystemTime,
    ) -> Result<Request<SdkBody>, BoxedError> {
        let fields = [(CONTENT_TYPE.as_str(), "application/x-amz-json-1.1"), ("x-amz-target", self.target)];
        let body_bytes = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", self.endpoint, fields.into_iter(), body_bytes)?;
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(at)
            .settings(SigningSettings::default())
            .build()?;
        let (instructions, _) = sign(signable, &parameters.into())?.into_parts();
        let mut request = Request::post(self.endpoint);
        for (name, value) in fields {
            request = request.header(HeaderName::from_static(name), value);
        }
        let mut request = request.body(SdkBody::from(body))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

impl AwsFault {
    /// Of status and body of an answer that is none. "Common Error Types" of the API references.
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        if status >= 500 {
            return Self::Again(format!("status {status}"));
        }
        let Ok(ErrorBody { code, message, capital }) = serde_json::from_slice(body) else {
            let said = format!("status {status}");
            // RFC 9110 §15.5.2 and §15.5.4; who says so may be on the way there.
            let is_denial = matches!(status, 401 | 403);
            return if is_denial { Self::Denied(said) } else { Self::Refused { code: None, said } };
        };
        let code = code.rsplit('#').next().unwrap_or(&code);
        let message = message.or(capital).unwrap_or_default();
        let said = shortened(&format!("{code}: {message}"));
        match code {
            "AccessDeniedException" | "AccessDenied" => Self::Denied(said),
            "ThrottlingException"
            | "Throttling"
            | "InternalServerError"
            | "ServiceUnavailable"
            | "DependencyTimeoutException"
            | "KMSInternalException" => Self::Again(said),
            _ => Self::Refused { code: Some(code.to_owned()), said },
        }
    }
}

/// Where `service` is called: at the endpoint that the environment or the AWS profile sets, else at that of the region.
pub(crate) fn service_endpoint(service: &str, sdk: &SdkConfig, region: &str) -> String {
    let own = std::env::var(format!("AWS_ENDPOINT_URL_{}", service.to_uppercase())).ok();
    let own = own.as_deref().filter(|url| !url.is_empty());
    endpoint_of(service, own.or(sdk.endpoint_url()), region)
}

/// The one that was `set`, or that of `service` in the region ("Service endpoints and quotas").
pub(crate) fn endpoint_of(service: &str, set: Option<&str>, region: &str) -> String {
    match set {
        Some(url) => format!("{}/", url.trim_end_matches('/')),
        None if region.starts_with("cn-") => format!("https://{service}.{region}.amazonaws.com.cn/"),
        None => format!("https://{service}.{region}.amazonaws.com/"),
    }
}

/// What is told of an answer, without control characters: serde quotes it in full where it is of another shape.
pub(crate) fn shortened(said: &str) -> String {
    said.chars().filter(|char| !char.is_control()).take(LONGEST_WORDS).collect()
}

/// Of what a service says in an error.
pub(crate) const LONGEST_WORDS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_set_goes_first() {
        for (set, region, wanted) in [
            (None, "eu-south-2", "https://ssm.eu-south-2.amazonaws.com/"),
            (None, "cn-north-1", "https://ssm.cn-north-1.amazonaws.com.cn/"),
            (Some("http://127.0.0.1:5000"), "eu-south-2", "http://127.0.0.1:5000/"),
            (Some("http://127.0.0.1:5000/"), "eu-south-2", "http://127.0.0.1:5000/"),
        ] {
            assert_eq!(endpoint_of("ssm", set, region), wanted);
        }
    }
}
