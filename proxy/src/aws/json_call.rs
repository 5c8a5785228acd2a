//! Calls of AWS's JSON protocol 1.1, signed by hand, for services of which one or two calls are made: an SDK client of each would be a
//! hundred operations to compile.

use aws_call::{BoxedError, Call, CallLimits, JsonFault, endpoint_of, shortened};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::Credentials;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
#[cfg(test)]
use {aws_smithy_types::body::SdkBody, http::Request, std::time::SystemTime};

use crate::clock;

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

impl JsonCall<'_> {
    /// The answer to `body`, whatever it says.
    pub(crate) async fn send(
        &self,
        body: String,
        credentials: &Credentials,
        limits: CallLimits,
    ) -> Result<HttpResponse, BoxedError> {
        self.call(&self.fields()).send(body, credentials, clock::wall(), limits).await
    }

    /// The request with `body`, signed as of `at`.
    #[cfg(test)]
    pub(crate) fn signed(
        &self,
        body: String,
        credentials: &Credentials,
        at: SystemTime,
    ) -> Result<Request<SdkBody>, BoxedError> {
        self.call(&self.fields()).signed(body, credentials, at)
    }

    fn fields(&self) -> [(&'static str, &'static str); 2] {
        [(CONTENT_TYPE, "application/x-amz-json-1.1"), ("x-amz-target", self.target)]
    }

    fn call<'a>(&'a self, fields: &'a [(&'static str, &'static str)]) -> Call<'a> {
        let Self { service, region, endpoint, .. } = *self;
        Call { service, region, endpoint, fields }
    }
}

impl AwsFault {
    /// Of status and body of an answer that is none. "Common Error Types" of the API references.
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        if status >= 500 {
            return Self::Again(format!("status {status}"));
        }
        let Some(JsonFault { code, message }) = JsonFault::read(body) else {
            let said = format!("status {status}");
            // RFC 9110 §15.5.2 and §15.5.4; who says so may be on the way there.
            let is_denial = matches!(status, 401 | 403);
            return if is_denial { Self::Denied(said) } else { Self::Refused { code: None, said } };
        };
        let said = shortened(&format!("{code}: {message}"));
        match code.as_str() {
            "AccessDeniedException" | "AccessDenied" => Self::Denied(said),
            "ThrottlingException"
            | "Throttling"
            | "InternalServerError"
            | "ServiceUnavailable"
            | "DependencyTimeoutException"
            | "KMSInternalException" => Self::Again(said),
            _ => Self::Refused { code: Some(code), said },
        }
    }
}

/// Where `service` is called: at the endpoint that the environment or the AWS profile sets, else at that of the region.
pub(crate) fn service_endpoint(service: &str, sdk: &SdkConfig, region: &str) -> String {
    let own = std::env::var(format!("AWS_ENDPOINT_URL_{}", service.to_uppercase())).ok();
    let own = own.as_deref().filter(|url| !url.is_empty());
    endpoint_of(service, own.or(sdk.endpoint_url()), region)
}

const CONTENT_TYPE: &str = "content-type";
