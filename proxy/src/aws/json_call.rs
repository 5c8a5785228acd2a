//! Calls of AWS's JSON protocol 1.1, signed by hand, for services of which one or two calls are made: an SDK client of each would be a
//! hundred operations to compile.

use aws_call::{BoxedError, Call, CallLimits, endpoint_of};
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

/// Where `service` is called: at the endpoint that the environment or the AWS profile sets, else at that of the region.
pub(crate) fn service_endpoint(service: &str, sdk: &SdkConfig, region: &str) -> String {
    endpoint_of(service, set_endpoint(&service.to_uppercase(), sdk).as_deref(), region)
}

/// The endpoint that the environment or the AWS profile sets for the service that variables name so ("Service-specific endpoints").
pub(crate) fn set_endpoint(variable: &str, sdk: &SdkConfig) -> Option<String> {
    let own = std::env::var(format!("AWS_ENDPOINT_URL_{variable}")).ok().filter(|url| !url.is_empty());
    own.or_else(|| sdk.endpoint_url().map(ToOwned::to_owned))
}

const CONTENT_TYPE: &str = "content-type";
