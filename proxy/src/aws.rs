//! HTTP calls to AWS: the SDK's client over the process's own TLS, with a limit on the size of answers for callers that ask for one.
//! Not here: what is requested (`store`, `ssm`, `ec2`), and with which credentials and region.
//! Invariant: of an answer with a limit, no more than the limit is read (`an_answer_beyond_the_bound_is_an_error`).

mod bounded;
mod json_call;

use std::time::Duration;

use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient};

pub(crate) use bounded::{bounded, read_bounded};
pub(crate) use json_call::{AwsFault, CallLimits, JsonCall, service_endpoint, shortened};
#[cfg(test)]
pub(crate) use json_call::{LONGEST_WORDS, endpoint_of};

/// rustls on aws-lc, as everywhere in the process.
pub(crate) fn over_the_network() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https()
}

/// For what speaks no TLS.
pub(crate) fn in_cleartext() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

/// For one call that no client of the SDK makes, with at most so long for its connection and its answer.
fn connector(connect: Duration, answer: Duration) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(connect).read_timeout(answer).build();
    Connector::builder()
        .connector_settings(settings)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build()
}
